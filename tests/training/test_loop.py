"""The loop: NaN stops it with the batch saved, averages are scored, early stop ends it."""

import gc
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, UserError
from detect.modeling.interface import Losses
from detect.reporting.logger import RunLogger, read_metrics
from detect.runs.folder import RunFolder
from detect.training.hooks import Checkpointing, EarlyStop, Evaluation, Logging
from detect.training.loop import Fit, Hook, Interrupted
from detect.training.schedule import Schedule
from detect.training.trainer import Trainer

SGD = tf_keras.optimizers.SGD


class Line:
    """A meta-architecture of one weight that learns to be the mean of `image`."""

    def __init__(self):
        x = tf_keras.Input((1,))
        self.model = tf_keras.Model(x, tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(x))

    def losses(self, batch, training=True):
        return Losses({"square": tf.reduce_mean((self.model(tf.ones((1, 1))) - batch["image"]) ** 2)}, {}, tf.ones(()))

    @property
    def weight(self) -> float:
        return float(self.model.weights[0].numpy()[0, 0])


class Numbers:
    """A stream whose batch at a step is [step], or NaN at `bad`."""

    def __init__(self, bad=None):
        self.bad = bad

    def batch(self, step):
        value = math.nan if step == self.bad else float(step)
        return {"image": np.array([[value]], np.float32), "index": np.array([step], np.int32)}

    def iterate(self, start_step=0, steps=None):
        step = start_step
        while True:
            yield self.batch(step)
            step += 1


@pytest.fixture
def as_dataset(monkeypatch):
    stream_as_dataset(monkeypatch)


def stream_as_dataset(monkeypatch):
    def to_tf(stream, start_step):
        signature = {"image": tf.TensorSpec((1, 1), tf.float32), "index": tf.TensorSpec((1,), tf.int32)}
        options = tf.data.Options()
        options.autotune.enabled = False  # else the end of an old iterator takes up to a minute
        dataset = tf.data.Dataset.from_generator(lambda: stream.iterate(start_step), output_signature=signature)
        return dataset.with_options(options)

    monkeypatch.setattr("detect.training.distribution.to_tf", to_tf)


def schedule(**settings):
    values = {"steps": 6, "batch_size": 1, "optimizer": SGD, "rate": 0.1, "decay": "constant", "weight_decay": 0.0,
              "ema_decay": 0.0, "evaluate_every": 2, "checkpoint_every": 2, "log_every": 1}  # fmt: skip
    return Schedule(**values | settings)


class Scored(Evaluation):
    """Scores a step by a function of its number."""

    def __init__(self, every, function):
        super().__init__(every)
        self.function = function

    def score(self, fit):
        return self.function(fit.step)


def run(folder, plan, stream=None, evaluate=float, hooks=(), reads_each=None):
    line, evaluation = Line(), Scored(plan.evaluate_every, evaluate)
    trainer = Trainer(line, plan, stream or Numbers(), reads_each=reads_each)
    stop = [EarlyStop(plan.patience, evaluation)] if plan.patience else []
    order = [Logging(plan.log_every), evaluation, *stop, *hooks, Checkpointing(plan.checkpoint_every)]
    with RunLogger(folder, plan.steps, "line", console=False) as logger:
        outcome = Fit(
            trainer, plan, RunFolder(folder.parent).stage(folder.name), logger, order, lambda i: f"image-{i}"
        ).run()
    return line, trainer, outcome | {"best": evaluation.best, "best_step": evaluation.best_step}


def test_constant_rate_by_hand(as_dataset, tmp_path):
    line, _, outcome = run(tmp_path, schedule(steps=3))
    # w <- w - .1 * 2 (w - x) for x = 0, 1, 2: 0, .2, .2 + .2 * 1.8
    assert line.weight == pytest.approx(0.56)
    assert outcome["steps"] == 3 and outcome["best_step"] == 3


