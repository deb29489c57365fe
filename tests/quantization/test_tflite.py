"""The evaluation graph beside the TFLite file that is made of it: kernels, operations and outputs."""

from collections import Counter

import hydra
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from detect.config.check import CONFIG_DIR
from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import calibrate, evaluation_graph
from detect.quantization.folded import Folded
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.training import build

layers = tf_keras.layers
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def convert(model) -> Interpreter:
    """The model's evaluation graph of batch 1 as a TFLite file, in an interpreter."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([evaluation_graph(model)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert(), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    return interpreter


def operations(interpreter) -> list[tuple[str, str, list[int]]]:
    """(name, type of the result, inputs) of each operation."""
    types = {t["index"]: np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    found = [o for o in interpreter._get_ops_details() if o["op_name"] != "DELEGATE"]
    return [(o["op_name"], types[o["outputs"][0]], list(o["inputs"])) for o in found]


def file_kernels(interpreter) -> list[tuple[np.ndarray, np.ndarray]]:
    """(integers [values, channels], scales [channels or 1]) of every kernel in the file."""
    details = {t["index"]: t for t in interpreter.get_tensor_details()}
    result = []
    for name, _, inputs in operations(interpreter):
        if name in CONVOLUTIONS:
            quantization = details[inputs[1]]["quantization_parameters"]
            assert (quantization["zero_points"] == 0).all()
            integers = interpreter.get_tensor(inputs[1])
            axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
            result.append((np.moveaxis(integers, axis, -1).reshape(-1, integers.shape[axis]), quantization["scales"]))
    return result


def check_kernels(model, interpreter, bits=8) -> int:
    """Asserts that the file's kernels are the fake-quantised ones, every integer; returns how many there are."""
    found, count = file_kernels(interpreter), 0
    for layer in (layer for layer in model.layers if isinstance(layer, Folded)):
        kernels = layer.rounded_kernels()
        for kernel, depthwise in zip(kernels, [len(kernels) == 2 or layer._is_depthwise, False], strict=False):
            height_width = kernel.shape[:2] if depthwise else kernel.shape[:-1]
            wanted = kernel.numpy().reshape(int(np.prod(height_width)), -1)
            fits = [i for i, (integers, _) in enumerate(found) if integers.shape == wanted.shape]
            off = {i: np.abs(wanted / found[i][1] - found[i][0]).max() for i in fits}
            best = min(off, key=off.get)
            assert off[best] < 1e-3, f"{layer.name}: integers differ"
            assert np.array_equal(np.round(wanted / found[best][1]), found[best][0])
            assert np.abs(found[best][0]).max() == 2 ** (bits - 1) - 1
            del found[best]
            count += 1
    assert not found
    return count


def check_outputs(model, interpreter, images, share=0.99, most=3) -> None:
    """Asserts that this share of each output lies within a quantum of the evaluation graph's, and how far off the
    others may be. images: of one or more inputs' first, float32 [N, H, W, 3]."""
    graph, details = evaluation_graph(model), interpreter.get_output_details()
    differences: dict[str, list[np.ndarray]] = {}
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        found = [interpreter.get_tensor(d["index"]) for d in details]
        for name, expected in graph(tf.constant(image[np.newaxis])).items():
            off = [np.abs(f - expected) / quantum_of(model, name) for f in found if f.shape == expected.shape]
            differences.setdefault(name, []).append(np.round(min(off, key=np.mean)).ravel())
    for name, parts in differences.items():
        off = np.concatenate(parts)
        assert (off <= 1).mean() >= share and off.max() <= most, (name, Counter(off.tolist()))


def quantum_of(model, output: str) -> float:
    """The step of the last rounding before an output."""
    layer = next(layer for layer in model.layers if layer.name == f"{output}/fake_quant")
    low, high = layer.fixed or (float(layer.range_min), float(layer.range_max))
    return (high - low) / 255


def train(model, loss, batches, rate=1e-3) -> None:
    optimizer = tf_keras.optimizers.Adam(rate)

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            value = loss(batch)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

    for batch in batches:
        step(batch)


