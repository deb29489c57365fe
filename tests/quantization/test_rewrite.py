"""The function from model to model: what becomes of names, ranges and weights, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import calibrate
from detect.quantization.folded import Folded
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import RANGE_VARIABLES, Spec
from detect.weights.transfer import named, transfer
from tests.closeness import assert_same_outputs

layers = tf_keras.layers


def ranges(model) -> dict[str, tuple]:
    """(members, fixed) of each rounding by name."""
    found = {layer.name: layer for layer in model.layers if isinstance(layer, FakeQuant)}
    return {name.removesuffix("/fake_quant"): (layer.members, layer.fixed) for name, layer in found.items()}


def test_where_a_model_is_rounded(convnet):
    """Nothing between convolution, batch norm and ReLU; one range over the concatenation, what is averaged into it, and
    the depthwise convolution that the average is of."""
    twin = fake_quant(convnet, Spec())
    assert ranges(twin) == {
        "scaling": (1, None),
        "relu6": (1, None),
        "concat": (3, None),
        "alone": (1, None),
        "shortcut": (1, None),
        "added": (1, None),
        "hidden_relu": (1, None),
        "classes/linear": (1, None),
        "classes": (1, (0.0, 255 / 256)),
    }
    folded = {layer.name: layer.norm and layer.norm.name for layer in twin.layers if isinstance(layer, Folded)}
    assert folded == {
        "conv": "conv_bn",
        "depthwise": "depthwise/norm",
        "left": None,
        "separable": "separable_bn",
        "alone": "alone",
        "shortcut": None,
        "hidden": "hidden_bn",
        "classes": None,
    }
    assert twin.get_layer("separable").between.members == 1


def test_structure_and_names_stay(convnet):
    twin = fake_quant(convnet, Spec())
    assert twin.name == convnet.name and twin.input_names == convnet.input_names
    assert {k: v.shape.as_list() for k, v in twin.output.items()} == {"classes": [None, 5], "hidden": [None, 6]}
    theirs, ours = named(convnet.variables), named(twin.variables)
    assert set(theirs) <= set(ours)
    assert all("/range_" in name for name in set(ours) - set(theirs))
    for name, variable in theirs.items():
        np.testing.assert_array_equal(ours[name], variable)


def test_weights_move_both_ways_with_a_full_ledger(convnet, images):
    twin = fake_quant(convnet, Spec())
    twin(images, training=True)
    for variable in twin.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    arrays = {name: variable.numpy() for name, variable in named(twin.variables).items()}
    ledger = transfer(convnet, arrays, source="twin", layers=None, skip=RANGE_VARIABLES)
    extra = set(arrays) - set(named(convnet.variables))
    assert ledger.complete and set(ledger.skipped) == extra and len(ledger.loaded) == len(convnet.variables)
    np.testing.assert_array_equal(convnet.get_layer("conv_bn").gamma, twin.get_layer("conv").norm.gamma)

    fresh = fake_quant(convnet, Spec())
    arrays = {name: variable.numpy() for name, variable in named(convnet.variables).items()}
    ledger = transfer(fresh, arrays, source="float", layers=None, skip=RANGE_VARIABLES)
    assert ledger.complete and set(ledger.skipped) == extra

    names = {layer.name for layer in convnet.layers}  # as a backbone whose layers the caller knows
    ledger = transfer(fresh, arrays, source="float", layers=names, skip=RANGE_VARIABLES)
    assert ledger.complete and set(ledger.loaded) == set(arrays)


def test_none_gives_the_model_back(convnet):
    assert fake_quant(convnet, None) is convnet


def test_the_float_model_is_left_alone(convnet, images):
    before = [v.numpy() for v in convnet.variables]
    twin = fake_quant(convnet, Spec())
    twin(images, training=True)
    for variable, value in zip(convnet.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_saved_model_comes_back(convnet, images, tmp_path):
    twin = fake_quant(convnet, Spec(delay=3, freeze_bn=4, keep_float=["left"]))
    calibrate(twin, [images])
    twin.save(tmp_path / "twin.keras")
    again = tf_keras.models.load_model(tmp_path / "twin.keras")
    a, b = (model(images, training=False)["hidden"] for model in (twin, again))
    np.testing.assert_array_equal(a, b)


def test_layers_that_stay_float(convnet, images):
    twin = fake_quant(convnet, Spec(keep_float=["conv", "classes"]))
    assert type(twin.get_layer("conv_bn")) is layers.BatchNormalization  # its batch norm and its ReLU stay with it
    assert type(twin.get_layer("classes")) is layers.Dense
    assert "relu6" in ranges(twin), "a quantised layer takes it"
    assert not {"classes", "classes/linear"} & set(ranges(twin))
    twin(images, training=True)
    with pytest.raises(ConfigError, match=r"keep_float: conv_9 matches no layer of convnet"):
        fake_quant(convnet, Spec(keep_float=["conv_9", "conv"]))


def test_first_and_last_layer_float(convnet):
    twin = fake_quant(convnet, Spec(first_last_float=True))
    kernels = {"conv", "depthwise", "left", "separable", "shortcut", "hidden", "classes"}
    assert {name for name in kernels if isinstance(twin.get_layer(name), Folded)} == kernels - {"conv", "classes"}


def test_a_sequential_model():
    model = tf_keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ConfigError, match="has no input shape yet: build it: legal are"):
        fake_quant(model, Spec())
    model.build([None, 8, 8, 1])
    twin = fake_quant(model, Spec())
    assert {v.name for v in model.variables} <= {v.name for v in twin.variables}
    assert twin(tf.ones([1, 8, 8, 1]), training=True).shape == [1, 2]


def test_a_layer_that_is_called_twice_stays_one():
    image = tf_keras.Input((8, 8, 4))
    conv, norm = layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization(name="norm")
    x = norm(conv(norm(conv(image))))
    twin = fake_quant(tf_keras.Model(image, x), Spec())
    assert sum(isinstance(layer, Folded) for layer in twin.layers) == 1
    own = [layers.BatchNormalization(name=name)(conv(image)) for name in "ab"]  # folded with each
    twin = fake_quant(tf_keras.Model(image, own), Spec())
    assert {layer.name for layer in twin.layers if isinstance(layer, Folded)} == {"conv", "a"}


def test_prescribed_ranges_do_not_join():
    """A sigmoid's is [0, 255/256] in TFLite: where it is concatenated, it is rounded once more."""
    image = tf_keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.Concatenate(name="concat")([x, layers.Activation("sigmoid", name="gate")(x)])
    twin = fake_quant(tf_keras.Model(image, x), Spec())
    assert ranges(twin) == {"image": (1, None), "concat": (2, None), "gate": (1, (0.0, 255 / 256))}