@pytest.mark.parametrize("reads_each", [True, False])
def test_nan_stops_saves_the_batch_and_names_the_images(as_dataset, tmp_path, reads_each):
    """Also where the figures of many steps are read at once, the step is the first one that is not finite."""
    plan = schedule(evaluate_every=4, checkpoint_every=4, log_every=4)
    with pytest.raises(UserError, match=r"step 5: .*loss/total.*image-4") as error:
        run(tmp_path, plan, Numbers(bad=4), reads_each=reads_each)
    (saved,) = tmp_path.glob("diverged_at_5.npz")
    assert str(saved) in str(error.value)
    assert np.isnan(np.load(saved)["image"]).all()
    assert tf.train.latest_checkpoint(str(tmp_path / "last")).endswith("-4")
    assert f"The last state before it is in {tmp_path / 'last'}." in str(error.value)


@pytest.mark.parametrize(
    ("stage", "key"), [("classify", "classify.schedule"), ("detector", "schedule"), ("quantized", "quantize.schedule")]
)
def test_the_schedule_that_is_to_be_changed_is_that_of_the_stage(as_dataset, tmp_path, stage, key):
    """A run that resumes keeps its rate, and takes the same step again: only a new run can do better."""
    told = rf"start a new run with a lower {key}\.rate, or with a lower {key}\.clip_norm than 10\."
    with pytest.raises(UserError, match=told) as error:
        run(tmp_path / stage, schedule(), Numbers(bad=1))
    assert "last" not in str(error.value), "no state is saved yet"
    with pytest.raises(UserError, match=rf"or with {key}\.clip_norm=10, which is null now"):
        run(tmp_path / "plain" / stage, schedule(clip_norm=None), Numbers(bad=1))


def test_what_continues_a_run_is_what_started_it(as_dataset, tmp_path, caplog):
    for name, wanted in (("by python", "the same call of Python, with the folder"), ("a b", "detect train 'resume=")):
        if name == "a b":
            (tmp_path / name / ".hydra").mkdir(parents=True)
        with pytest.raises(Interrupted):
            run(tmp_path / name / "detector", schedule(), hooks=[Recorder(interrupt_at=1)])
        assert f"continue with: {wanted}" in caplog.text
        caplog.clear()


def test_figures_that_are_read_late_are_the_same(as_dataset, tmp_path):
    plan = schedule(steps=6, log_every=3, evaluate_every=3)
    one, *_ = run(tmp_path / "one", plan, reads_each=True)
    two, *_ = run(tmp_path / "two", plan, reads_each=False)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    measured = {"time", "images_per_second", "data_wait_share", "memory_mb"}
    kept = [[{k: v for k, v in row.items() if k not in measured} for row in each] for each in rows]
    assert kept[0] == kept[1] and len(kept[0]) == 4 and one.weight == two.weight


