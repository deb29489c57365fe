"""Every kind of file beside the network that it comes from."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError
from detect.tflite import census, checks, flatbuffer, ship
from detect.tflite.convert import convert, representative
from detect.tflite.runner import Runner


@pytest.fixture(scope="module")
def wanted(tiny, frames):
    return [ship.heads(tiny.model, frame) for frame in frames]


def compared(file, wanted, frames, quantize):
    runner = Runner(file.body)
    scales = {head: runner.scale(head) for head in checks.HEADS}
    return checks.parity(wanted, [runner(frame) for frame in frames], scales, quantize)


@pytest.mark.parametrize("name, quantize", [("float32", "none"), ("float16", "float16")])
def test_float_files_are_within_their_limits(files, wanted, frames, name, quantize):
    report = compared(files[name], wanted, frames, quantize)
    assert report["within"] and report["limit"] == {"none": 1e-4, "float16": 1e-2}[quantize]
    assert report["codes"]["largest"] > 0 or quantize == "none"
    assert "quanta" not in report["codes"]


def test_int8_heads_are_within_a_few_steps(files, wanted, frames):
    report = compared(files["int8"], wanted, frames, "ptq")
    for head in checks.HEADS:
        assert report[head]["sqnr_db"] > 25
        assert sum(report[head]["quanta"]) == sum(w[head].size for w in wanted)
        assert checks.share_within(report[head]["quanta"], 3) > 0.95


def test_the_frames_pixels_are_the_input_as_they_are(files):
    pixels, shifted = Runner(files["int8"].content), Runner(files["int8_per_tensor"].content)
    assert pixels.input_type == np.uint8 and shifted.input_type == np.int8
    details = [runner.interpreter.get_input_details()[0]["quantization"] for runner in (pixels, shifted)]
    assert details == [(1.0, 0), (1.0, -128)]
    for name in ("float32", "float16", "dynamic"):
        assert Runner(files[name].content).input_type == np.uint8


def test_sizes(files):
    sizes = {name: census.constants(flatbuffer.read(file.content)) for name, file in files.items()}
    kernels = 3 * 3 * 16 * 64  # of the one large convolution
    assert sizes["float32"]["float32"] > 4 * kernels
    assert sizes["float16"]["float16"] > 2 * kernels and "float32" not in sizes["float16"]
    for name in ("dynamic", "weights", "int8", "int8_per_tensor"):
        assert sizes[name]["int8"] >= kernels and sizes[name].get("float32", 0) < kernels


def test_one_loud_channel_ruins_a_kernel_of_one_scale(tiny, settings, frames):
    """The collapse of folded MobileNets in small: a channel a thousand times as large takes all the levels."""
    model = tf_keras.models.clone_model(tiny.model)
    model.set_weights(tiny.model.get_weights())
    kernel = model.get_layer("third").get_weights()
    kernel[0][..., 0] *= 1000.0
    model.get_layer("third").set_weights(kernel)
    for layer in ("boxes", "classes"):  # and nobody listens to that channel
        weights = model.get_layer(layer).get_weights()
        weights[0][..., 0, :] = 0.0
        model.get_layer(layer).set_weights(weights)
    noise = {}
    wanted = [ship.heads(model, frame) for frame in frames]
    for weights in ("per_channel", "per_tensor"):
        file = ship.build(model, settings, ship.Options("dynamic", weights), frames)
        noise[weights] = compared(file, wanted, frames, "dynamic")["codes"]["sqnr_db"]
    assert noise["per_channel"] > 25 and noise["per_tensor"] < 10


def test_options_that_do_not_go_together(tiny, frames):
    with pytest.raises(ConfigError, match="input=int8 heads=float32 are of int8 files"):
        convert(tiny.model, "none", takes="int8")
    with pytest.raises(ConfigError, match="heads=int8: quantize=ptq nms=in_graph has float32 heads"):
        ship.Options("ptq", nms="in_graph", gives="int8")
    with pytest.raises(ConfigError, match="weights=per_tensor is for quantize=dynamic and ptq"):
        ship.Options("float16", "per_tensor")
    assert ship.Options("ptq").gives == "int8" and ship.Options("ptq", nms="in_graph").gives == "float32"


def test_an_empty_representative_set_is_refused(tiny):
    with pytest.raises(DataError, match="the representative set is empty"):
        convert(tiny.model, "ptq", frames=[])


def test_the_representative_set_spans_all_levels():
    grey = np.full((4, 4, 3), 100, np.uint8)
    first, second = (image[0][0] for image in representative([grey, grey])())
    assert first.min() == 0 and first.max() == 255 and (first == 100).all(-1).sum() == 14
    assert (second == 100).all() and grey.min() == 100


def test_a_network_beyond_tflites_operations_is_refused():
    image = tf_keras.Input((8, 8, 3), name="image")
    values = tf_keras.layers.Lambda(lambda x: tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 0.5]], [0], [8, 8]))(image)
    codes = tf_keras.layers.Reshape((-1, 4))(tf_keras.layers.Conv2D(4, 1)(values))
    model = tf_keras.Model(image, {"codes": codes, "logits": codes})
    with pytest.raises(ConfigError, match=r"converter refuses this network: .*CropAndResize"):
        convert(model)