@pytest.mark.parametrize("written", ["layers", "operators"])
def test_hard_swish_is_one_operation(written, images):
    image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 1, name="conv")(image)
    if written == "layers":
        gate = layers.ReLU(1.0)(layers.Rescaling(1 / 6, 0.5)(x))
    else:
        gate = layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    model = tf_keras.Model(image, layers.Multiply(name="swish")([gate, x]))
    twin = fake_quant(model, Spec(delay=1))
    assert list(ranges(twin)) == ["image", "conv", "swish"]
    calibrate(twin, [images / 100])
    assert_same_outputs(twin(images / 100, training=False), model(images / 100))


@pytest.mark.parametrize("sixth", [1 / 6, 0.16667])
@pytest.mark.parametrize("written", ["layers", "operators"])
def test_hard_sigmoid(written, sixth, images):
    image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 1, name="conv")(image)
    if written == "layers":
        gate = layers.ReLU(6 * sixth, name="gate")(layers.Rescaling(sixth, 3 * sixth)(x))
    else:
        gate = layers.ReLU(6.0)(x + 3.0) * sixth
    model = tf_keras.Model(image, layers.Multiply(name="product")([layers.Conv2D(4, 1, name="other")(image), gate]))
    twin = fake_quant(model, Spec(delay=1))
    fixed = [fixed for _, fixed in ranges(twin).values() if fixed]
    assert fixed == [(0.0, 6.0), (0.0, 1.0)]
    calibrate(twin, [images / 100])
    assert_same_outputs(twin(images / 100, training=False), model(images / 100))


