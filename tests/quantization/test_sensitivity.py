"""What rounding does to each layer, beside a network in which only that layer is rounded, and cases by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError
from detect.evaluation.sqnr import decibels
from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import calibrate
from detect.quantization.noise import Copies
from detect.quantization.phases import COLLECT, NORMAL, SHIP, stepped
from detect.quantization.rewrite import fake_quant
from detect.quantization.sensitivity import culprits, layer_damage
from detect.quantization.spec import Spec

layers = tf_keras.layers
PER_TENSOR = Spec(per_channel=False, ranges="calibrated")


def calibrated(model, frames, spec):
    twin = fake_quant(model, spec)
    calibrate(twin, [frame[np.newaxis] for frame in frames])
    return twin


def sqnr(model, twin, frames) -> list[float]:
    """Of each output of the twin as it is set to run."""
    pairs = zip(*(tf.nest.flatten(network(frames, training=False)) for network in (model, twin)), strict=True)
    return [decibels(float(tf.reduce_sum(x**2)), float(tf.reduce_sum((y - x) ** 2))) for x, y in pairs]


def alone(model, twin, frames, name: str) -> list[float]:
    """SQNR of each output when `name` and what rounds its output run rounded, and all else in float."""
    node = twin.get_layer(name).outbound_nodes[0]
    while not isinstance(node.layer, FakeQuant):
        node = node.layer.outbound_nodes[0]
    rounded = [*stepped(twin.get_layer(name)), node.layer]
    for layer in stepped(twin):
        layer.run = SHIP if layer in rounded else COLLECT
        layer._collect = lambda x, member: None  # ranges stay: the step of a layer's input decides about its bias
    result = sqnr(model, twin, frames)
    for layer in stepped(twin):
        layer.run = NORMAL
    return result


@pytest.fixture(scope="module")
def uneven():
    """A depthwise layer of folded kernel 1, 2, 3 and 31.6, the last in a channel that is dead; then a convolution."""
    image = tf_keras.Input((2, 2, 4))
    x = layers.DepthwiseConv2D(1, use_bias=False, name="depthwise")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(epsilon=1e-3, scale=False, name="norm")(x))
    model = tf_keras.Model(image, layers.Conv2D(2, 1, name="conv")(x), name="uneven")
    model.get_layer("depthwise").set_weights([np.reshape([1.0, 2, 3, 1], (1, 1, 4, 1))])
    model.get_layer("norm").set_weights([np.zeros(4), np.zeros(4), np.array([0.999, 0.999, 0.999, 1e-35])])
    model.get_layer("conv").set_weights([np.reshape([1.0, -1, 1, 1, -1, 1, 2, 0], (1, 1, 4, 2)), np.zeros(2)])
    return model


@pytest.fixture(scope="module")
def flat_frames():
    """float32 [6, 2, 2, 4], 0 in the channel that is dead."""
    frames = np.random.default_rng(0).uniform(-1, 1, (6, 2, 2, 4)).astype(np.float32)
    frames[..., 3] = 0
    return frames


@pytest.fixture(scope="module")
def rows(uneven, flat_frames):
    return {row.name: row for row in layer_damage(uneven, flat_frames, PER_TENSOR)}


def test_figures_of_a_kernel_by_hand(rows, flat_frames):
    row, dead = rows["depthwise"], 1 / np.sqrt(1e-3)
    assert (row.kind, row.place, rows["conv"].kind, rows["conv"].place) == ("depthwise", 0, "conv", 1)
    assert (row.kernel_low, row.kernel_high) == pytest.approx((1, dead))
    assert row.imbalance == pytest.approx(dead / 2.5)  # the median of 1, 2, 3 and 31.6
    assert (row.worst_channels, row.dead_channels, row.dead_share) == ((3,), (3,), 0.25)
    assert row.channel_ranges == pytest.approx([1, 2, 3, dead])
    kernel, step = np.array([1, 2, 3, dead]), dead / 127
    noise = kernel - np.rint(kernel / step) * step
    assert row.kernel_sqnr_db == pytest.approx(decibels(np.sum(kernel**2), np.sum(noise**2)), abs=0.01)
    output = np.maximum(flat_frames * kernel, 0)
    assert (row.output_low, row.output_high) == pytest.approx((0, output.max()))
    assert (rows["conv"].kernel_low, rows["conv"].kernel_high, rows["conv"].dead_share) == (-1, 2, 0)


def test_noise_of_a_layer_by_hand(rows, uneven, flat_frames):
    row, dead = rows["depthwise"], 1 / np.sqrt(1e-3)
    kernel = np.array([1, 2, 3, dead])
    wanted = np.maximum(flat_frames * kernel, 0)
    rounded = np.maximum(flat_frames * np.rint(kernel * 127 / dead) * dead / 127, 0)
    step = wanted.max() / 255
    found = np.minimum(np.rint(rounded / step), 255) * step
    assert row.layer_sqnr_db == pytest.approx(decibels(np.sum(wanted**2), np.sum((found - wanted) ** 2)), abs=0.05)
    last = uneven.get_layer("conv").get_weights()[0].reshape(4, 2)
    signal, noise = np.square(wanted @ last).sum(), np.square((found - wanted) @ last).sum()
    assert row.sqnr_db == pytest.approx(decibels(signal, noise), abs=0.05)


def test_the_layer_whose_range_a_dead_channel_sets_is_named(uneven, flat_frames):
    model = tf_keras.models.clone_model(uneven)
    model.set_weights(uneven.get_weights())
    kernel = model.get_layer("depthwise").depthwise_kernel
    kernel.assign(kernel * np.reshape([1, 1, 1, 10.0], (1, 1, 4, 1)))  # 316: a step is 2.5, so that 1 is lost
    guilty = culprits(layer_damage(model, flat_frames, PER_TENSOR))
    assert [row.name for row in guilty] == ["depthwise"]
    assert guilty[0].kernel_sqnr_db > 40  # the dead channel is all of the kernel's energy
    assert culprits(layer_damage(model, flat_frames, Spec(ranges="calibrated"))) == []


@pytest.mark.slow
def test_it_equals_networks_in_which_only_that_layer_is_rounded(convnet, images):
    frames = images.numpy()[:3]
    before = [weight.copy() for weight in convnet.get_weights()]
    rows = {row.name: row for row in layer_damage(convnet, frames, PER_TENSOR)}
    kinds = {"conv": "conv", "depthwise": "depthwise", "separable": "separable", "hidden": "dense", "alone": "norm"}
    assert {name: row.kind for name, row in rows.items()}.items() >= kinds.items()
    assert [row.sqnr_db for row in rows.values()] == sorted(row.sqnr_db for row in rows.values())
    assert sorted(row.place for row in rows.values()) == list(range(8))
    assert all((a == b).all() for a, b in zip(before, convnet.get_weights(), strict=True))
    twin = calibrated(convnet, frames, PER_TENSOR)
    for name in ("conv", "alone", "shortcut", "hidden", "classes"):  # what rounds the others is shared
        assert rows[name].sqnr_db == pytest.approx(min(alone(convnet, twin, frames, name)), abs=0.02)
    _, hidden = sqnr(convnet, twin, frames)  # all rounded; outputs in the order of their names
    assert rows["hidden"].network_sqnr_db == pytest.approx(hidden, abs=0.02)


def test_a_layer_that_is_called_twice_is_one_row_and_rounded_in_both():
    image = tf_keras.Input((4, 4, 2))
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    first = shared(image)
    model = tf_keras.Model(image, layers.Add(name="add")([shared(layers.ReLU()(first)), first]), name="twice")
    frames = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    spec = Spec(weight_bits=4, ranges="calibrated")
    (row,) = layer_damage(model, frames, spec)
    twin = calibrated(model, frames, spec)
    for layer in stepped(twin):  # the image and the sum stay float
        layer.run = SHIP if layer.name.startswith("shared") else COLLECT
    assert row.sqnr_db == pytest.approx(sqnr(model, twin, frames)[0], abs=0.02)


def test_a_model_of_two_inputs_with_batches_of_their_own():
    image, crops = tf_keras.Input((4, 4, 2), name="image"), tf_keras.Input((3, 3, 3), name="crops")
    second = layers.SeparableConv2D(2, 3, name="second")(crops)
    outputs = {"map": layers.Conv2D(3, 1, name="first")(image), "codes": second}
    model = tf_keras.Model([image, crops], outputs, name="two")
    random = np.random.default_rng(0)
    batch = [random.normal(size=shape).astype(np.float32) for shape in ((1, 4, 4, 2), (5, 3, 3, 3))]
    rows = {row.name: row for row in layer_damage(model, [batch], PER_TENSOR)}
    twin = fake_quant(model, PER_TENSOR)
    calibrate(twin, [batch])
    assert rows.keys() == {"first", "second"}
    for name, row in rows.items():  # each makes one of the two outputs; the other one has no noise
        assert row.sqnr_db == pytest.approx(min(alone(model, twin, batch, name)), abs=0.02)
        assert max(alone(model, twin, batch, name)) > 100


def test_copies_are_made_where_networks_differ():
    copies = Copies(tf.constant([[1.0], [2], [3], [4]]), ("a",))  # a batch of two, float and with a rounded
    assert copies.of(["b", "a"]).numpy().ravel().tolist() == [1, 2, 1, 2, 3, 4]
    assert copies.of(["b"], with_float=False).numpy().ravel().tolist() == [1, 2]
    after = copies.rounded("b", lambda x: 2 * x, lambda x: -x)
    assert after.layers == ("a", "b")
    assert after.value.numpy().ravel().tolist() == [2, 4, 6, 8, -1, -2]
    again = after.rounded("a", lambda x: x, lambda x: 10 * x)  # its own copy goes on
    assert again.layers == ("b", "a")
    assert again.value.numpy().ravel().tolist() == [2, 4, -1, -2, 60, 80]


def test_bad_input_is_named(uneven, flat_frames):
    with pytest.raises(DataError, match="uneven: there are no frames"):
        layer_damage(uneven, np.zeros((0, 2, 2, 4)), PER_TENSOR)
    with pytest.raises(DataError, match=r"uneven takes batches of .*\(None, 2, 2, 4\); a frame .*\(1, 2, 2, 3\)"):
        layer_damage(uneven, flat_frames[..., :3], PER_TENSOR)
    with pytest.raises(ConfigError, match="uneven is a model within outer"):
        image = tf_keras.Input((2, 2, 4))
        layer_damage(tf_keras.Model(image, uneven(image), name="outer"), flat_frames, PER_TENSOR)
    broken = np.where(np.arange(6)[:, None, None, None] == 2, np.nan, flat_frames)
    with pytest.raises(ConfigError, match="not finite"):
        layer_damage(uneven, broken, PER_TENSOR)
