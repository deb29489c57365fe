"""Small networks whose int8 file once differed from the evaluation graph, computed in float or could not be made."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import calibrate
from detect.quantization.callbacks import Phases
from detect.quantization.phases import Stepped, stepped
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from tests.closeness import assert_same_outputs
from tests.quantization import files
from tests.quantization.graphs import shuffle

layers = tf_keras.layers
IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 12, 12, 3)).astype(np.float32)


def network(end, seed: int = 0) -> tf_keras.Model:
    """Two convolutions `a` and `b` of the scaled image, and what `end` makes of both."""
    image = tf_keras.Input((12, 12, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="scaling")(image)
    model = tf_keras.Model(image, {"end": end(*(layers.Conv2D(4, 3, name=name)(x) for name in "ab"))})
    shuffle(model, seed)
    return model


def hard_sigmoid(x):
    return layers.ReLU(1.0)(layers.Rescaling(1 / 6, 0.5)(x))


def squared(x):
    return layers.Multiply()([x, x])


def doubled(x):
    return x + x


def in_two_concatenations(a, b):
    """One prescribed range, changed to two others."""
    shared = layers.Activation("sigmoid")(a)
    return layers.Multiply()([layers.Concatenate()([x, shared]) for x in (a, b)])


def gate(kind: str):
    return hard_sigmoid if kind == "hard_sigmoid" else layers.Activation(kind)


def convert(model: tf_keras.Model, spec: Spec = Spec()):  # noqa: B008
    """(twin with ranges of IMAGES, its file); every operation computes in integers."""
    twin = fake_quant(model, spec)
    calibrate(twin, [IMAGES])
    file = files.runner(twin)
    assert not files.float_operations(file)
    return twin, file


GATES = ("sigmoid", "softmax", "tanh", "hard_sigmoid")
EQUAL = {
    **{f"{k}_beside_a_convolution": lambda a, b, k=k: layers.Concatenate()([a, gate(k)(b)]) for k in GATES},
    **{f"two_of_{k}": lambda a, b, k=k: layers.Concatenate()([gate(k)(a), gate(k)(b)]) for k in GATES},
    "doubled": lambda a, b: layers.Concatenate()([layers.Activation("tanh")(a)] * 2),
    "in_two_concatenations": in_two_concatenations,
    "sum": lambda a, b: layers.ReLU(6.0)(layers.Add()([a, b])),
    "difference": lambda a, b: a - b,
    "product": lambda a, b: layers.Multiply()([a, b]),
    "hard_swish": lambda a, b: layers.Multiply()([a, hard_sigmoid(a)]),
    "gated_by_means": lambda a, b: layers.Multiply()(
        [a, gate("sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(b))]
    ),
    "swish": lambda a, b: layers.Activation("swish")(a),
    "leaky": lambda a, b: layers.LeakyReLU(0.3)(a),
    "average": lambda a, b: layers.AveragePooling2D(2)(a),
    "average_at_borders": lambda a, b: layers.AveragePooling2D(3, 1, "same")(a),
    "bilinear": lambda a, b: layers.UpSampling2D(2, interpolation="bilinear")(a),
    "cap": lambda a, b: layers.ReLU(0.7)(a),
    "cap_of_a_sum": lambda a, b: layers.ReLU(1.2)(layers.Add()([a, b])),
    "cap_after_a_pooling": lambda a, b: layers.ReLU(0.7)(layers.MaxPooling2D()(a)),
    "relu6_after_a_pooling": lambda a, b: layers.ReLU(6.0)(layers.MaxPooling2D()(a)),
    "cap_after_a_tanh": lambda a, b: layers.ReLU(0.5)(layers.Activation("tanh")(a)),
    "cap_in_a_concatenation": lambda a, b: layers.Concatenate()([layers.ReLU(0.7)(a), b]),
    "rescaling": lambda a, b: layers.Rescaling(2.0, 1.0)(a),
    "dilated": lambda a, b: layers.Conv2D(4, 3, dilation_rate=2)(a),
    "dilated_depthwise": lambda a, b: layers.DepthwiseConv2D(3, dilation_rate=2)(a),
    "after_a_reshape": lambda a, b: 1.0 - layers.Reshape((100, 4))(a),
    "squared_after_a_reshape": lambda a, b: squared(layers.Reshape((100, 4))(a)),
    "doubled_after_a_flatten": lambda a, b: doubled(layers.Dropout(0.5)(layers.Flatten()(layers.ReLU()(a)))),
    "product_of_two_reshapes": lambda a, b: layers.Multiply()(
        [layers.Reshape((100, 4))(layers.ReLU()(x)) for x in (a, b)]
    ),
    "sum_of_reshapes": lambda a, b: layers.Add()([layers.Flatten()(x) for x in (a, b, a)]),
    "scaled_after_a_reshape": lambda a, b: layers.Reshape((100, 4))(layers.ReLU()(a)) * 2.0,
}


@pytest.mark.parametrize("case", sorted(EQUAL))
def test_every_value_is_equal(case):
    twin, file = convert(network(EQUAL[case]))
    off = files.steps_off(twin, file, IMAGES)["end"]
    assert (off == 0).mean() > 0.999 and off.max() <= 1


def steps_beside_those_of_the_file(model: tf_keras.Model) -> tuple[dict[str, np.float32], set[np.float32]]:
    """{layer: its step} of the twin, and all steps in the file."""
    twin, file = convert(model)
    scales = [tensor.quantization.scale for tensor in file.model.subgraphs[0].tensors if tensor.quantization]
    written = {np.float32(scale) for several in scales if several is not None for scale in several}
    return {layer.name: np.float32(layer.step()) for layer in twin.layers if isinstance(layer, FakeQuant)}, written


@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_of_the_file(seed):
    """To the last bit: a step that is one bit off moves a value of a million, and a deep network makes it many."""
    steps, written = steps_beside_those_of_the_file(network(lambda a, b: layers.Add()([a * b, a - b]), seed))
    assert len(steps) == 6 and not {name: step for name, step in steps.items() if step not in written}


def test_the_step_of_a_tensor_of_zeros_is_that_of_the_file():
    model = network(lambda a, b: layers.Add()([a, b]))
    model.get_layer("b").set_weights([np.zeros_like(weights) for weights in model.get_layer("b").get_weights()])
    steps, written = steps_beside_those_of_the_file(model)
    assert steps["b/fake_quant"] in written and steps["b/fake_quant"] > 0


@pytest.mark.parametrize("factor", [0.003, 0.02, 0.05, 0.1, 0.3, 1.0, 5.0, 40.0])
def test_hard_swish_of_any_range(factor):
    """TFLite's fixed point shifts to the left or to the right, depending on the step."""
    model = network(lambda a, b: layers.Multiply()([a, hard_sigmoid(a)]))
    layer = model.get_layer("a")
    layer.set_weights([factor * weights for weights in layer.get_weights()])
    twin, file = convert(model)
    assert not files.steps_off(twin, file, IMAGES)["end"].any()