def test_arithmetic_that_is_no_hard_sigmoid(images):
    image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 1, name="conv")(image)
    model = tf_keras.Model(image, layers.ReLU(6.0, name="relu")(x + 2.5) * x - 1.0)
    twin = fake_quant(model, Spec(delay=1))
    assert len(ranges(twin)) == 5  # image, conv, x + 2.5 up to its ReLU, the product, the difference
    calibrate(twin, [images])
    assert_same_outputs(twin(images, training=False), model(images))


class Doubled(layers.Layer):
    """A layer that nobody knows."""

    def call(self, x):
        return x * 2


def build_with(layer):
    image = tf_keras.Input((8, 8, 4), name="image")
    return tf_keras.Model(image, layer(layers.Conv2D(4, 1, name="conv")(image)), name="net")


REFUSED = {
    "lambda": (lambda: build_with(layers.Lambda(lambda x: x, name="odd")), "odd: Lambda"),
    "own": (lambda: build_with(Doubled(name="odd")), "odd: Doubled"),
    "transposed": (lambda: build_with(layers.Conv2DTranspose(4, 2, name="odd")), "odd: Conv2DTranspose"),
    "groups": (lambda: build_with(layers.Conv2D(4, 1, groups=2, name="odd")), "odd: .*groups=1"),
    "elu": (lambda: build_with(layers.Conv2D(4, 1, activation="elu", name="odd")), "odd: activation=elu; legal"),
    "elu_layer": (lambda: build_with(layers.Activation("elu", name="odd")), "odd: activation=elu; legal"),
    "leaky": (lambda: build_with(layers.ReLU(negative_slope=0.1, name="odd")), "odd: ReLU"),
    "bicubic": (lambda: build_with(layers.UpSampling2D(interpolation="bicubic", name="odd")), "odd: UpSampling2D"),
    "axis": (
        lambda: build_with(layers.BatchNormalization(axis=1, name="odd")),
        r"odd: axis=\[1\]: legal is the last",
    ),
    "operator": (lambda: build_with(lambda x: tf.math.exp(x, name="odd")), "TFOpLambda of math.exp"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_it_cannot_quantise_it_names(case):
    build, message = REFUSED[case]
    model = build()
    with pytest.raises(ConfigError, match=rf"(?s)net has 1 layers? .*{message}.*legal are Conv2D.*keep_float"):
        fake_quant(model, Spec())
    odd = model.layers[-1].name
    twin = fake_quant(model, Spec(keep_float=[odd]))
    x = tf.random.stateless_uniform([1, 8, 8, 4], [1, 2])
    calibrate(twin, [x])
    ours, theirs = twin(x, training=False), model(x)
    assert 0 < np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()


def test_nested_models(convnet):
    with pytest.raises(ConfigError, match=r"convnet is a model within outer: .*flat"):
        fake_quant(tf_keras.Model(convnet.input, convnet(convnet.input), name="outer"), Spec())


def test_keras_3():
    model = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(2)])
    with pytest.raises(ConfigError, match=r"is a Keras 3 model: fake_quant takes tf_keras.*import tf_keras"):
        fake_quant(model, Spec())


def test_what_is_no_graph():
    class Own(tf_keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ConfigError, match="own is subclassed: legal are functional models"):
        fake_quant(Own(name="own"), Spec())
    with pytest.raises(ConfigError, match="is a int of builtins"):
        fake_quant(3, Spec())