def test_early_stop_and_best(as_dataset, tmp_path):
    values = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.9}
    _, trainer, outcome = run(tmp_path, schedule(steps=20, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 8 and outcome["best"] == 0.5 and outcome["best_step"] == 4


def test_resume_continues_bit_for_bit_and_keeps_the_best(as_dataset, tmp_path):
    whole, _, _ = run(tmp_path / "whole", schedule(optimizer=tf_keras.optimizers.AdamW, ema_decay=0.5))
    plan = schedule(optimizer=tf_keras.optimizers.AdamW, ema_decay=0.5)
    with pytest.raises(RuntimeError, match="power"):

        def cut(step):
            if step == 4:
                raise RuntimeError("power")
            return 9.0 - step

        run(tmp_path / "cut", plan, evaluate=cut)
    resumed, trainer, outcome = run(tmp_path / "cut", plan, evaluate=lambda step: 9.0 - step)
    assert resumed.weight == whole.weight and trainer.step == 6
    assert outcome["best"] == 7.0 and outcome["best_step"] == 2


@pytest.mark.parametrize("step", [4, 6])
def test_a_kill_while_the_weights_are_scored_loses_no_step(as_dataset, tmp_path, caplog, step):
    caplog.set_level("INFO", "detect")

    def killed(number):
        if number == step:
            raise RuntimeError("killed")
        return SCORES[number]

    whole, _, expected = run(tmp_path / "whole", schedule(checkpoint_every=6), evaluate=SCORES.__getitem__)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", schedule(checkpoint_every=6), evaluate=killed)
    line, _, outcome = run(tmp_path / "cut", schedule(checkpoint_every=6), evaluate=SCORES.__getitem__)
    assert f"resumed at step {step}" in caplog.text
    assert line.weight == whole.weight and outcome["best"] == expected["best"]
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_figures_of_a_long_interval_are_read_in_parts(as_dataset, monkeypatch):
    """All their batches stay in memory until then."""
    lengths, read = [], Trainer._read
    monkeypatch.setattr(Trainer, "_read", lambda self, unread: lengths.append(len(unread)) or read(self, unread))
    plan = schedule(steps=25)
    late, each = (Trainer(Line(), plan, Numbers(), reads_each=reads).train(25) for reads in (False, True))
    assert lengths[:3] == [10, 10, 5] and late["loss/total"] == each["loss/total"]


def test_a_kill_after_a_hook_ended_the_stage_loses_no_score(as_dataset, tmp_path):
    class Ended(Hook):
        def __init__(self, killed):
            self.killed = killed

        def after_steps(self, fit, scalars):
            fit.stop("enough")

        def end(self, fit):
            if self.killed:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, schedule(), hooks=[Ended(True)])
    _, trainer, outcome = run(tmp_path, schedule(), hooks=[Ended(False)])
    assert trainer.step == 1 and outcome["best"] == 1.0 and outcome["best_step"] == 1


def test_a_stop_before_a_step_and_a_signal_lose_no_step(as_dataset, tmp_path):
    """The stage ends at the next stop, step 4, also if a signal ends the program at step 2."""

    class Ending(Hook):
        def __init__(self, signal):
            self.signal = signal

        def before_step(self, fit, step):
            if step == 1:
                fit.stop("enough")
                fit.trainer.interrupted = self.signal

    plan = schedule(log_every=4, evaluate_every=4, checkpoint_every=4)
    whole, trainer, expected = run(tmp_path / "whole", plan, hooks=[Ending(False)])
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", plan, hooks=[Ending(True)])
    line, resumed, outcome = run(tmp_path / "cut", plan, hooks=[Ending(False)])
    assert trainer.step == resumed.step == 4 and line.weight == whole.weight
    assert outcome["best_step"] == expected["best_step"] == 4
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert run(tmp_path / "cut", plan)[1].step == 4, "it stays ended"


def test_a_signal_at_the_last_step_of_another_worker_ends_the_run(as_dataset, tmp_path, monkeypatch):
    def told(trainer):
        trainer.interrupted = True

    monkeypatch.setattr(Trainer, "settle", told)
    with pytest.raises(Interrupted):
        run(tmp_path, schedule())
    assert Trainer(Line(), schedule(), Numbers()).interrupted is False


def test_the_weight_average_is_scored_and_the_weights_go_on(as_dataset, tmp_path):
    seen = {}
    line, trainer = Line(), None
    plan = schedule(steps=2, ema_decay=0.5)
    trainer = Trainer(line, plan, Numbers())
    trainer.train(2)
    with trainer.averaged_weights():
        seen["average"] = line.weight
    # weights after the steps: 0, .2; the average starts at 0: .5 * 0 + .5 * .2
    assert line.weight == pytest.approx(0.2)
    assert seen["average"] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [SGD, tf_keras.optimizers.AdamW, tf_keras.optimizers.RMSprop])
def test_the_weights_never_become_their_average(as_dataset, kind):
    """RMSprop of tf_keras sets them to it at each hundredth step."""
    plain, averaged = (Line(), Line())
    for line, decay in ((plain, 0.0), (averaged, 0.99)):
        Trainer(line, schedule(steps=130, optimizer=kind, rate=1e-3, ema_decay=decay), Numbers()).train(130)
    assert plain.weight == averaged.weight != 0


class Normed(Line):
    """As Line, with batch norm of the image before the weight."""

    def __init__(self):
        x = tf_keras.Input((1,))
        self.norm = tf_keras.layers.BatchNormalization(momentum=0.5)
        self.model = tf_keras.Model(x, self.norm(x))

    def losses(self, batch, training=True):
        return Losses({"one": tf.reduce_sum(self.model(batch["image"], training=training))}, {}, tf.ones(()))

    @property
    def mean(self) -> float:
        return float(self.norm.moving_mean.numpy()[0])