def residual(x):
    y = layers.Conv2D(48, 1, activation="relu6")(x)
    y = layers.Conv2D(8, 1)(layers.DepthwiseConv2D(3, padding="same", activation="relu6")(y))
    return layers.Add()([x, y])


def gated(x):
    y = layers.Conv2D(24, 3, padding="same")(x)
    y = layers.Multiply()([y, hard_sigmoid(y)])
    y = layers.Multiply()([y, hard_sigmoid(layers.Conv2D(24, 1)(layers.GlobalAveragePooling2D(keepdims=True)(y)))])
    return layers.Subtract()([x, layers.Conv2D(8, 1)(y)])


@pytest.mark.parametrize("block", [residual, gated])
def test_a_deep_network_is_equal_to_the_last_value(block):
    """As MobileNet v2 and v3: of a single step that is off, many blocks make thousands."""
    image = tf_keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 127.5, -1)(image))
    for _ in range(12):
        x = block(x)
    model = tf_keras.Model(image, {"end": layers.Conv2D(4, 1)(x)})
    images = np.random.default_rng(0).uniform(0, 255, (24, 24, 24, 3)).astype(np.float32)
    shuffle(model, 0)
    twin = fake_quant(model, Spec())
    calibrate(twin, [images[:8]])
    off = files.steps_off(twin, files.runner(twin), images)["end"]
    assert not off.any(), Counter(off.ravel().tolist())
    np.testing.assert_array_equal(tf.function(twin)(images, training=False)["end"], twin(images, training=False)["end"])


def test_the_cap_holds_in_float_and_rounded():
    """Before the delay ends, when the twin does not round, it computes the float network."""
    model = network(EQUAL["cap"])
    twin = fake_quant(model, Spec(delay=1))
    calibrate(twin, [IMAGES])
    assert_same_outputs(twin(IMAGES)["end"], model(IMAGES)["end"])
    assert model(IMAGES)["end"].numpy().max() == np.float32(0.7)
    ranges = [layer.fixed for layer in twin.layers if isinstance(layer, FakeQuant) and layer.fixed]
    np.testing.assert_allclose(ranges, [(0, 0.7)])


