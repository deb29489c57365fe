"""Every kind of file beside the network that it comes from."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError, WeightsError
from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.tflite import flatbuffer, operators, package, parity
from detect.tflite.convert import convert, representative
from detect.tflite.runner import Runner
from tests.closeness import assert_same_outputs


@pytest.fixture(scope="module")
def wanted(tiny, frames):
    return [package.heads(tiny.model, frame) for frame in frames]


def compared(file, wanted, frames, quantize):
    runner = Runner(file.body)
    scales = {head: runner.scale(head) for head in parity.HEADS}
    return parity.parity(wanted, [runner(frame) for frame in frames], scales, quantize)


@pytest.mark.parametrize("name, quantize", [("float32", "none"), ("float16", "float16")])
def test_float_files_are_within_their_limits(files, wanted, frames, name, quantize):
    report = compared(files[name], wanted, frames, quantize)
    assert report["within"] and report["limit"] == parity.LIMITS[quantize].to_dict()
    assert report["codes"]["largest"] > 0 or quantize == "none"
    assert "quanta" not in report["codes"]


def test_int8_heads_are_within_a_few_steps(files, wanted, frames):
    report = compared(files["int8"], wanted, frames, "ptq")
    for head in parity.HEADS:
        assert report[head]["sqnr_db"] > 25
        assert sum(report[head]["quanta"]) == sum(w[head].size for w in wanted)
        assert parity.share_within(report[head]["quanta"], 3) > 0.95


def test_a_fake_quantised_file_is_its_evaluation_graph(qat, twin, frames):
    """Each value within a step of it, and nearly all the same."""
    report = compared(qat, [package.heads(twin, frame) for frame in frames], frames, "qat")
    assert report["within"] and report["limit"] == {"near": 0.99, "most": 3}
    for head in parity.HEADS:
        assert parity.share_within(report[head]["quanta"], 0) > 0.9 and not any(report[head]["quanta"][4:])
    counts = operators.census(flatbuffer.read(qat.content))
    assert {kind for kinds in counts.values() for kind in kinds} == {"int8", "uint8"}
    assert Runner(qat.content).input_type == np.uint8


def test_what_can_not_be_converted_as_fake_quantised(tiny):
    with pytest.raises(ConfigError, match="tiny is not fake-quantised: it has no evaluation graph"):
        convert(tiny.model, "qat")
    twin = fake_quant(tiny.model, Spec())
    with pytest.raises(ConfigError, match=r"fake_quant: the range has seen no data: train the model, calibrate it"):
        convert(twin, "qat")
    for layer in (layer for layer in twin.layers if isinstance(layer, FakeQuant)):
        layer.range_seen.assign(np.ones_like(layer.range_seen))
    layer.range_max.assign(np.nan)
    with pytest.raises(ConfigError, match=r"the range is \[0.0, nan\].*training diverged"):
        convert(twin, "qat")
    twin = fake_quant(tiny.model, Spec(activation_bits=4))
    calibrate(twin, [np.zeros((1, *tiny.size, 3), np.float32)])
    with pytest.raises(ConfigError, match=r"activation_bits=4: a TFLite file holds 8"):
        convert(twin, "qat")
    with pytest.raises(ConfigError, match="is at step 0 of a delay of 5"):
        convert(fake_quant(tiny.model, Spec(delay=5)), "qat")


@pytest.mark.parametrize("quantize", ["none", "ptq", "qat"])
def test_any_number_of_images(tiny, twin, settings, frames, quantize):
    options = package.Options(quantize, batch=None)
    file = package.build(twin if quantize == "qat" else tiny.model, settings, options, frames)
    runner = Runner(file.content)
    assert runner.interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 32, 48, 3]
    together, alone = runner(np.stack(frames[:2])), [runner(frame) for frame in frames[:2]]
    for head in parity.HEADS:
        assert together[head].shape[0] == 2
        assert_same_outputs(together[head], np.concatenate([one[head] for one in alone]))


def test_a_file_of_one_image_takes_no_two(files, frames):
    with pytest.raises(WeightsError, match=r"takes 1 images .* 3: .*nms=none and batch=null"):
        Runner(files["float32"].content)(np.stack(frames))


def test_a_network_of_one_unnamed_output_and_one_of_other_names(frames):
    image = tf_keras.Input((32, 48, 3), name="photo")
    x = tf_keras.layers.Conv2D(4, 3, name="conv")(image)
    pooled = tf_keras.layers.GlobalAveragePooling2D(name="pool")(x)
    wanted = tf_keras.Model(image, pooled)(frames[0][np.newaxis].astype(np.float32)).numpy()
    for outputs, names in ((pooled, {"output"}), ({"a": x, "b": pooled}, {"a", "b"})):
        model = tf_keras.Model(image, outputs)
        found = Runner(flatbuffer.write(convert(model, takes="float32")))(frames[0])
        assert set(found) == names
        assert_same_outputs(found[max(names)], wanted)
    with pytest.raises(ConfigError, match="takes 2 inputs and gives a KerasTensor; a file is made of a network that"):
        convert(tf_keras.Model([image, tf_keras.Input((4,))], pooled))
    with pytest.raises(ConfigError, match="takes 1 inputs and gives a list"):
        convert(tf_keras.Model(image, [x, pooled]))


def test_the_frames_pixels_are_the_input_as_they_are(files):
    pixels, shifted = Runner(files["int8"].content), Runner(files["int8_per_tensor"].content)
    assert pixels.input_type == np.uint8 and shifted.input_type == np.int8
    details = [runner.interpreter.get_input_details()[0]["quantization"] for runner in (pixels, shifted)]
    assert details == [(1.0, 0), (1.0, -128)]
    for name in ("float32", "float16", "dynamic"):
        assert Runner(files[name].content).input_type == np.uint8


def test_sizes(files):
    sizes = {name: operators.constants(flatbuffer.read(file.content)) for name, file in files.items()}
    kernels = 3 * 3 * 16 * 64  # of the one large convolution
    assert sizes["float32"]["float32"] > 4 * kernels
    assert sizes["float16"]["float16"] > 2 * kernels and sizes["float16"]["float32"] < 2048  # biases, depthwise
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
    wanted = [package.heads(model, frame) for frame in frames]
    for weights in ("per_channel", "per_tensor"):
        file = package.build(model, settings, package.Options("dynamic", weights), frames)
        noise[weights] = compared(file, wanted, frames, "dynamic")["codes"]["sqnr_db"]
    assert noise["per_channel"] > 25 and noise["per_tensor"] < 10


def test_options_that_do_not_go_together(tiny):
    with pytest.raises(ConfigError, match=r"input=int8 heads=float32 .*quantize=ptq or qat"):
        convert(tiny.model, "none", takes="int8")
    with pytest.raises(ConfigError, match="heads=int8: quantize=ptq nms=in_graph has float32 heads"):
        package.Options("ptq", nms="in_graph", gives="int8")
    with pytest.raises(ConfigError, match="weights=per_tensor is for quantize=dynamic and ptq"):
        package.Options("float16", "per_tensor")
    with pytest.raises(ConfigError, match="this is quantize=qat; the kernels of a qat file have the scales"):
        package.Options("qat", "per_tensor")
    for batch, nms in ((None, "in_graph"), (4, "none")):
        with pytest.raises(ConfigError, match=r"batch=(null|4) nms=.*: legal are 1, and null"):
            package.Options(nms=nms, batch=batch)
    assert package.Options("ptq").gives == "int8" and package.Options("ptq", nms="in_graph").gives == "float32"


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
