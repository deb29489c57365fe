"""Dead channels and equalisation: the float function stays, the ranges of kernels even out."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.evaluation.sqnr import sqnr
from detect.quantization.equalise import CappedReLU, clone, dead_channels, equalise, remove_dead_channels
from detect.quantization.layer_pairs import pairs
from detect.tflite import flatbuffer, operators
from detect.tflite.convert import convert
from detect.tflite.runner import Runner
from scripts.mobilenet_collapse_variants import relu6_as_relu
from tests.closeness import assert_same_outputs

layers = tf_keras.layers


def chain() -> tf_keras.Model:
    """A chain of every kind of pair: batch norm with gamma, without it and none; ReLU6, ReLU and nothing between."""
    x = image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="scaling")(image)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.ReLU(6.0, name="first/relu6")(layers.BatchNormalization(name="first/norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.Activation("relu", name="relu")(layers.BatchNormalization(scale=False, name="depthwise/norm")(x))
    x = layers.Conv2D(12, 1, activation="relu", name="pointwise")(layers.MaxPooling2D(name="max")(x))
    x = layers.Conv2D(6, 3, name="linear")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(layers.ReLU(name="end")(x))
    logits = layers.Dense(5, name="dense")(x)
    return tf_keras.Model(image, {"codes": layers.Dense(4, name="more")(logits), "logits": logits}, name="chain")


@pytest.fixture
def model(shuffle):
    """The chain, with channels whose ranges differ by a factor of up to 100, and activations beyond 6."""
    tf_keras.utils.set_random_seed(0)
    result = chain()
    shuffle(result)
    random = np.random.default_rng(2)
    for name, low in (("first/norm", 0.3), ("linear", 0.1)):
        variable = result.get_layer(name).gamma if "norm" in name else result.get_layer(name).kernel
        variable.assign(variable * np.exp(random.uniform(np.log(low), np.log(100 * low), variable.shape[-1])))
    return result


def ranges(side, axes) -> np.ndarray:
    sizes = side.magnitudes()
    return sizes.max(axis=tuple(axis for axis in range(sizes.ndim) if axis not in axes)).ravel()


def test_the_float_function_stays_and_both_ranges_of_a_channel_become_one(model, images):
    before = [variable.numpy() for variable in model.variables]
    result = equalise(model)
    for name, expected in model(images).items():
        assert_same_outputs(result(images)[name], expected)
    assert [v.name for v in result.variables] == [v.name for v in model.variables]
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.variables, strict=True)), "it is a new model"
    spread = []
    for first, second in pairs(model):
        r, q = ranges(first, first.output_axes), ranges(second, second.input_axes)
        spread.append((r / q).max() / (r / q).min())
    assert max(spread) > 50
    capped = [layer.name for layer in result.layers if isinstance(layer, CappedReLU)]
    assert capped == ["first/relu6"]
    bare = clone(result, lambda layer: layers.ReLU(6.0, name=layer.name) if layer.name in capped else again(layer))
    names = [(first.layer.name, second.layer.name) for first, second in pairs(bare)]
    chained = ["first", "depthwise", "pointwise", "linear", "dense"]
    assert names == list(itertools.pairwise(chained)), "`logits` is an output, and not to be scaled"
    for first, second in pairs(bare):
        ratio = ranges(first, first.output_axes) / ranges(second, second.input_axes)
        np.testing.assert_allclose(ratio, ratio[0], rtol=0.02)


def again(layer):
    return type(layer).from_config(layer.get_config())


def two_layers(first, second, activation: str = "relu") -> tf_keras.Model:
    """Kernels [2, 2] and [2, 1], biases 1 and 0."""
    x = features = tf_keras.Input((2,), name="features")
    x = layers.Dense(2, activation=activation, bias_initializer="ones", name="first")(x)
    model = tf_keras.Model(features, layers.Dense(1, name="second")(x))
    model.get_layer("first").kernel.assign(first)
    model.get_layer("second").kernel.assign(second)
    return model


def test_a_case_by_hand():
    """Ranges 8 and 1 of the first layer, 2 and 4 of the second: sqrt(8 / 2) = 2 and sqrt(1 / 4) = 1/2, that is 4 to 1
    with the least of them 1."""
    result = equalise(two_layers([[8.0, -1.0], [-4.0, 0.5]], [[2.0], [4.0]]))
    np.testing.assert_allclose(result.get_layer("first").kernel, [[2, -1], [-1, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(result.get_layer("first").bias, [0.25, 1])
    np.testing.assert_allclose(result.get_layer("second").kernel, [[8], [4]], rtol=1e-6)


def test_a_channel_of_zeros_and_one_beyond_the_widest_scale():
    """Nothing goes into channel 0: it takes the least scale, 1. In the second case sqrt(1e4 / 1e-4) is 1e4, and 64
    times the median of 1e4, 1 and 1 the bound."""
    result = equalise(two_layers([[0.0, 9.0], [0.0, 9.0]], [[5.0], [1.0]]))
    np.testing.assert_allclose(result.get_layer("first").kernel, [[0, 3], [0, 3]], rtol=1e-6)
    np.testing.assert_allclose(result.get_layer("second").kernel, [[5], [3]], rtol=1e-6)
    x = features = tf_keras.Input((1,))
    x = layers.Dense(3, name="first")(x)
    model = tf_keras.Model(features, layers.Dense(1, name="second")(x))
    model.get_layer("first").kernel.assign([[1e4, 1.0, 1.0]])
    model.get_layer("second").kernel.assign([[1e-4], [1.0], [1.0]])
    np.testing.assert_allclose(equalise(model).get_layer("first").kernel, [[1e4 / 64, 1, 1]], rtol=1e-6)


def test_what_is_no_pair():
    """A tensor that two layers take, a separable layer, a layer that is called twice, and a ReLU6 of a layer's own."""
    image = tf_keras.Input((8, 8, 4))
    twice = layers.Conv2D(4, 1, name="twice")
    x = layers.Conv2D(4, 1, name="forks")(image)
    x = layers.Add()([layers.Conv2D(4, 1, name="left")(x), layers.Conv2D(4, 1, name="right")(x)])
    x = twice(twice(layers.Conv2D(4, 1, name="before")(x)))
    x = layers.SeparableConv2D(4, 3, name="separable")(layers.Conv2D(4, 1, name="feeds")(x))
    x = layers.Conv2D(4, 1, activation="relu6", name="own")(x)
    model = tf_keras.Model(image, layers.Conv2D(4, 1, name="last")(x))
    assert pairs(model) == []
    np.testing.assert_array_equal(equalise(model).get_layer("own").kernel, model.get_layer("own").kernel)