CHANGES = {
    "int8": {},
    "per_tensor": {"per_channel": False},
    "symmetric": {"symmetric": True},
    "4_bit_kernels": {"weight_bits": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGES)
def test_a_convnet(convnet, images, case):
    """With and without a batch norm to fold, depthwise with two kernels a channel, a lone batch norm, dense layers.

    Averages over 4 and 6 values at the borders lie halfway between integers, and TFLite rounds some of them the other
    way: what follows differs a little more than in a net without.
    """
    name = "added" if case == "4_bit_kernels" else "hidden_relu"  # a file's dense kernels have 8 bits whatever the spec
    model = tf_keras.Model(convnet.input, {name: convnet.get_layer(name).output})
    twin = fake_quant(model, Spec(decay=0.9, **CHANGES[case]))
    train(twin, lambda x: tf.reduce_mean((twin(x, training=True)[name] - 1) ** 2), [images] * 5)
    interpreter = convert(twin)
    count = check_kernels(twin, interpreter, twin.get_layer("conv").spec.weight_bits)
    assert count == (7 if name == "added" else 8)
    census = Counter((name, kind) for name, kind, _ in operations(interpreter))
    floats = {name for name, kind in census if kind == "float32"}
    assert floats <= {"MUL", "ADD", "DEQUANTIZE"}, "the input's scaling, and what leaves"
    assert census["DEPTHWISE_CONV_2D", "int8"] == 3 and census["QUANTIZE", "int8"] == 1
    check_outputs(twin, interpreter, images.numpy(), share=0.8, most=8)


@pytest.mark.parametrize("bits", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_a_users_convnet(shuffle, images, bits):
    """As most are: convolutions with batch norm and ReLU, a pooling, a mean over the image, a dense layer."""
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([layers.Input((16, 16, 3)), layers.Rescaling(1 / 255)], name="user")
    for channels in (8, 16, 32):
        model.add(layers.Conv2D(channels, 3, padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, name="logits"))
    shuffle(model)
    twin = fake_quant(tf_keras.Model(model.input, {"logits": model.output}), Spec(decay=0.9, weight_bits=bits))
    train(twin, lambda x: tf.reduce_mean((twin(x, training=True)["logits"] - 1) ** 2), [images] * 5)
    interpreter = convert(twin)
    assert {kind for name, kind, _ in operations(interpreter) if name in (*CONVOLUTIONS, "MEAN")} == {"int8"}
    check_outputs(twin, interpreter, images.numpy())


def test_branches_after_a_concatenation_and_a_pooling(images):
    """Inception's modules: what a convolution and a pooling take, whose result is concatenated again."""
    x = image = tf_keras.Input((16, 16, 3), name="image")
    for i in range(2):
        left, right = (layers.Conv2D(4, 3, 2, "same", activation="relu", name=f"{side}_{i}")(x) for side in "ab")
        x = layers.Concatenate(name=f"reduced_{i}")([left, right, layers.MaxPooling2D(3, 2, "same")(x)])
        branches = [layers.Conv2D(4, 1, activation="relu", name=f"{side}_{i}")(x) for side in "cd"]
        pooled = layers.AveragePooling2D(3, 1, "same")(x)
        branches.append(layers.Conv2D(4, 1, activation="relu", name=f"e_{i}")(pooled))
        x = layers.MaxPooling2D(3, 1, "same", name=f"pool_{i}")(layers.Concatenate(name=f"mixed_{i}")(branches))
    twin = fake_quant(tf_keras.Model(image, {"last": layers.Conv2D(4, 1, name="last")(x)}), Spec())
    twin(images, training=True)
    kinds = Counter((name, kind) for name, kind, _ in operations(convert(twin)))
    assert kinds["CONV_2D", "int8"] == 11 and ("CONV_2D", "float32") not in kinds, kinds


def test_a_bias_that_is_the_same_for_all_channels(images):
    """As a focal loss starts. The converter takes one scale for such a constant, if it is given one."""
    image = tf_keras.Input((16, 16, 3), name="image")
    bias = tf_keras.initializers.Constant(-4.6)
    logits = layers.Conv2D(4, 1, bias_initializer=bias, name="logits")(layers.Rescaling(1 / 255)(image))
    twin = fake_quant(tf_keras.Model(image, {"logits": logits}), Spec())
    twin(images, training=True)
    interpreter = convert(twin)
    inputs = next(inputs for name, _, inputs in operations(interpreter) if name == "CONV_2D")
    details = {t["index"]: t for t in interpreter.get_tensor_details()}
    scales = details[inputs[2]]["quantization_parameters"]["scales"]
    np.testing.assert_allclose(interpreter.get_tensor(inputs[2]) * scales, -4.6, rtol=1e-4)
    check_outputs(twin, interpreter, images.numpy())


def test_a_convolution_that_maps_of_different_ranges_share():
    """Each call rounds its bias to the step of its own input, and the outputs are those of the file, every integer."""
    maps = [tf_keras.Input((side, side, 3), name=f"map_{side}") for side in (8, 4)]
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    shared.build([None, 8, 8, 3])
    shared.bias.assign([0.1, -0.37, 0.02, 0.53])
    outputs = {f"head_{i}": layers.ReLU(name=f"head_{i}")(shared(x)) for i, x in enumerate(maps)}
    twin = fake_quant(tf_keras.Model(maps, outputs), Spec(ranges="calibrated"))
    random = np.random.default_rng(0)
    batch = [random.uniform(0, high, (1, s, s, 3)).astype(np.float32) for s, high in ((8, 1.0), (4, 90.0))]
    calibrate(twin, [batch])
    steps = [[float(step()) for step in twin.get_layer("shared").steps(number)] for number in (0, 1)]
    assert steps[0][0] > 80 * steps[1][0] or steps[1][0] > 80 * steps[0][0]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([evaluation_graph(twin)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert())  # XNNPACK; the plain kernels round twice
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        value = next(x for x in batch if x.shape == tuple(details["shape"]))
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    results = [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]
    for head, wanted in twin(batch, training=False).items():
        found = next(result for result in results if result.shape == wanted.shape)
        np.testing.assert_array_equal(np.rint((found - wanted) / quantum_of(twin, head)), 0)


def test_evaluation_computes_in_whole_numbers(convnet, images):
    """A tenth of a step of the output more or less changes nothing: each value is a whole number of steps already."""
    twin = fake_quant(convnet, Spec())
    calibrate(twin, [images])
    for name, rounding in (("conv", "relu6"), ("separable", "concat"), ("shortcut", "shortcut")):
        layer = twin.get_layer(name)
        values = tf_keras.Model(twin.input, layer.get_output_at(0))(images, training=False)
        steps = values / twin.get_layer(f"{rounding}/fake_quant").step()
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_softmax(convnet, images):
    """The output's range is the one that TFLite prescribes."""
    model = tf_keras.Model(convnet.input, {"classes": convnet.output["classes"]})
    twin = fake_quant(model, Spec())
    twin(images, training=True)
    interpreter = convert(twin)
    softmax = next(o for o in interpreter._get_ops_details() if o["op_name"] == "SOFTMAX")
    details = {t["index"]: t for t in interpreter.get_tensor_details()}
    assert details[softmax["outputs"][0]]["quantization"] == (1 / 256, -128)
    check_outputs(twin, interpreter, images.numpy())


def batch_of(size: int, seed: int) -> dict:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, size / 2, (2, 4, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, size / 2, (2, 4, 2))], axis=-1)
    batch = {
        "image": random.integers(0, 256, (2, size, size, 3), np.uint8),
        "boxes": boxes.astype(np.float32),
        "classes": random.integers(1, 4, (2, 4)).astype(np.int32),
        "index": np.arange(2, dtype=np.int32),
        "seed": np.arange(2, dtype=np.int32) + seed,
    }
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.slow
def test_an_ssd(shuffle):
    """96 px, a few steps of training with the detector's own losses; every convolution of the file is int8."""
    tf_keras.utils.set_random_seed(0)
    small = ["backbone=mobilenet_v1", "backbone.depth_multiplier=0.25", "detector=ssd", "detector.size=[96,96]"]
    small.append("detector.neck.depth_multiplier=0.25")
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        detector = build.detector(hydra.compose("train", small), num_classes=3)
    shuffle(detector.model)
    detector.model = twin = fake_quant(detector.model, Spec(decay=0.9))
    members = {layer.name: layer.members for layer in twin.layers if isinstance(layer, FakeQuant)}
    assert members["codes/fake_quant"] == members["logits/fake_quant"] == 6, "six maps' boxes are concatenated"
    assert set(members.values()) == {1, 6}
    train(
        twin,
        lambda batch: tf.add_n(list(detector.losses(batch, training=True)[0].values())),
        [batch_of(96, seed) for seed in range(6)],
    )
    interpreter = convert(twin)
    assert check_kernels(twin, interpreter) == 27 + 8 + 12  # MobileNet, four extra maps, the predictors of six
    convolutions = [kind for name, kind, _ in operations(interpreter) if name in CONVOLUTIONS]
    assert set(convolutions) == {"int8"}
    check_outputs(twin, interpreter, batch_of(96, 99)["image"].numpy().astype(np.float32))