@pytest.mark.parametrize(("accumulate", "trained", "next_four"), [(1, 0.5, [2, 3, 4, 5]), (2, 2.125, [4, 5, 6, 7])])
def test_statistics_that_are_measured_for_a_scoring_do_not_change_the_training(
    as_dataset, accumulate, trained, next_four
):
    """They are of the batches that would come next: those of the start may be mixed, when the present ones are not."""
    net = Normed()
    trainer = Trainer(net, schedule(accumulate=accumulate), Numbers())
    trainer.train(2)
    before = [variable.numpy() for variable in net.model.variables]
    assert net.mean == pytest.approx(trained)  # of the images 0 and 1: 0, then .5 * 0 + .5 * 1; then 1.25 and 2.125
    with trainer.measured_statistics(4):
        assert net.mean == pytest.approx(np.mean(next_four))
    for value, after in zip(before, net.model.variables, strict=True):
        np.testing.assert_array_equal(value, after.numpy())
    with trainer.measured_statistics(0):
        assert net.mean == pytest.approx(trained)


def test_the_loss_that_float16_scales_does_not_grow_with_the_batch(as_dataset, eager, monkeypatch):
    """Each of two batches has 50 matches: the sums are over all matches, and are divided by the images of a step."""

    class Matches(Line):
        def losses(self, batch, training=True):
            return super().losses(batch)._replace(count=tf.constant(50.0))

    scaled, plain = Matches(), Matches()
    Trainer(plain, schedule(accumulate=2), Numbers()).train(2)
    monkeypatch.setattr("detect.training.trainer.needs_loss_scale", lambda model: True)
    trainer, seen = Trainer(scaled, schedule(accumulate=2), Numbers()), []
    scale = trainer.optimizer.get_scaled_loss
    monkeypatch.setattr(trainer.optimizer, "get_scaled_loss", lambda loss: seen.append(float(loss)) or scale(loss))
    trainer.train(2)
    # The losses of images 0 and 1 are 0 and 1. The weight is then .1: (2 - .1)^2 and (3 - .1)^2.
    assert seen == pytest.approx([value * 50 / 2 for value in (0, 1, 1.9**2, 2.9**2)])
    assert scaled.weight == pytest.approx(plain.weight)


def test_no_batch_is_read_for_statistics_that_are_frozen():
    class Unread(Numbers):
        def batch(self, step):
            pytest.fail("read")

    frozen = Normed()
    frozen.norm.trainable = False
    for net in (frozen, Line()):
        with Trainer(net, schedule(), Unread()).measured_statistics(4):
            pass


@pytest.mark.parametrize(("decay", "step", "rate"), [("cosine", 5, 0.05), ("step", 7, 0.01), ("constant", 9, 0.1)])
def test_schedules_by_hand(decay, step, rate):
    plan = schedule(steps=10, decay=decay, step_at=(0.6,))
    assert float(plan.learning_rate()(step)) == pytest.approx(rate)


def test_warmup_is_linear():
    rate = schedule(steps=100, warmup=10).learning_rate()
    assert [float(rate(step)) for step in (0, 5, 10)] == pytest.approx([0.0, 0.05, 0.1])


def test_weight_decay_leaves_biases_and_norms_alone():
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,)), tf_keras.layers.BatchNormalization()])
    for weight in model.weights:
        weight.assign(tf.ones_like(weight))
    optimizer = schedule(weight_decay=0.5).build_optimizer()
    optimizer.build(model.trainable_variables)
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
    values = {v.name.rsplit("/", 1)[-1]: float(v.numpy().ravel()[0]) for v in model.trainable_variables}
    assert values == pytest.approx({"kernel:0": 0.95, "bias:0": 1.0, "gamma:0": 1.0, "beta:0": 1.0})


