"""The twin under `fit` and in a loop of one's own; what the evaluation graph is for."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError
from detect.quantization.calibrate import calibrate, check_ranges, evaluation_graph
from detect.quantization.callbacks import FakeQuantCallback, Phases
from detect.quantization.phases import SHIP, running
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import INT8, Spec
from tests.closeness import assert_same_steps


def snapshot(model):
    return {v.name: v.numpy() for v in model.variables}


def moved(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def targets(count=8):
    return {"classes": tf.one_hot(np.arange(count) % 5, 5), "hidden": tf.zeros([count, 6])}


def loss_of(model, images):
    outputs, wanted = model(images, training=True), targets(len(images))
    return sum(tf.reduce_mean((outputs[name] - wanted[name]) ** 2) for name in wanted)


SPECS = [INT8.over(30), replace(INT8, per_channel=False).over(30), Spec(4, 4, ranges="learned")]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_loop_of_ones_own_learns(convnet, images, spec):
    twin, optimizer = fake_quant(convnet, spec), tf_keras.optimizers.Adam(0.01)

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = loss_of(twin, images)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, twin.trainable_variables), twin.trainable_variables, strict=True)
        )
        return loss

    losses = [float(train()) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


def test_gradients_reach_every_variable(convnet, images):
    twin = fake_quant(convnet, Spec())
    with tf.GradientTape() as tape:
        loss = loss_of(twin, images)
    gradients = dict(
        zip([v.name for v in twin.trainable_variables], tape.gradient(loss, twin.trainable_variables), strict=True)
    )
    assert [name for name, g in gradients.items() if g is None or not np.isfinite(g).all()] == []
    idle = {name for name, g in gradients.items() if np.abs(g).max() < 1e-6 * np.abs(gradients["conv/kernel:0"]).max()}
    assert idle <= {"depthwise/bias:0", "separable/bias:0"}, "batch norm takes a bias away"


def test_phases_in_a_traced_loop(convnet, images):
    """Rounding from step 2, batch norm and ranges frozen from step 4 on, without a new trace."""
    twin = fake_quant(convnet, Spec(delay=2, freeze_bn=4, freeze_ranges=4))
    phases, traces = Phases(twin), []

    @tf.function
    def train(x):
        traces.append(1)
        return twin(x, training=True)["hidden"]

    rounded, kept = [], []
    for step in range(6):
        phases.step(step)
        before = snapshot(twin)
        values = np.unique(train(images + step))
        rounded.append(len(values) < 48)  # of 8 x 6 numbers in 256 steps some coincide, hidden ReLUs give many zeros
        low, high = (float(v) for v in twin.get_layer("hidden_relu/fake_quant").weights[:2])
        on_grid = np.abs(values / ((high - low) / 255) - np.round(values / ((high - low) / 255))).max()
        rounded[-1] = on_grid < 1e-2
        kept.append(not moved(before, snapshot(twin)))
    assert rounded == [False, False, True, True, True, True]
    assert kept == [False] * 4 + [True] * 2
    assert len(traces) == 1


@pytest.mark.slow
def test_fit_with_the_callback(convnet, images):
    """Twelve steps; the validation that was traced before the delay ended rounds after it."""
    twin = fake_quant(convnet, Spec(delay=4, freeze_bn=8, freeze_ranges=10))
    twin.compile(tf_keras.optimizers.Adam(1e-3), "mse")
    seen = []

    class Watch(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((snapshot(twin), len(np.unique(twin.predict(images, verbose=0)["classes"] * 256 % 1))))

    data = (images, targets())
    history = twin.fit(
        *data, batch_size=4, epochs=6, verbose=0, validation_data=data, callbacks=[FakeQuantCallback(), Watch()]
    )
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert [count == 1 for _, count in seen] == [False, False, True, True, True, True], "softmax in steps of 1/256"
    statistics = [{k: v for k, v in values.items() if "moving" in k} for values, _ in seen]
    ranges = [{k: v for k, v in values.items() if "/range_m" in k} for values, _ in seen]
    assert moved(statistics[2], statistics[3]) and not moved(statistics[3], statistics[5])
    assert moved(ranges[3], ranges[4]) and not moved(ranges[4], ranges[5])


@pytest.mark.slow
def test_a_second_fit_goes_on_with_the_steps(convnet, images):
    twin = fake_quant(convnet, Spec(delay=3))
    twin.compile("sgd", "mse")
    for _ in range(4):
        twin.fit(images, targets(), batch_size=8, verbose=0, callbacks=[FakeQuantCallback()])
    assert int(twin.get_layer("conv").range_step) >= 3


def test_what_goes_wrong_when_the_training_graph_is_scored(convnet, images):
    """Ranges and statistics move, and what an image gives depends on the batch that it is in."""
    twin = fake_quant(convnet, Spec())
    calibrate(twin, [images])
    first, alone = images[:4], images[:1]
    before = snapshot(twin)
    a, b = (twin(x, training=True)["hidden"][0].numpy() for x in (first, alone))
    changed = moved(before, snapshot(twin))
    assert {"conv_bn/moving_mean:0", "conv_bn/moving_variance:0", "relu6/fake_quant/range_max:0"} <= changed
    assert np.abs(a - b).max() > 0.1

    before = snapshot(twin)
    a, b = (twin(x, training=False)["hidden"][0].numpy() for x in (first, alone))
    assert moved(before, snapshot(twin)) == set()
    quantum = float(twin.get_layer("hidden_relu/fake_quant").range_max) / 255
    assert np.abs(a - b).max() <= 1.01 * quantum


def test_calibration_changes_ranges_alone(convnet, images):
    twin = fake_quant(convnet, Spec(delay=5))
    before = snapshot(twin)
    assert calibrate(twin, [images[:4], images[4:]]) == 2
    changed = moved(before, snapshot(twin))
    assert changed and all("/range_" in name and "range_step" not in name for name in changed)
    assert float(twin.get_layer("concat/fake_quant").range_seen[1]) == 2
    check_ranges(twin)


def test_calibration_of_parts(convnet, images):
    """A caller may run models that share the layers; what they do not reach is told."""
    twin = fake_quant(convnet, Spec())
    part = tf_keras.Model(twin.input, twin.get_layer("concat").output)
    with pytest.raises(ConfigError, match="alone/fake_quant: the range has seen no data"):
        calibrate(twin, [images], call=lambda x: part(x, training=False))


def test_calibration_without_data(convnet):
    with pytest.raises(DataError, match="calibration: there are no batches"):
        calibrate(fake_quant(convnet, Spec()), [])


def test_no_evaluation_before_ranges_have_seen_data(convnet, images):
    twin = fake_quant(convnet, Spec())
    with pytest.raises(ConfigError, match="scaling/fake_quant: the range has seen no data"):
        twin(images, training=False)
    with pytest.raises(ConfigError, match="scaling/fake_quant: the range has seen no data"):
        twin.predict(images, verbose=0)
    with pytest.raises(ConfigError, match="scaling/fake_quant: the range has seen no data"):
        evaluation_graph(twin)


def test_no_evaluation_graph_of_a_range_that_is_not_finite(convnet, images):
    twin = fake_quant(convnet, Spec())
    calibrate(twin, [images])
    twin.get_layer("added/fake_quant").range_max.assign(float("nan"))
    with pytest.raises(ConfigError, match=r"added/fake_quant: the range is \[0.0, nan\]"):
        evaluation_graph(twin)


def test_no_evaluation_graph_of_a_float_model_or_within_the_delay(convnet, images):
    with pytest.raises(ConfigError, match="convnet is not fake-quantised"):
        evaluation_graph(convnet)
    twin = fake_quant(convnet, Spec(delay=4))
    calibrate(twin, [images])
    with pytest.raises(ConfigError, match="convnet is at step 0 of a delay of 4"):
        evaluation_graph(twin)
    Phases(twin).step(4)
    graph = evaluation_graph(twin, batch_size=None)
    with running(twin, SHIP):  # sums of fractions, for the converter: some values go to the other step
        expected = twin(images, training=False)
    for ours, theirs in zip(tf.nest.flatten(graph(images)), tf.nest.flatten(expected), strict=True):
        assert_same_steps(ours, theirs)


def test_a_resumed_run_has_the_same_number_of_its_phase(convnet):
    """Bits of a saved state do not depend on where a run was interrupted."""
    spec = Spec(delay=2, freeze_bn=4, freeze_ranges=6)
    numbers = []
    for begins in ([0, 1, 2, 3, 4, 5], [3, 5], [5]):
        twin = fake_quant(convnet, spec)
        phases = Phases(twin)
        for step in begins:
            phases.step(step)
        numbers.append(int(twin.get_layer("conv").range_step))
    assert numbers == [4, 4, 4]
