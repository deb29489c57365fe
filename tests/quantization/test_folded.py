"""Folding of batch norm: equality with the float model, and the corrections of training in numbers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.quantization.calibrate import calibrate
from detect.quantization.callbacks import Phases
from detect.quantization.folded import Folded
from detect.quantization.rewrite import fake_quant
from detect.quantization.rounding import kernel_steps, round_kernel
from detect.quantization.spec import Spec
from tests.closeness import assert_same_outputs

layers = tf_keras.layers
FLOAT = Spec(delay=10**6)  # folds, and never rounds


@pytest.mark.parametrize("which", ["convnet", "plain_convnet"])
def test_folded_evaluation_equals_the_float_model(which, images, request):
    model = request.getfixturevalue(which)
    twin = fake_quant(model, FLOAT)
    calibrate(twin, [images])
    assert_same_outputs(twin(images, training=False), model(images, training=False))


def test_training_without_rounding_equals_the_float_model(convnet, images):
    """Outputs, gradients and the moving statistics that one step leaves."""
    twin = fake_quant(convnet, FLOAT)
    gradients = []
    for model in (twin, convnet):
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            loss = tf.reduce_sum(outputs["hidden"] ** 2) + tf.reduce_sum(outputs["classes"] ** 2)
        names = [v.name for v in model.trainable_variables]
        gradients.append(dict(zip(names, tape.gradient(loss, model.trainable_variables), strict=True)))
        convnet_outputs = outputs if model is convnet else None
    assert_same_outputs(twin(images, training=True), convnet_outputs)
    assert gradients[0].keys() == gradients[1].keys()
    scale = max(np.abs(g).max() for g in gradients[1].values())
    for name, gradient in gradients[1].items():  # some are 0 but for rounding: a bias before a batch norm moves nothing
        np.testing.assert_allclose(gradients[0][name], gradient, atol=1e-4 * scale, err_msg=name)


def test_moving_statistics_follow_as_in_keras(convnet, images):
    twin = fake_quant(convnet, FLOAT)
    for model in (twin, convnet):
        model(images, training=True)
    theirs = {v.name: v.numpy() for v in convnet.variables if "moving" in v.name}
    ours = {v.name: v.numpy() for v in twin.variables if v.name in theirs}
    assert len(theirs) == 10
    for name, value in theirs.items():
        assert_same_outputs(ours[name], value, name)


def folded_dense(**changes):
    """W [4, 3] with gamma, beta and statistics, and a batch."""
    random = np.random.default_rng(0)
    norm = layers.BatchNormalization(epsilon=0.25, momentum=0.9, name="norm")
    layer = Folded(Spec(**changes), layers.Dense(3, use_bias=False, name="dense"), norm, name="dense")
    layer.build([None, 4])
    values = {
        "kernel": random.normal(size=(4, 3)),
        "gamma": random.uniform(0.5, 2, 3),
        "beta": random.normal(size=3),
        "moving_mean": random.normal(size=3),
        "moving_variance": random.uniform(0.5, 2, 3),
    }
    for variable in layer.variables:
        name = variable.name.rpartition("/")[2].partition(":")[0]
        if name in values:
            variable.assign(values[name])
    return layer, {k: v.astype(np.float32) for k, v in values.items()}, random.normal(size=(7, 4)).astype(np.float32)


def quantised(v):
    return round_kernel(v["kernel"] * v["gamma"] / np.sqrt(v["moving_variance"] + 0.25), 8, True).numpy()


def test_correction_in_numbers():
    """y = x Q(W gamma / sigma_moving) sigma_moving / sigma_batch + beta - gamma mu_batch / sigma_batch."""
    layer, v, x = folded_dense()
    plain = x @ v["kernel"]
    mean, sigma = plain.mean(0), np.sqrt(plain.var(0) + 0.25)
    moving = np.sqrt(v["moving_variance"] + 0.25)
    expected = x @ quantised(v) * moving / sigma + v["beta"] - v["gamma"] * mean / sigma
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.9 * v["moving_mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 * v["moving_variance"] + 0.1 * plain.var(0), rtol=1e-5)


@pytest.mark.parametrize("how", ["from the start", "from a step on", "not trainable", "evaluation"])
def test_frozen_in_numbers(how):
    """y = x Q(W gamma / sigma_moving) + beta - gamma mu_moving / sigma_moving, and the statistics stay."""
    layer, v, x = folded_dense(freeze_bn={"from the start": 0, "from a step on": 5}.get(how))
    if how == "from a step on":
        layer.range_step.assign(5)
    layer.trainable = how != "not trainable"
    moving = np.sqrt(v["moving_variance"] + 0.25)
    expected = x @ quantised(v) + v["beta"] - v["gamma"] * v["moving_mean"] / moving
    np.testing.assert_allclose(layer(x, training=how != "evaluation"), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, v["moving_mean"])
    np.testing.assert_array_equal(layer.moving_variance, v["moving_variance"])


def test_gamma_and_beta_learn_when_frozen():
    layer, _, x = folded_dense(freeze_bn=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    variables = layer.trainable_variables
    gradients = dict(zip([v.name for v in variables], tape.gradient(loss, variables), strict=True))
    assert set(gradients) == {"dense/kernel:0", "norm/gamma:0", "norm/beta:0"}
    assert all(np.abs(g).min() > 0 for g in gradients.values())


def test_a_step_ahead_of_freeze_bn_in_a_traced_function(convnet, images):
    twin = fake_quant(convnet, Spec(freeze_bn=1))
    train, phases = tf.function(lambda x: twin(x, training=True)), Phases(twin)
    values = []
    for step in range(3):
        phases.step(step)
        train(images)
        values.append(twin.get_layer("conv").moving_variance.numpy())
    assert (values[0] == values[1]).all() and (values[1] == values[2]).all()
    assert (values[0] != convnet.get_layer("conv_bn").moving_variance.numpy()).all()


def test_depthwise_kernels_have_a_scale_for_each_channel(convnet):
    """Also where a channel has several kernels."""
    convnet.get_layer("depthwise").depthwise_kernel.assign_add(np.full((3, 3, 8, 2), 3.0))
    for per_channel, values in ((True, 1), (False, 0)):
        twin = fake_quant(convnet, dataclasses.replace(Spec(), per_channel=per_channel))
        layer = twin.get_layer("depthwise")
        folded = layer.folded_kernel().numpy().reshape(9, 16)
        rounded = layer.rounded_kernels()[0].numpy().reshape(9, 16)
        largest = np.abs(folded).max(axis=0)
        exact = np.isclose(np.abs(rounded).max(axis=0), largest, rtol=1e-6)
        assert exact.all() == bool(values), "each channel's largest weight is on its own grid only"


def test_what_the_loop_asks_of_a_batch_norm(convnet):
    """Its decay and statistics, in order to set the one and estimate the others anew."""
    twin = fake_quant(convnet, Spec())
    assert [layer.name for layer in twin.layers if hasattr(layer, "moving_variance")] == [
        *("conv", "depthwise", "separable", "alone", "hidden"),
    ]
    twin.get_layer("conv").momentum = 0.5
    assert twin.get_layer("conv").norm.momentum == 0.5


def test_a_bias_is_a_whole_number_of_input_steps_times_kernel_steps():
    """An image's step is 1, and that of a kernel whose largest value is 1.27 is .01: .304 becomes .30."""
    image = tf_keras.Input((2, 2, 1), name="image")
    conv = tf_keras.layers.Conv2D(1, 1, name="conv", kernel_initializer=tf_keras.initializers.Constant(1.27))
    model = tf_keras.Model(image, conv(image))
    conv.bias.assign([0.304])
    twin = fake_quant(model, Spec(ranges="calibrated"))
    calibrate(twin, [np.array([0, 255, 3, 5], np.float32).reshape(1, 2, 2, 1)])
    folded = twin.get_layer("conv")
    source, _ = folded.steps(0)
    assert float(source()) == pytest.approx(1.0)
    assert float(folded._rounded_bias(folded.folded_bias(), source)[0]) == pytest.approx(0.30, abs=1e-6)
    twin.get_layer("conv/fake_quant").range_max.assign(2.55)  # steps of .01
    twin.get_layer("conv/fake_quant").range_min.assign(0.0)
    assert float(twin(np.zeros((1, 2, 2, 1), np.float32), training=False)[0, 0, 0, 0]) == pytest.approx(0.30, abs=1e-6)
    assert float(twin(np.ones((1, 2, 2, 1), np.float32), training=False)[0, 0, 0, 0]) == pytest.approx(1.57, abs=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_graph_has_the_bits_of_single_operations(convnet, images, per_channel):
    """These are those of the file. An optimiser of graphs turns divisions by constants and by roots into products."""
    twin = fake_quant(convnet, Spec(per_channel=per_channel))
    calibrate(twin, [images])
    random = np.random.default_rng(0)
    for variable in twin.variables:
        if variable.name.split("/")[-1].startswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.1, 3.0, variable.shape))
    for layer in (layer for layer in twin.layers if isinstance(layer, Folded)):
        kernel = layer.folded_kernel()
        numbers = [layer.folded_kernel, layer.folded_bias, lambda k=kernel: kernel_steps(k, 8, per_channel)]
        numbers += [step for step in layer.steps(0) if step is not None]
        for number in numbers:
            np.testing.assert_array_equal(tf.function(number, autograph=False)(), number(), err_msg=layer.name)