def test_an_operator_of_two_ranks_stays_as_it_is():
    """Python aligns the last axes of both tensors, and Keras' Add the first ones."""
    model = network(lambda a, b: a + layers.GlobalMaxPooling2D()(b))
    twin = fake_quant(model, Spec(delay=1))
    images = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3)).astype(np.float32)  # as many as rows of `a`
    calibrate(twin, [images])
    assert_same_outputs(twin(images)["end"], model(images)["end"])


def test_each_layer_waits_for_the_delay():
    """Before it ends, the twin computes the float network, and then what its file computes."""
    model = network(lambda a, b: copied(layers.ReLU(0.7)(a), b))
    twin = fake_quant(model, Spec(delay=1))
    assert {type(layer) for layer in stepped(twin)} == set(Stepped.__subclasses__())
    calibrate(twin, [IMAGES])
    assert_same_outputs(twin(IMAGES)["end"], model(IMAGES)["end"])
    Phases(twin).step(1)
    files.assert_agrees(twin, files.runner(twin), IMAGES)


def test_three_convolutions_with_swish():
    """The sigmoid in a swish has a range of its own."""
    image = x = tf_keras.Input((12, 12, 3), name="image")
    for _ in range(3):
        x = layers.Conv2D(8, 3, activation="swish")(x)
    model = tf_keras.Model(image, {"end": x})
    shuffle(model, 0)
    twin, file = convert(model)
    assert (files.steps_off(twin, file, IMAGES)["end"] == 0).mean() > 0.99


def test_an_activation_that_is_called_twice():
    """Its parts in the twin are made once: names are unique."""
    swish, cap, leaky = layers.Activation("swish"), layers.ReLU(0.7), layers.LeakyReLU(0.1)
    model = network(lambda a, b: layers.Add()([f(x) for f in (swish, cap, leaky) for x in (a, b)]))
    twin, file = convert(model)
    files.assert_agrees(twin, file, IMAGES)


def copied(x, y):
    """All that rounds by the grids around it: biases, sums, a kernel that maps share, a LeakyReLU."""
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.LeakyReLU(0.1)(layers.SeparableConv2D(4, 3)(layers.Concatenate()([shared(x), shared(y)])))
    return layers.Dense(3, activation="sigmoid")(layers.Flatten()(layers.AveragePooling2D()(layers.ReLU(2.0)(x))))


@pytest.mark.parametrize("kind", ["keras", "h5", "clone", pytest.param("tf", marks=pytest.mark.slow)])
def test_a_copy_rounds_as_the_model(kind, tmp_path):
    twin = fake_quant(network(copied), Spec())
    calibrate(twin, [IMAGES])
    files.assert_copies_agree(twin, IMAGES, tmp_path, [kind])


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_a_twin_of_mixed_precision_is_float32(policy):
    try:
        tf_keras.mixed_precision.set_global_policy(policy)
        twin, file = convert(network(copied))
        files.assert_agrees(twin, file, IMAGES)
        twin(IMAGES, training=True)
        assert {v.dtype for v in twin.trainable_variables} == {tf.float32}
        assert {layer.compute_dtype for layer in twin.layers} == {"float32"}
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def train(twin: tf_keras.Model, steps: int) -> None:
    optimizer = tf_keras.optimizers.Adam(1e-2)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((twin(IMAGES, training=True)["end"] - 1) ** 2)
        variables = twin.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


STATES = [("moving_average", 1, True), ("learned", 10, False)]
RANGES = {"moving_average": (0, 1, 10), "calibrated": (10,), "learned": (10,)}
OTHERS = [(r, n, c) for r, steps in RANGES.items() for n in steps for c in (True, False) if (r, n, c) not in STATES]


@pytest.mark.parametrize(
    ("ranges", "steps", "per_channel"),
    [*STATES, *(pytest.param(*state, marks=pytest.mark.slow) for state in OTHERS)],
)
def test_any_state_of_training(ranges, steps, per_channel):
    """Untrained, after a few steps, and with each kind of ranges."""
    model = network(lambda a, b: copied(layers.ReLU(6.0)(layers.BatchNormalization()(a)), b))
    twin = fake_quant(model, Spec(ranges=ranges, per_channel=per_channel, decay=0.9))
    calibrate(twin, [IMAGES])
    train(twin, steps)
    file = files.runner(twin)
    assert not files.float_operations(file)
    files.assert_agrees(twin, file, IMAGES)