def test_freeze_until_and_frozen_batch_norm():
    layers = tf_keras.layers
    x = tf_keras.Input((4, 4, 3))
    y = layers.BatchNormalization(name="b")(layers.Conv2D(2, 1, name="a")(x))
    model = tf_keras.Model(x, layers.BatchNormalization(name="d")(layers.Conv2D(2, 1, name="c")(y)))
    network = SimpleNamespace(model=model, input_sources={})
    schedule(freeze_until="b", steps=1000).prepare(network)
    assert {layer.name for layer in model.layers if layer.trainable and layer.weights} == {"c", "d"}
    assert model.get_layer("d").momentum == pytest.approx(0.99)
    schedule(batch_norm="frozen").prepare(network)
    assert {layer.name for layer in model.layers if layer.trainable and layer.weights} == {"a", "c"}


class Recorder(Hook):
    """A hook of one's own: what it was told, and a number that a resumed run knows again."""

    def __init__(self, every=None, interrupt_at=None, stop_at=None):
        self.every, self.interrupt_at, self.stop_at = every, interrupt_at, stop_at
        self.count, self.seen = tf.Variable(0, trainable=False), []

    def state(self):
        return {"recorder_count": self.count}

    def begin(self, fit):
        self.seen.append(f"begin {fit.step}")

    def before_step(self, fit, step):
        self.count.assign_add(1)
        fit.trainer.interrupted = step + 1 == self.interrupt_at

    def after_steps(self, fit, scalars):
        self.seen.append(f"{fit.step}: {scalars['loss/total']:.2f}" + " due" * fit.due(self.every))
        if fit.step == self.stop_at:
            fit.stop("enough")

    def end(self, fit):
        self.seen.append(f"end {fit.step}")


def test_a_hook_sees_every_stop_and_knows_when_it_is_due(as_dataset, tmp_path):
    recorder = Recorder(every=3)
    run(tmp_path, schedule(steps=4, log_every=2, evaluate_every=4, checkpoint_every=4), hooks=[recorder])
    # Stops: 2 (log), 3 (the recorder), 4 (all). Losses of steps 1 to 4 by hand: 0, 1, (2 - .2)^2, (3 - .56)^2.
    assert recorder.seen == ["begin 0", "2: 0.50", "3: 3.24 due", "4: 5.95 due", "end 4"]


UNLIKE = {"time", "images_per_second", "data_wait_share", "memory_mb"}  # figures of the machine
PLAN = {"steps": 9, "log_every": 3, "evaluate_every": 4, "checkpoint_every": 5, "optimizer": tf_keras.optimizers.AdamW}
SCORES = (0, 0.1, 0.2, 0.3, 0.9, 0.4, 0.5, 0.6, 0.7, 0.8)  # of each step; the best is one that a lost evaluation drops


class Shown(Scored):
    """It writes a row, as the evaluations of the stages do."""

    def score(self, fit):
        fit.logger.evaluation(fit.step, {"score": self.function(fit.step)}, "")
        return self.function(fit.step)


