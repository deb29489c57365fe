"""Stage 3 through the whole program: from a float run, in one command, with a delay, resumed to the bit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import pytest

from detect.config import trust
from detect.data.image_file import read_image
from detect.errors import ConfigError
from detect.geometry.frame import Frame
from detect.quantization.spec import INT8
from tests import program
from tests.training.test_resume import weights
from tests.verbs import composed

SHORT = [
    "quantize.schedule.steps=4",
    "quantize.schedule.batch_size=4",
    "quantize.schedule.evaluate_every=2",
    "quantize.schedule.checkpoint_every=2",
    "quantize.schedule.log_every=1",
    "quantize.schedule.warmup=0",
    "quantize.schedule.batch_norm_decay=0.99",  # that of so few steps would be 0
    "quantize.calibrate=2",
]

STOP_AT_BATCH_9 = """
import sys
from detect.cli.main import main
from detect.training import stages, trainer

class Counting(trainer.Trainer):
    batches = 0

    def _next_batch(self):
        Counting.batches += 1
        self.interrupted = Counting.batches == 3 + 4 + 2
        return super()._next_batch()

stages.Trainer = Counting
sys.argv[1:1] = ["train"]
sys.exit(main())
"""


def train(*overrides: str, code: int = 0) -> str:
    done = program.run("train", *overrides)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def compose(*overrides: str):
    return composed("train", *overrides)


def dataset_of_run(folder: Path):
    from detect.runs.dataset import dataset_of
    from detect.runs.folder import RunFolder

    return dataset_of(RunFolder(folder).saved_config(), decode=False)


@pytest.fixture(scope="module")
def tiny(small_overrides) -> list[str]:
    """Overrides of a run of a network that is built and traced fast."""
    own = [line for line in small_overrides if not line.startswith(("backbone.", "init="))]
    return [*own, "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "detector.neck.channels=[]"]


@pytest.fixture(scope="module")
def float_run(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "float"
    steps = ["schedule.steps=4", "schedule.evaluate_every=4", "classify.enabled=false"]
    train(*tiny, "init=none", *steps, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="module")
def quantized(float_run, tiny, tmp_path_factory) -> tuple[Path, str]:
    """A run that went on from the float detector of another one: (folder, console)."""
    folder = tmp_path_factory.mktemp("runs") / "quantized"
    overrides = [f"init={float_run}", "init.scope=detector", "quantize=int8", *SHORT]
    same = [line for line in tiny if not line.startswith("schedule.")]  # no float stage reads them
    return folder, train(*same, *overrides, f"hydra.run.dir={folder}")


def test_it_goes_on_from_a_float_run(quantized, float_run):
    folder, console = quantized
    assert "stage 1" not in console and "stage 2" not in console and "calibrated on 2 batches" in console
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 4 and set(summary["scores"]) == {"val", "test"}
    assert (summary["quantize"]["freeze_bn"], summary["quantize"]["freeze_ranges"]) == (3, 4)
    before = json.loads((float_run / "summary.json").read_text())["cost"]
    assert summary["cost"]["detector_macs"] == before["detector_macs"] > 0  # four steps of four images, as in float
    ledger = json.loads((folder / "quantized" / "transfer.json").read_text())
    assert ledger["loaded"] and not ledger["missing"] and not ledger["skipped"]
    assert not (folder / "detector").exists() and (folder / "quantized" / "best.index").exists()


def test_summary_and_hparams_have_the_schedule_of_stage_3(quantized):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder, _ = quantized
    used = json.loads((folder / "summary.json").read_text())["schedule"]
    expected = {"steps": 4, "rate": 0.0001, "warmup": 0, "batch_size": 4, "decay": "cosine", "ema_decay": 0.0}
    assert {key: used[key] for key in expected} == expected and used["optimizer"]["name"] == "AdamW"
    board = EventAccumulator(str(folder / "quantized" / "eval"), {"tensors": 0})
    board.Reload()
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    numbers = {key: shown[f"schedule.{key}"].number_value for key in ("steps", "rate", "warmup", "batch_size")}
    assert numbers == {key: expected[key] for key in numbers} and shown["stage"].string_value == "quantized"


@pytest.mark.slow
def test_its_detector_is_the_evaluation_graph(quantized, float_run):
    """Rounded heads, by the stored ranges; the float twin has the same weights and no rounding."""
    from detect.detector import Detector
    from detect.errors import WeightsError
    from detect.quantization.activations import FakeQuant
    from detect.runs.folder import RunFolder
    from detect.training.finished import float_twin
    from detect.weights.transfer import named

    folder = quantized[0]
    with trust.trusting(("tests",)):
        detector, twin = Detector.load(folder), float_twin(RunFolder(folder))
    dataset = dataset_of_run(folder)
    image = np.stack([Frame((96, 96)).fit(read_image(e.path)) for e in dataset.splits["test"]]).astype(np.float32)
    rounded, plain = detector.architecture.model(image, training=False), twin.model(image, training=False)
    theirs = named(detector.architecture.model.variables)
    for name, variable in named(twin.model.variables).items():
        np.testing.assert_array_equal(variable, theirs[name])
    last = next(x for x in reversed(detector.architecture.model.layers) if isinstance(x, FakeQuant))
    for head in ("codes", "logits"):
        values = rounded[head].numpy()
        assert len(np.unique(values)) <= 256 < len(np.unique(plain[head]))
        assert 0.7 < np.corrcoef(values.ravel(), plain[head].numpy().ravel())[0, 1] < 1  # hardly trained: coarse
    assert float(last.range_min) < float(last.range_max)
    scores, _ = detector.evaluate(dataset, "test")
    assert scores.summary["AP"] == json.loads((folder / "summary.json").read_text())["scores"]["test"]["AP"]
    with trust.trusting(("tests",)):
        with pytest.raises(WeightsError, match="no detector/best: the run has no such stage"):
            Detector.load(folder, stage="detector")
        with pytest.raises(WeightsError, match="no quantized/best"):
            Detector.load(float_run, stage="quantized")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["quantize.spec.delay=400"], "quantize.spec.delay=400: rounding would never begin"),
        (["quantize.spec.ranges=calibrated", "quantize.calibrate=0"], "quantize.calibrate=0: .* needs at least one"),
        (["quantize.spec.weight_bits=3"], "weight_bits=3 is not legal: expected a whole number from 4 to 8"),
    ],
)
def test_settings_that_do_not_go_together(overrides, message):
    from detect.training import build

    with pytest.raises(ConfigError, match=message):
        build.quantization(compose("quantize=int8", *overrides))


@pytest.mark.parametrize(("name", "spec"), [("int8", INT8), ("contrib_2017", replace(INT8, per_channel=False))])
def test_the_specifications_of_the_options(name, spec):
    assert hydra.utils.instantiate(compose(f"quantize={name}").quantize.spec) == spec


@pytest.mark.slow
def test_all_three_stages_stopped_and_resumed_equal_uninterrupted_bit_for_bit(small_overrides, tmp_path):
    """contrib_2017: the float detector of the same run is what stage 3 starts from."""
    steps = ["schedule.steps=4", "schedule.evaluate_every=4", "schedule.checkpoint_every=4"]
    overrides = [*small_overrides, *steps, "quantize=contrib_2017", *SHORT]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    console = train(*overrides, f"hydra.run.dir={whole}")
    assert [console.count(f"stage {n}") for n in (1, 2, 3)] == [1, 1, 1]
    assert (whole / "detector" / "summary.json").exists()
    command = [sys.executable, "-c", STOP_AT_BATCH_9, *overrides, f"hydra.run.dir={stopped}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert "stopped at step 2" in done.stdout + done.stderr, done.stderr
    assert not (stopped / "summary.json").exists()
    console = train(f"resume={stopped}")
    assert "detector: finished before" in console and "calibrated" not in console
    expected, got = weights(whole, "quantized"), weights(stopped, "quantized")
    assert expected.keys() == got.keys() and any("range_average" in name for name in got)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.slow
def test_from_scratch_with_a_delay(small_overrides, tmp_path):
    """Nothing that was scored before rounding began can be the best."""
    scratch = ["quantize=int8", "quantize.float_stage=false", "classify.enabled=false", "quantize.spec.delay=.75"]
    console = train(
        *small_overrides, *scratch, *SHORT, "quantize.schedule.steps=8", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert "from scratch" in console and "calibrated" not in console
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["quantize"]["delay"] == 6 and summary["best_step"] in (6, 8)


@pytest.mark.slow
def test_faster_rcnn_trains_fake_quantised(tmp_path):
    from tests.training.test_faster_rcnn import OVERRIDES

    more = ["schedule.steps=2", "schedule.evaluate_every=2", "classify.enabled=false", "quantize=int8", *SHORT]
    train(*OVERRIDES, *more, f"hydra.run.dir={tmp_path / 'run'}")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["quantize"]["per_channel"]
    from detect.detector import Detector
    from detect.quantization.folded import Folded

    model = Detector.load(tmp_path / "run").architecture.model
    folded = {layer.name for layer in model.layers if isinstance(layer, Folded)}
    assert {"FirstStageBoxPredictor/Conv", "SecondStageBoxPredictor/ClassPredictor", "Conv2d_0"} <= {
        name.split("/fake_quant")[0] for name in folded
    }