def test_relu6_as_relu_is_another_function(model, images):
    """The two differ where activations exceed 6, and so does what equalisation of each keeps."""
    plain, difference = relu6_as_relu(model), 0.0
    assert plain.get_layer("first/relu6").max_value is None
    for name, expected in model(images).items():
        difference = max(difference, np.abs(plain(images)[name] - expected).max())
        assert_same_outputs(equalise(plain)(images)[name], plain(images)[name])
    assert difference > 0.1


def test_dead_channels(model, images):
    """Channel 3 of the first layer never fires, so that channels 6 and 7 of the depthwise one are constant."""
    first, depthwise = model.get_layer("first/norm"), model.get_layer("depthwise/norm")
    first.beta.assign(tf.tensor_scatter_nd_update(first.beta, [[3]], [-1e3]))
    constant = model.get_layer("depthwise").bias.numpy()
    mean, variance = depthwise.moving_mean.numpy(), depthwise.moving_variance.numpy()
    mean[6:8], variance[6:8] = constant[6:8], 3.9e-35
    depthwise.moving_mean.assign(mean)
    depthwise.moving_variance.assign(variance)
    assert {name: dead.tolist() for name, dead in dead_channels(model).items()} == {"depthwise": [6, 7]}
    side = next(second for _, second in pairs(model) if second.layer.name == "depthwise")
    assert ranges(side, side.output_axes).argmax() in (6, 7), "they set the range of the whole kernel"
    result = remove_dead_channels(model)
    assert not np.any(result.get_layer("depthwise").depthwise_kernel[:, :, 3])
    for name, expected in model(images).items():
        assert_same_outputs(result(images)[name], expected)
    assert np.any(model.get_layer("depthwise").depthwise_kernel[:, :, 3]), "it is a new model"
    assert dead_channels(model, variance=0.0) == {}


def test_a_file_with_one_scale_a_kernel_is_cured(model, images):
    """The network whose channels are scaled up to 100 apart, its function unchanged; equalised, it ships in int8
    throughout, its caps as minima."""
    random = np.random.default_rng(3)
    wanted = model(np.round(images))["logits"].numpy()
    for first, second in pairs(model)[1:3]:
        factor = np.exp(random.uniform(0, np.log(100), 16 if first.layer.name == "depthwise" else 12))
        first.divide_output(factor)
        second.multiply_kernel(factor, second.input_axes)
    noise = {}
    for name, network in (("as it is", model), ("equalised", equalise(model))):
        graph = convert(network, "ptq", "per_tensor", frames=images.numpy())
        operators.refuse_float_convolutions(graph)
        assert set(operators.census(graph).get("MINIMUM", {})) == ({"int8"} if name == "equalised" else set())
        runner = Runner(flatbuffer.write(graph))
        found = np.concatenate([runner(frame)["logits"] for frame in np.round(images)])
        noise[name] = sqnr(wanted, found)
    assert noise["equalised"] > noise["as it is"] + 10


def test_a_model_that_is_not_flat(model):
    image = tf_keras.Input((16, 16, 3))
    nested = tf_keras.Model(image, model(image)["logits"])
    for cure in (equalise, remove_dead_channels, dead_channels):
        with pytest.raises(ConfigError, match="chain is a model within"):
            cure(nested)