def rows(folder):
    return [{k: v for k, v in row.items() if k not in UNLIKE} for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        stream_as_dataset(patch)
        patch.setattr("tests.training.test_loop.Scored", Shown)
        line, _, outcome = run(folder, schedule(**PLAN, ema_decay=0.5), evaluate=SCORES.__getitem__)
    return line.weight, rows(folder), outcome, (folder / "best.data-00000-of-00001").read_bytes()


@pytest.mark.parametrize("step", range(1, 10))
def test_a_signal_after_any_step_loses_no_work_that_is_due(uninterrupted, as_dataset, monkeypatch, tmp_path, step):
    monkeypatch.setattr("tests.training.test_loop.Scored", Shown)
    plan = schedule(**PLAN, ema_decay=0.5)
    with pytest.raises(Interrupted):
        run(tmp_path, plan, evaluate=SCORES.__getitem__, hooks=[Recorder(interrupt_at=step)])
    line, _, outcome = run(tmp_path, plan, evaluate=SCORES.__getitem__, hooks=[Recorder()])
    weight, expected, whole, best = uninterrupted
    assert line.weight == weight and rows(tmp_path) == expected
    assert (outcome["best"], outcome["best_step"]) == (whole["best"], whole["best_step"]) == (0.9, 4)
    assert (tmp_path / "best.data-00000-of-00001").read_bytes() == best


@pytest.mark.parametrize("step", [3, 4, 5, 6, 8, 9])
def test_a_signal_during_the_work_after_a_step_loses_nothing(uninterrupted, as_dataset, monkeypatch, tmp_path, step):
    class DuringWork(Hook):
        def after_steps(self, fit, scalars):
            fit.trainer.interrupted = fit.step == step

    monkeypatch.setattr("tests.training.test_loop.Scored", Shown)
    plan = schedule(**PLAN, ema_decay=0.5)
    with pytest.raises(Interrupted):
        run(tmp_path, plan, evaluate=SCORES.__getitem__, hooks=[DuringWork()])
    line, _, _ = run(tmp_path, plan, evaluate=SCORES.__getitem__)
    assert line.weight == uninterrupted[0] and rows(tmp_path) == uninterrupted[1]


def test_the_state_of_a_hook_is_saved_and_restored(as_dataset, tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, schedule(), hooks=[Recorder(interrupt_at=3)])
    recorder = Recorder()
    run(tmp_path, schedule(), hooks=[recorder])
    assert recorder.seen[0] == "begin 3" and int(recorder.count) == 6


def test_the_images_of_a_large_batch_that_diverged_are_in_its_file(as_dataset, tmp_path):
    with pytest.raises(UserError, match=r"its images: image-0, .*image-15 and 24 more\. ") as error:
        run(tmp_path, schedule(accumulate=40), Numbers(bad=0))
    assert "image-16" not in str(error.value)
    assert np.load(tmp_path / "diverged_at_1.npz")["names"].tolist() == [f"image-{i}" for i in range(40)]


@pytest.mark.parametrize("every", [0, -3, 0.5])
def test_an_interval_that_no_step_has_is_refused(as_dataset, tmp_path, every):
    with pytest.raises(ConfigError, match=rf"Recorder\.every={every}: legal are whole numbers of 1 or more, and None"):
        run(tmp_path, schedule(), hooks=[Recorder(every=every)])


@pytest.mark.parametrize("names", [("count", "count"), ("best",), ("model",), ("seconds",)])
def test_the_state_of_a_hook_never_replaces_another_one(as_dataset, tmp_path, names):
    class Counts(Hook):
        def __init__(self, name):
            self.name = name

        def state(self):
            return {self.name: tf.Variable(0)}

    with pytest.raises(
        ConfigError, match=rf"Counts\.state\(\) has the name {names[-1]}, .* legal are names that are not"
    ):
        run(tmp_path, schedule(), hooks=[Counts(name) for name in names])


def test_a_hook_can_end_a_stage(as_dataset, tmp_path):
    recorder = Recorder(stop_at=2)
    _, trainer, outcome = run(tmp_path, schedule(), hooks=[recorder])
    assert trainer.step == outcome["steps"] == 2 and recorder.seen[-1] == "end 2"
    assert tf.train.latest_checkpoint(str(tmp_path / "last")).endswith("-2")


def test_a_stage_that_a_hook_ends_before_the_first_evaluation_has_best_weights(as_dataset, tmp_path):
    _, _, outcome = run(tmp_path, schedule(evaluate_every=6, log_every=1), hooks=[Recorder(stop_at=1)])
    assert outcome["best_step"] == 1 and outcome["best"] == 1.0
    assert (tmp_path / "best.index").exists()
    run(tmp_path / "none", schedule(evaluate_every=6), evaluate=lambda step: None, hooks=[Recorder(stop_at=1)])
    assert (tmp_path / "none" / "best.index").exists()


def test_hooks_are_called_in_their_order(as_dataset, tmp_path):
    calls = []

    class Named(Hook):
        def __init__(self, name):
            self.name = name

        def after_steps(self, fit, scalars):
            calls.append(self.name)

    run(tmp_path, schedule(steps=2, log_every=2), hooks=[Named("a"), Named("b")])
    assert calls == ["a", "b"]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if row["kind"] == "train"] == [2]