def test_nothing_to_quantise(convnet):
    image = tf_keras.Input((8, 8, 3))
    with pytest.raises(ConfigError, match="has no layer with a kernel to quantise"):
        fake_quant(tf_keras.Model(image, layers.ReLU()(image)), Spec())
    with pytest.raises(ConfigError, match="has no layer with a kernel to quantise"):
        fake_quant(convnet, Spec(keep_float=["*"]))


def test_twice(convnet):
    with pytest.raises(ConfigError, match="conv: the model is fake-quantised already"):
        fake_quant(fake_quant(convnet, Spec()), Spec())


@pytest.mark.parametrize("norms", [2, 1, 0])
def test_a_convolution_that_maps_share_is_folded_with_each_batch_norm(norms, shuffle):
    """norms: one for each map, one for both, or none."""
    maps = [tf_keras.Input((side, side, 3), name=f"map_{side}") for side in (8, 4)]
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    makers = [layers.BatchNormalization(name=f"norm_{i}") for i in range(norms)]
    outputs = []
    for i, x in enumerate(maps):
        x = shared(x)
        x = makers[i % norms](x) if norms else x
        outputs.append(layers.Conv2D(2, 1, name=f"head_{i}")(layers.ReLU(name=f"relu_{i}")(x)))
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Model(maps, outputs)
    shuffle(model)
    twin = fake_quant(model, Spec(delay=1))
    folded = {layer.name for layer in twin.layers if isinstance(layer, Folded)}
    assert folded == {"shared", "head_0", "head_1"} | ({"norm_0"} if norms == 2 else set())  # maps run from the last
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in twin.layers)
    names = [v.name for v in twin.variables]
    assert len(names) == len(set(names)) and {v.name for v in model.variables} <= set(names)
    random = np.random.default_rng(0)
    x = [random.uniform(0, 6, (2, side, side, 3)).astype(np.float32) for side in (8, 4)]
    calibrate(twin, [x])
    for ours, theirs in zip(twin(x, training=False), model(x, training=False), strict=True):
        assert_same_outputs(ours, theirs)
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_mean(y**2) for y in twin(x, training=True))
    gradients = tape.gradient(loss, twin.trainable_variables)
    assert all(g is not None and np.any(g) for v, g in zip(twin.trainable_variables, gradients, strict=True)
               if "shared/kernel" in v.name)  # fmt: skip
    if norms == 2:
        for copied in (twin.get_config, lambda: tf_keras.models.clone_model(twin)):
            with pytest.raises(ConfigError, match="kernel of shared is folded with several batch norms"):
                copied()
    else:
        assert len(tf_keras.models.clone_model(twin).weights) == len(twin.weights)


def test_the_range_within_a_shared_separable_convolution_contains_all_of_its_calls():
    """Two maps; the depthwise part, which only passes them, gives values up to 1 and up to 4."""
    kernels = [np.ones((1, 1, 2, 1)), np.ones((1, 1, 2, 3)) / 2]
    shared = layers.SeparableConv2D(3, 1, use_bias=False, name="shared")
    inputs = [layers.Input((side, side, 2)) for side in (8, 4)]
    model = tf_keras.Model(inputs, [shared(x) for x in inputs])
    shared.set_weights(kernels)
    twin = fake_quant(model, Spec())
    ramps = [np.linspace(0, top, side * side * 2, dtype=np.float32) for side, top in ((8, 1), (4, 4))]
    x = [ramps[0].reshape(1, 8, 8, 2), ramps[1].reshape(1, 4, 4, 2)]
    for _ in range(3):
        twin(x, training=True)
    between = twin.get_layer("shared").between
    assert float(between.range_max) == pytest.approx(4, rel=0.01)
    for ours, theirs in zip(twin(x, training=False), model(x, training=False), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
    assert twin.get_layer("shared").get_config()["calls"] == 2
