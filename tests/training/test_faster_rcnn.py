"""Faster R-CNN through the whole program: trained from the command line, exported, resumed to the bit."""

import json

import hydra
import numpy as np
import pytest

from detect.config import trust
from tests import program
from tests.closeness import assert_same_detections
from tests.verbs import composed

OVERRIDES = [
    "detector=faster_rcnn",
    "init=none",
    "backbone.depth_multiplier=0.25",
    "detector.size=[96,96]",
    "detector.anchors.base=64",
    "detector.rpn_head.channels=32",
    "detector.proposals.count=30",
    "detector.box_sampler.size=16",
    "dataset=digits",
    "dataset.images={train:8,val:2,test:2}",
    "schedule.batch_size=2",
    "threads=2",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a network that is built and traced fast."""
    folder = tmp_path_factory.mktemp("runs") / "faster_rcnn"
    own = [line for line in OVERRIDES if not line.startswith("backbone.")]
    more = ["backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "schedule.reestimate_batch_norm=2"]
    done = program.run("train", *own, *more, "debug=step", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def test_both_stages_run_and_the_second_starts_from_the_first(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 1 and set(summary["scores"]) == {"val", "test"}
    (row, *_) = map(json.loads, (run / "detector" / "metrics.jsonl").read_text().splitlines())
    parts = {name.removeprefix("loss/") for name in row if name.startswith("loss/")}
    assert parts == {"total", "rpn_classification", "rpn_localization", "box_classification", "box_localization"}
    assert 0 <= row["rpn/recall_70"] <= row["rpn/recall_50"] <= 1
    ledger = json.loads((run / "detector" / "transfer.json").read_text())
    assert len(ledger["loaded"]) == 4 * 5 and not ledger["missing"]  # four layers: those of the box head, too


@pytest.mark.slow
def test_the_exported_model_equals_the_run(run, tmp_path):
    """On images of the frame's size; the resize of others is rounded differently in a graph."""
    from detect.cli import export
    from detect.detector import Detector

    cfg = composed("export", f"run={run}", f"output={tmp_path / 'model'}")
    images = [np.random.default_rng(k).integers(0, 256, (96, 96, 3), np.uint8) for k in range(2)]
    with trust.trusting(("tests",)):
        export.main(cfg)
        detector = Detector.load(run)
    for a, b in zip(detector(images), Detector.load(tmp_path / "model")(images), strict=True):
        assert len(a.scores) > 0
        assert_same_detections((b.boxes, b.scores, b.classes), (a.boxes, a.scores, a.classes), 96)


@pytest.fixture
def deterministic():
    """Op determinism as in `detect train`, for one test; eager, since tracing would take most of its time."""
    import tensorflow as tf
    import tf_keras
    from tensorflow.python.framework.config import disable_op_determinism

    tf_keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
    disable_op_determinism()


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit(deterministic, tmp_path):
    """Anchors and proposals are drawn, and gradients summed, alike before and after a restart."""
    import tensorflow as tf

    from detect.data.augment import Augment
    from detect.data.pipeline import DetectionStream
    from detect.training import build
    from detect.training.trainer import Trainer

    cfg = composed("train", *OVERRIDES, "schedule.steps=4", "schedule.warmup=0")
    examples = hydra.utils.instantiate(cfg.dataset).splits["train"]

    def trainer_and_state():
        detector, schedule = build.detector(cfg, 10), hydra.utils.instantiate(cfg.schedule)
        schedule.prepare(detector)
        stream = DetectionStream(examples, detector.size, schedule.batch_size, Augment(), seed=cfg.seed)
        trainer = Trainer(detector, schedule, stream)
        return trainer, tf.train.Checkpoint(model=detector.model, optimizer=trainer.optimizer)

    trainer, state = trainer_and_state()
    trainer.train(2)
    saved = state.write(str(tmp_path / "half"))
    half = [v.numpy() for v in trainer.architecture.model.variables]
    trainer.train(2)
    resumed, state = trainer_and_state()
    state.read(saved)
    resumed.train(2)
    assert trainer.step == resumed.step == 4
    whole, other = ([v.numpy() for v in t.architecture.model.variables] for t in (trainer, resumed))
    assert all((a != b).any() for a, b in zip(whole, half, strict=True) if a.ndim > 1)
    for a, b in zip(whole, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_overfitting_eight_images_works(tmp_path):
    changed = ("detector.size", "detector.proposals", "detector.box_sampler", "schedule.batch_size")
    small = [o for o in OVERRIDES if not o.startswith(changed)]
    more = ["detector.size=[128,128]", "schedule.batch_size=4", "schedule.steps=400", "schedule.rate=0.002"]
    done = program.run("train", *small, *more, "debug=overfit", f"hydra.run.dir={tmp_path}", timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["scores"]["val"]["AP50"] >= 0.8