def test_a_longer_schedule_goes_on_from_the_end(as_dataset, tmp_path):
    run(tmp_path, schedule(steps=4))
    _, trainer, outcome = run(tmp_path, schedule(steps=8))
    assert trainer.step == outcome["steps"] == 8
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 9))


def test_a_run_without_an_average_of_its_own_goes_on_with_one(as_dataset, tmp_path):
    """Up to 10 steps, the decay that suits them is 0."""
    run(tmp_path, schedule(steps=4, ema_decay=None))
    _, trainer, outcome = run(tmp_path, schedule(steps=20, ema_decay=None))
    assert trainer.step == outcome["steps"] == 20


def test_more_patience_undoes_an_early_end(as_dataset, tmp_path):
    values = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.9, 12: 0.1}
    _, trainer, _ = run(tmp_path, schedule(steps=12, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 8
    _, trainer, _ = run(tmp_path, schedule(steps=12, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 8, "the end of the stage belongs to its state"
    _, trainer, outcome = run(tmp_path, schedule(steps=12, patience=3), evaluate=values.__getitem__)
    assert trainer.step == 12 and outcome["best"] == 0.9


def test_more_steps_undo_an_early_end(as_dataset, tmp_path):
    values = dict.fromkeys(range(2, 22, 2), 0.1) | {2: 0.5, 14: 0.9}
    _, trainer, _ = run(tmp_path, schedule(steps=12, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 6
    _, trainer, outcome = run(tmp_path, schedule(steps=20, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 10, "it waits for as many evaluations again"
    values |= {12: 0.7}
    _, trainer, outcome = run(tmp_path, schedule(steps=21, patience=2), evaluate=values.__getitem__)
    assert trainer.step == 18 and outcome["best"] == 0.9


@pytest.mark.parametrize(
    ("steps", "drawn"),
    [(100, [100]), (250, [100, 200, 250]), (5000, [100, 600, 1100, 1700, 2200, 2800, 3300, 3900, 4400, 5000])],
)
def test_pictures_of_the_first_and_the_last_evaluation_and_of_some_between_them(steps, drawn):
    """TensorBoard shows ten of a tag. A user sees the first ones after the first evaluation."""
    evaluation, stops = Scored(100, float), [*range(100, steps, 100), steps]
    plan = SimpleNamespace(steps=steps, patience=None)
    fits = (SimpleNamespace(step=step, schedule=plan, stopping=None) for step in stops)
    assert [fit.step for fit in fits if evaluation.draws(fit, 0.5)] == drawn
    plan = SimpleNamespace(steps=5000, patience=None)
    assert evaluation.draws(SimpleNamespace(step=300, schedule=plan, stopping="a hook"), 0.5)


def test_pictures_of_an_evaluation_that_ends_the_stage(as_dataset, monkeypatch, tmp_path):
    """`patience` ends it after the evaluation."""

    class Drawn(Scored):
        def score(self, fit):
            value = self.function(fit.step)
            drawn.append((fit.step, self.draws(fit, value)))
            return value

    drawn, values = [], {1: 0.5, 2: 0.4, 3: None, 4: 0.9, 5: 0.9, 6: 0.8, 7: 1.0}
    monkeypatch.setattr("tests.training.test_loop.Scored", Drawn)
    plan = schedule(steps=1000, patience=2, evaluate_every=1, checkpoint_every=1000)
    _, trainer, _ = run(tmp_path, plan, evaluate=values.__getitem__)
    assert trainer.step == 6 and [step for step, shown in drawn if shown] == [1, 6]


def test_cycles_that_an_evaluation_leaves_are_freed(as_dataset, tmp_path):
    """They are those of a figure. The first evaluation only begins the count."""

    class Figure:
        def __init__(self):
            self.itself = self

    left, alive = [], []

    def score(step):
        alive.append([figure() is not None for figure in left])
        left.append(weakref.ref(Figure()))
        return float(step)

    gc.disable()
    try:
        run(tmp_path, schedule(steps=8, evaluate_every=2), evaluate=score)
    finally:
        gc.enable()
    assert alive == [[], [True], [True, False], [True, False, False]] and gc.get_freeze_count() == 0
