"""What TensorBoard gets on request: a profile of some steps and the graph. And the loss on held-out images."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detect.config.check import check
from detect.errors import ConfigError
from detect.modeling.interface import Losses
from detect.training.evaluations import HeldOutLoss
from detect.training.hooks import Evaluation
from detect.training.profile import Profile, ShowGraph
from detect.training.trainer import Trainer
from tests.training.test_loop import Line, Numbers, run, schedule, stream_as_dataset


@pytest.fixture
def as_dataset(monkeypatch):
    stream_as_dataset(monkeypatch)


def profiled_steps(folder):
    """The numbers of the steps in the only profile of a stage."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (file,) = (folder / "train" / "plugins" / "profile").glob("*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found = set()
    for plane in space.planes:
        names = {key: value.name for key, value in plane.stat_metadata.items()}
        trains = {key for key, value in plane.event_metadata.items() if value.name == "train"}
        for event in (event for line in plane.lines for event in line.events if event.metadata_id in trains):
            found |= {s.int64_value or s.uint64_value for s in event.stats if names[s.metadata_id] == "step_num"}
    return found


@pytest.mark.parametrize(("asked", "steps"), [((2, 4), {2, 3, 4}), ((6, 6), {6}), ((5, 9), {5, 6})])
def test_the_profile_has_the_steps_that_were_asked_for(as_dataset, tmp_path, asked, steps):
    run(tmp_path, schedule(), hooks=[Profile(*asked)])
    assert profiled_steps(tmp_path) == steps


def test_a_profile_that_a_signal_cut_off_is_no_hindrance(as_dataset, tmp_path):
    tf.profiler.experimental.start(str(tmp_path / "before"))
    run(tmp_path, schedule(), hooks=[Profile(1, 2)])
    assert profiled_steps(tmp_path) == {1, 2}


def test_a_shorter_stage_has_no_profile(as_dataset, tmp_path):
    run(tmp_path, schedule(steps=2), hooks=[Profile(3, 4)])
    assert not (tmp_path / "train" / "plugins").exists()


def test_the_profile_changes_no_step_and_no_row(as_dataset, tmp_path):
    plain, _, _ = run(tmp_path / "plain", schedule())
    profiled, _, _ = run(tmp_path / "profiled", schedule(), hooks=[Profile(2, 3)])
    assert plain.weight == profiled.weight
    counts = [len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) for name in ("plain", "profiled")]
    assert counts[0] == counts[1]


def test_the_graph_is_that_of_the_network(as_dataset, tmp_path):
    run(tmp_path, schedule(), hooks=[ShowGraph()])
    board = EventAccumulator(str(tmp_path / "train")).Reload()
    assert "MatMul" in {node.op for node in board.Graph().node}


@pytest.mark.parametrize("asked", ["10", "[10]", "[0,5]", "[5,4]", "[1,101]", "[1,2,3]", "[1.5,2]", "[true,2]", "[]"])
def test_profiles_that_are_not_legal(asked):
    cfg = OmegaConf.create(f"{{profile: {asked}, schedule: {{steps: 100}}}}")
    with pytest.raises(ConfigError, match=r"profile=.* is not legal: expected \[FROM,TO\].*schedule.steps=100"):
        check(cfg)


def test_profiles_that_are_legal():
    for asked in ("null", "[1,1]", "[10,100]"):
        check(OmegaConf.create(f"{{profile: {asked}, schedule: {{steps: 100}}}}"))


class Counted(Line):
    """A line whose batch at a step counts `step` images."""

    def losses(self, batch, training=True):
        parts, scalars, _ = super().losses(batch)
        return Losses(parts, scalars, batch["image"][0, 0])


def test_the_held_out_loss_by_hand():
    stream = Numbers()
    trainer = Trainer(Counted(), schedule(), stream)
    # The weight is 0: the squares of 2 and 4 are 4 and 16, with counts 2 and 4: (2 * 4 + 4 * 16) / 6
    assert trainer.held_out_losses([stream.batch(2), stream.batch(4)]) == {"loss/total": 12.0, "loss/square": 12.0}
    assert trainer.held_out_losses([stream.batch(0)]) == {"loss/total": 0.0, "loss/square": 0.0}  # nothing to count
    assert trainer.step == 0


class Normed:
    """An architecture of one batch norm; its loss is the mean of its output."""

    def __init__(self):
        x = tf_keras.Input((1,))
        self.model = tf_keras.Model(x, tf_keras.layers.BatchNormalization(epsilon=0.0)(x))

    def losses(self, batch, training=True):
        out = self.model(batch["image"], training=training)
        return Losses({"mean": tf.reduce_mean(out)}, {}, tf.ones(()))


def test_the_held_out_loss_is_that_of_the_evaluated_network():
    architecture = Normed()
    trainer = Trainer(architecture, schedule(), Numbers())
    before = [weight.copy() for weight in architecture.model.get_weights()]
    # The moving mean is 0 and the moving variance 1, so the output is the input; the batch's own statistics give 0.
    assert trainer.held_out_losses([{"image": np.array([[3.0], [5.0]], np.float32)}])["loss/mean"] == 4.0
    for one, other in zip(before, architecture.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class WithLoss(Evaluation):
    """Writes the held-out loss at each evaluation, as the evaluations of the stages do."""

    def __init__(self, every, losses):
        super().__init__(every)
        self.losses = losses

    def score(self, fit):
        fit.logger.evaluation(fit.step, self.losses(fit), "")
        return float(fit.step)

    def state(self):
        return {}  # the stage has an evaluation of its own, with the same names


def test_both_losses_are_in_one_chart(as_dataset, tmp_path):
    run(tmp_path, schedule(), hooks=[WithLoss(3, HeldOutLoss(Numbers(), 2))])
    boards = {kind: EventAccumulator(str(tmp_path / kind)).Reload() for kind in ("train", "eval")}
    steps = {kind: [point.step for point in board.Scalars("loss/total")] for kind, board in boards.items()}
    assert steps["eval"] == [3, 6] and set(steps["eval"]) < set(steps["train"])
