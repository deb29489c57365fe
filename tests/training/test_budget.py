"""`minutes` and `epochs`: the steps that they stand for, decided once for a run."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from detect import train
from detect.config.compose import compose
from detect.config.resume import Past
from detect.data.repeats import draws, repeat_factors
from detect.errors import ConfigError, DataError
from detect.quantization.phases import stepped
from detect.runs.dataset import dataset_of
from detect.runs.folder import CLASSIFY, DETECTOR, QUANTIZED, RunFolder
from detect.runs.start import Run
from detect.training import budget
from detect.training.distribution import Replicas

WORDS = ("dataset=digits", "dataset.images={train:20,val:4,test:6}", "init=none", "schedule.batch_size=4")


def run(folder: Path, *words: str) -> Run:
    cfg = compose([*WORDS, *words])
    return Run(RunFolder(folder), cfg, dataset_of(cfg, False), {})


@pytest.fixture
def timed(monkeypatch):
    """Seconds of a step of each stage and of all scores, in place of those of this machine; the stages asked for."""
    asked = []

    def seconds(run, stage):
        asked.append(stage)
        return {CLASSIFY: 0.1, DETECTOR: 0.4, QUANTIZED: 0.5}[stage]

    monkeypatch.setattr(budget, "seconds_a_step", seconds)
    monkeypatch.setattr(budget, "_seconds_of_scores", lambda run, stages: 30.0)
    return asked


def test_without_a_budget_nothing_changes(tmp_path):
    given = run(tmp_path)
    assert budget.fitted(given) is given and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("epochs", "accumulate", "steps"), [(3, 1, 15), (0.5, 1, 3), (3, 2, 8)])
def test_epochs(tmp_path, epochs, accumulate, steps):
    found = budget.fitted(run(tmp_path, f"epochs={epochs}", f"schedule.accumulate={accumulate}")).cfg
    assert found.schedule.steps == steps and found.schedule.patience == budget.PATIENCE
    assert found.classify.schedule.steps == 300, "stage 1 stays"


def test_an_epoch_that_repeats_images_has_all_its_draws(tmp_path):
    given = run(tmp_path, "epochs=2", "repeat_threshold=.5")
    train = given.dataset.splits["train"]
    number = draws(repeat_factors(train, 0.5))
    assert number > len(train) and budget.fitted(given).cfg.schedule.steps == math.ceil(2 * number / 4)


def test_minutes_are_shared_in_the_proportions_of_the_configuration(tmp_path, timed):
    words = ["minutes=10", "schedule.warmup=100", "classify.schedule.patience=7"]
    found = budget.fitted(run(tmp_path, *words)).cfg
    factor = (600 - 30) / (300 * 0.1 + 1000 * 0.4)
    assert timed == [CLASSIFY, DETECTOR]
    assert found.schedule.steps == round(1000 * factor) and found.classify.schedule.steps == round(300 * factor)
    assert found.schedule.evaluate_every == found.schedule.checkpoint_every == math.ceil(200 * factor)
    assert found.schedule.warmup == round(100 * factor) and found.classify.schedule.warmup is None
    assert found.schedule.patience == budget.PATIENCE and found.classify.schedule.patience == 7


def test_statistics_that_are_measured_for_each_score_take_their_time(tmp_path, timed):
    """5 scores of the detector, and 3 of stage 1: each needs 8 batches, of which a step of the detector has two."""
    words = ["schedule.reestimate_batch_norm=8", "schedule.accumulate=2", "classify.schedule.reestimate_batch_norm=8"]
    found = budget.fitted(run(tmp_path, "minutes=10", *words)).cfg
    left = 600 - 30 - 5 * 8 * 0.4 / 2 - 3 * 8 * 0.1
    assert found.schedule.steps == round(1000 * left / (300 * 0.1 + 1000 * 0.4))


@pytest.mark.parametrize("steps", [1, 2, 50, 157, 757, 839, 1000, 1326, 12_345])
def test_a_run_is_not_scored_more_often_than_configured(tmp_path, steps):
    """Of 757 steps, every 151st would be scored, the last of these two steps before the end."""
    saved = {"steps": {DETECTOR: steps}, "configured": {DETECTOR: 1000}}
    found = budget.scaled(run(tmp_path).cfg, saved).schedule
    scored = {*range(found.evaluate_every, steps + 1, found.evaluate_every), steps}
    assert found.steps == steps and len(scored) == min(steps, 5)


def test_all_stages_that_run_are_timed(tmp_path, timed):
    budget.fitted(run(tmp_path, "minutes=60", "quantize=int8", "classify.enabled=false"))
    assert timed == [DETECTOR, QUANTIZED]


def test_a_resumed_run_has_the_same_steps_and_times_nothing(tmp_path, timed):
    first = budget.fitted(run(tmp_path, "minutes=10")).cfg
    timed.clear()
    assert budget.fitted(run(tmp_path, "minutes=10")).cfg == first and timed == []
    extended = budget.fitted(run(tmp_path, "minutes=10", "schedule.steps=5000")).cfg
    assert extended.schedule.steps == 5000 and extended.classify.schedule.steps == first.classify.schedule.steps
    for key in ("evaluate_every", "checkpoint_every", "patience"):
        assert extended.schedule[key] == first.schedule[key], key


def test_too_little_is_refused_with_what_is_needed(tmp_path, timed):
    # 50 of 300 steps in stage 1 mean a sixth of everything
    with pytest.raises(ConfigError, match=rf"minutes=1 .* {((30 + 400) / 6 + 30) / 60:.1f} minutes"):
        budget.fitted(run(tmp_path, "minutes=1"))
    assert not list(tmp_path.iterdir())


def test_the_minutes_that_are_asked_for_are_enough(tmp_path, timed, monkeypatch):
    monkeypatch.setattr(budget, "_seconds_of_scores", lambda run, stages: 33.0)  # 1.744 minutes in all
    with pytest.raises(ConfigError, match=r"need 1\.8 minutes"):
        budget.fitted(run(tmp_path, "minutes=1.7"))
    assert budget.fitted(run(tmp_path, "minutes=1.8")).cfg.classify.schedule.steps >= budget.LEAST_STEPS


def test_both_and_values_that_are_not_legal_are_refused(tmp_path):
    for words in (["minutes=1", "epochs=1"], ["minutes=0"], ["epochs=-1"]):
        with pytest.raises(ConfigError, match=r"minutes=|epochs="):
            compose([*WORDS, *words])


@pytest.mark.parametrize("text", ["", "{}", '{"steps": 3, "configured": {}}'])
def test_a_damaged_file_is_one_message(tmp_path, text):
    (tmp_path / "budget.json").write_text(text)
    with pytest.raises(DataError, match=r"budget\.json"):
        budget.fitted(run(tmp_path, "minutes=10"))


def test_a_finished_run_has_the_steps_that_it_was_trained_with(tmp_path, timed):
    """The saved configuration has those before the budget; shares of them, such as `delay`, would be too late."""
    given = run(tmp_path, "minutes=10", "quantize=int8", "quantize.spec.delay=.7")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(given.cfg, resolve=True))
    assert budget.configuration(given.folder) == given.cfg, "without a budget"
    fitted = budget.fitted(given).cfg
    assert fitted.quantize.schedule.steps != given.cfg.quantize.schedule.steps
    assert budget.configuration(given.folder) == fitted


def test_a_budget_run_is_extended_only_by_more_steps_than_it_has(tmp_path, timed):
    given = run(tmp_path, "minutes=10")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(given.cfg, resolve=True))
    has = budget.fitted(given).cfg.schedule.steps
    for steps, legal in ((1001, has < 1001), (has, False), (has + 1, True)):
        cfg = compose([*WORDS, "minutes=10", f"schedule.steps={steps}"])
        cfg.resume = str(tmp_path)
        if legal:
            assert given.folder.extensions(cfg) == {"schedule.steps": (1000, steps)}
        else:
            with pytest.raises(ConfigError, match=rf"schedule\.steps={steps}: the run .* has {has} steps"):
                given.folder.extensions(cfg)


@pytest.mark.parametrize("steps", [1000, 200, 50])
def test_a_number_of_steps_that_would_be_ignored_is_refused(tmp_path, steps):
    """The run has 1,000 steps in its configuration, of which its minutes made 120."""
    (tmp_path / "budget.json").write_text('{"steps": {"detector": 120}, "configured": {"detector": 1000}}')
    cfg = compose([*WORDS, "minutes=10", "schedule.steps=1000"])
    past = Past(tmp_path, "train", None, (), cfg, ("schedule.steps",))
    with pytest.raises(ConfigError, match=rf"steps={steps}: .* has 120 steps, .* legal are more than 1000"):
        past.refuse_changes(compose([*WORDS, "minutes=10", f"schedule.steps={steps}"]))
    longer = compose([*WORDS, "minutes=10", "schedule.steps=1001"])
    past.refuse_changes(longer)
    replace(past, asked=()).refuse_changes(cfg)
    replace(past, cfg=longer).refuse_changes(longer)  # the same command again


def test_an_extension_beyond_the_limit_of_the_run_is_refused(tmp_path):
    """The limit would have shortened it to nothing."""
    past = Past(tmp_path, "train", None, (), compose([*WORDS, "debug=limit", "schedule.steps=40"]), ("schedule.steps",))
    with pytest.raises(ConfigError, match=r"schedule\.steps: .*has 400; limit\.steps=\d+ of the run is the most"):
        past.refuse_changes(compose([*WORDS, "debug=limit", "schedule.steps=400"]))


def test_messages_of_timed_stages_name_their_own_schedule(tmp_path):
    given = run(tmp_path, "minutes=20", "classify.schedule.freeze_until=Conv2d_99")
    with pytest.raises(ConfigError, match=r"^classify\.schedule\.freeze_until=Conv2d_99"):
        budget.fitted(given)


def test_hooks_and_batches_are_checked_before_steps_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "fitted", lambda run: pytest.fail("timed"))
    given = run(tmp_path, "minutes=20")
    given.cfg.hooks = [{"_target_": "detect.training.schedule.Schedule", "wrong": 1}]
    with pytest.raises(ConfigError, match=r"hooks\.0\._target_=.*wrong"):
        train._stages(given)


def test_the_scores_of_every_stage_of_the_detector_count(tmp_path, monkeypatch):
    clock = SimpleNamespace(perf_counter=iter(range(0, 100, 8)).__next__)  # 8 s for a batch of 4 images
    monkeypatch.setattr(budget, "time", clock)
    given = run(tmp_path, "quantize=int8", "detector.size=[96,96]", "backbone.depth_multiplier=.25")
    alone, both = (budget._seconds_of_scores(given, stages) for stages in ([DETECTOR], [DETECTOR, QUANTIZED]))
    assert alone == 2 * (4 * 5 + 4 + 6) and both == 2 * (4 * (5 + 4) + 2 * (4 + 6))


def test_a_score_is_timed_with_its_files_and_figures(tmp_path, monkeypatch):
    timed = []

    class Scoring:
        def __init__(self, detect, frame, dataset, split, batch_size, threads, workers):
            self.about = [example.id for example in dataset.splits[split]], batch_size, threads

        def __call__(self):
            timed.append(self.about)

    monkeypatch.setattr(budget, "DetectionEvaluator", Scoring)
    given = run(tmp_path, "detector.size=[96,96]", "backbone.depth_multiplier=.25", "threads=3")
    budget._seconds_of_scores(given, [DETECTOR])
    assert timed == 2 * [([example.id for example in given.dataset.splits["val"]], 4, 3)]


def test_calibrated_ranges_are_timed_although_they_have_seen_nothing(tmp_path, eager):
    words = (
        "quantize=int8",
        "quantize.spec.ranges=calibrated",
        "detector.size=[96,96]",
        "backbone.depth_multiplier=.25",
    )
    assert budget.seconds_a_step(run(tmp_path, *words, "threads=null"), QUANTIZED, steps=1) > 0


@pytest.mark.slow
def test_the_training_takes_the_minutes(tmp_path):
    from detect.train import main

    words = ("detector.size=[96,96]", "backbone.depth_multiplier=0.25", "classify.classifier.size=[32,32]")
    main(compose([*WORDS, *words, "minutes=1.5", "schedule.patience=100"]), tmp_path / "run")
    summaries = [
        json.loads((tmp_path / "run" / name).read_text()) for name in ("classify/summary.json", "summary.json")
    ]
    assert 60 < sum(summary["seconds"] for summary in summaries) < 120


def test_epochs_of_a_detector_whose_float_stage_is_left_out(tmp_path):
    words = ["epochs=3", "quantize=int8", "quantize.float_stage=false", "quantize.schedule.batch_size=5"]
    found = budget.fitted(run(tmp_path, *words)).cfg
    assert found.quantize.schedule.steps == 12 and found.schedule.steps == 1000
    assert json.loads((tmp_path / "budget.json").read_text())["steps"] == {QUANTIZED: 12}


@pytest.mark.parametrize("words", [["epochs=3"], ["minutes=10"]])
def test_a_worker_that_looks_late_does_as_worker_0(tmp_path, timed, monkeypatch, words):
    """Worker 0 has already written the file when another worker looks: both still take the same way."""
    budget.fitted(run(tmp_path, *words))
    gathered = []

    class Late:
        def gather(self, value):
            gathered.append(value)
            return [None if len(gathered) == 1 else value, value]

    monkeypatch.setattr(budget.build, "replicas", lambda run: Late())
    timed.clear()
    budget.fitted(run(tmp_path, *words))
    assert gathered[0]["steps"] and (timed or words == ["epochs=3"]), "it computes the steps, as worker 0 did"


@pytest.mark.parametrize(("stage", "policy"), [(DETECTOR, "mixed_bfloat16"), (QUANTIZED, "float32")])
def test_steps_are_timed_in_the_precision_of_their_stage(tmp_path, monkeypatch, stage, policy):
    import tf_keras

    class Built(Exception):
        pass

    def detector(cfg, num_classes):
        raise Built(tf_keras.mixed_precision.global_policy().name)

    monkeypatch.setattr(budget.build, "detector", detector)
    given = run(tmp_path, "precision=bfloat16", "quantize=int8", "classify.enabled=false")
    with pytest.raises(Built, match=policy):
        budget.seconds_a_step(given, stage)
    with pytest.raises(Built, match=policy):
        budget._seconds_of_scores(given, [stage])


@pytest.mark.parametrize(
    ("times", "found", "measured"),
    [
        ([3.2, 2.1, 2.0, 1.0], 2.0, 3),  # buffers are filled beside the first steps
        ([2.0, 2.1, 1.0], 2.0, 2),
        ([6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 1.0, budget.MOST_TIMES),
    ],
)
def test_a_step_is_timed_until_it_settles(times, found, measured):
    left = list(times)
    assert budget.settled(lambda: left.pop(0)) == found and len(left) == len(times) - measured


def test_workers_time_equally_many_steps(tmp_path, monkeypatch):
    """Each step is one of all workers: one that stopped earlier would leave the others waiting for ever."""

    class Slow:
        def __init__(self, *_):
            pass

        def train(self, steps):
            pass

    class Told(Replicas):
        def gather(self, value):
            return [told.pop(0), value] if told and isinstance(value, float) else [value]

    told = [5.0, 4.0, 3.0, 2.9]
    monkeypatch.setattr(budget, "Trainer", Slow)
    monkeypatch.setattr(budget.build, "replicas", lambda run: Told())
    given = run(tmp_path, "detector.size=[96,96]", "backbone.depth_multiplier=.25")
    assert budget.seconds_a_step(given, DETECTOR) == 2.9 and not told


class Ticking:
    """Takes 2 s for a step of a fake-quantised network whose batch norm learns, else 1 s; keeps the networks."""

    def __init__(self, monkeypatch, freeze_bn):
        self.seconds, self.freeze_bn, self.seen = 0.0, freeze_bn, []
        monkeypatch.setattr(budget, "Trainer", self)
        monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: self.seconds))

    def __call__(self, architecture, *_):
        self.seen.append(architecture.model)
        return self

    def train(self, steps):
        parts = [layer for layer in stepped(self.seen[-1]) if layer.range_step is not None]
        reached = max((int(layer.range_step) for layer in parts), default=0)
        self.seconds += steps * (1 if reached >= self.freeze_bn else 2)


QUANTISED = ("quantize=int8", "detector.size=[96,96]", "backbone.depth_multiplier=.25", "quantize.schedule.steps=100")


@pytest.mark.parametrize(("spec", "seconds"), [("freeze_bn=.67", 1.67), ("delay=30", 1.67), ("freeze_bn=null", 2)])
def test_the_phases_of_fake_quantisation_are_timed_by_their_lengths(tmp_path, monkeypatch, spec, seconds):
    Ticking(monkeypatch, 67)
    given = run(tmp_path, *QUANTISED, "quantize.spec.freeze_ranges=null", f"quantize.spec.{spec}")
    assert budget.seconds_a_step(given, QUANTIZED) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("word", "frozen"),
    [
        ("freeze_until=Conv2d_5_pointwise/BatchNorm", ["Conv2d_5_pointwise"]),
        ("batch_norm=frozen", ["Conv2d_5_pointwise", "Conv2d_6_pointwise"]),
    ],
)
def test_the_network_that_is_timed_is_the_one_that_is_trained(tmp_path, monkeypatch, word, frozen):
    """Its layers are frozen before they are folded: afterwards, its batch norms lie within other layers."""
    ticking = Ticking(monkeypatch, 0)
    budget.seconds_a_step(run(tmp_path, *QUANTISED, f"quantize.schedule.{word}"), QUANTIZED)
    norms = {layer.convolution.name: layer.norm for layer in stepped(ticking.seen[0]) if getattr(layer, "norm", None)}
    asked = ("Conv2d_5_pointwise", "Conv2d_6_pointwise")
    assert [name for name in asked if not norms[name].trainable] == frozen


def test_minutes_and_steps_of_equal_cost_exclude_each_other():
    """Steps that stage 1 pays for would be added to minutes that hold no stage 1."""
    with pytest.raises(ConfigError, match=r"minutes=10: arm=generic_extra adds .* legal is null"):
        compose([*WORDS, "init=imagenet", "arm=generic_extra", "minutes=10"])


@pytest.mark.parametrize("words", [(), ("minutes=10",)])
def test_steps_of_all_stages_are_limited(tmp_path, timed, words):
    """`debug=step` left stage 3 with all its steps: of a migrated file, these are 200,000."""
    given = run(
        tmp_path, "quantize=int8", "quantize.spec.delay=100", "quantize.spec.freeze_bn=.5", "debug=step", *words
    )
    found = budget.fitted(given).cfg
    for schedule in (found.classify.schedule, found.schedule, found.quantize.schedule):
        assert schedule.steps == 1 and schedule.evaluate_every == 1 and not schedule.warmup
    assert (found.quantize.spec.delay, found.quantize.spec.freeze_bn) == (0, 0.5)
    assert found.schedule.patience == (budget.PATIENCE if words else None)
    given.folder.path.mkdir(exist_ok=True)
    (given.folder.path / "config.yaml").write_text(OmegaConf.to_yaml(given.cfg))
    assert budget.configuration(given.folder) == found


def test_a_limit_lengthens_no_stage(tmp_path):
    given = run(tmp_path, "limit.steps=350", "schedule.warmup=340")
    found = budget.fitted(given).cfg
    assert (found.classify.schedule.steps, found.schedule.steps) == (300, 350)
    assert found.schedule.warmup == 119 and found.classify.schedule == given.cfg.classify.schedule
