"""Fits the schedules of a run to a budget: `minutes` of training on this machine, or `epochs` of the detector.

The steps are decided once, at the start, from timed steps and the size of the data set. `budget.json` in the run folder
keeps them, so that a resumed run has the same. The warm-up, and the intervals of evaluations and checkpoints, change
by the same factor.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import tf_keras
from omegaconf import DictConfig, OmegaConf

from detect.data.examples import Examples
from detect.data.interface import Stream
from detect.data.repeats import draws, repeat_factors
from detect.data.subset import evenly_spread
from detect.errors import ConfigError
from detect.evaluation.evaluators import DetectionEvaluator
from detect.files import replacing
from detect.geometry.frame import Frame
from detect.modeling.interface import Architecture
from detect.modeling.precision import Precision, computing_in
from detect.quantization.callbacks import Phases
from detect.quantization.spec import STEPS, Spec
from detect.runs import forms
from detect.runs.dataset import selection_split, threads
from detect.runs.folder import CLASSIFY, DETECTOR, QUANTIZED, SCHEDULES, RunFolder
from detect.runs.start import Run
from detect.training import build
from detect.training.schedule import Schedule
from detect.training.trainer import Trainer

log = logging.getLogger("detect")

COUNTED = ("evaluate_every", "checkpoint_every", "warmup")
UNTIMED_STEPS, TIMED_STEPS, MOST_TIMES, SETTLED, LEAST_STEPS, PATIENCE = 2, 6, 6, 0.9, 50, 3
TIMED_IMAGES = 32


def fitted(run: Run) -> Run:
    """The run with schedules that fit `minutes` or `epochs`, and `limit.steps`; the same run if none is given.

    With a budget, a detector without `patience` gets PATIENCE. Raises ConfigError if it is too small to train in.
    """
    if (cfg := limited(run.cfg)) is not run.cfg:
        run = replace(run, cfg=cfg)
    if cfg.get("minutes") is None and cfg.get("epochs") is None:  # runs of older versions have no such keys
        return run
    stages = [CLASSIFY] * bool(cfg.classify.enabled)
    stages += [DETECTOR] * bool(not cfg.quantize.enabled or cfg.quantize.float_stage)
    stages += [QUANTIZED] * bool(cfg.quantize.enabled)
    configured = {stage: int(OmegaConf.select(cfg, SCHEDULES[stage]).steps) for stage in stages}
    file = run.folder.shared_budget
    found = forms.read(file, forms.BUDGET) if file.is_file() else None
    replicas = build.replicas(run)
    saved: dict[str, Any] | None = replicas.gather(found)[0]  # worker 0 may write the file before another one looks
    if saved is None:
        steps = _by_minutes(run, configured) if cfg.epochs is None else _by_epochs(run, stages)
        saved = {"steps": steps, "configured": configured}
        if run.worker.is_chief:
            with replacing(file) as new:
                new.write_text(json.dumps(saved))
    else:
        replicas.agree("the budget", (found or saved)["steps"])
    return replace(run, cfg=limited(scaled(cfg, saved, PATIENCE)))


def configuration(run: RunFolder) -> DictConfig:
    """The saved configuration of a run, with the steps that fit its budget."""
    cfg, file = limited(run.saved_config()), run.shared_budget
    return limited(scaled(cfg, forms.read(file, forms.BUDGET), PATIENCE)) if file.is_file() else cfg


def limited(cfg: DictConfig) -> DictConfig:
    """The configuration with at most `limit.steps` steps in each stage; the same one without it."""
    most = OmegaConf.select(cfg, "limit.steps")  # runs of older versions have no such key
    if most is None:
        return cfg
    schedules = {stage: OmegaConf.select(cfg, key) for stage, key in SCHEDULES.items()}
    configured = {stage: int(schedule.steps) for stage, schedule in schedules.items() if schedule is not None}
    return scaled(cfg, {"steps": {s: min(most, n) for s, n in configured.items()}, "configured": configured})


def scaled(cfg: DictConfig, saved: Mapping[str, Any], patience: int | None = None) -> DictConfig:
    """The configuration with the saved steps of each stage; evaluations, saves and warm-up move with them.

    patience: of a detector that has none. A stage that was extended by name (resume=RUN schedule.steps=N) has the steps
    of that.
    """
    cfg = cfg.copy()
    for stage, number in saved["steps"].items():
        schedule = OmegaConf.select(cfg, SCHEDULES[stage])
        configured = saved["configured"].get(stage) or schedule.steps
        for key in COUNTED:
            if schedule[key]:  # a warm-up of null suits the steps anyway
                # Rounded up: rounded down, there would be one more score, a few steps before that of the end.
                schedule[key] = -(-schedule[key] * int(number) // configured)
        if schedule.warmup:
            schedule.warmup = min(schedule.warmup, int(number) - 1)
        if schedule.steps == configured:
            schedule.steps = int(number)
        if stage == DETECTOR and schedule.patience is None:
            schedule.patience = patience
        if stage == QUANTIZED:
            for key in STEPS:  # of the specification; shares stay
                if type(value := cfg.quantize.spec[key]) is int:
                    cfg.quantize.spec[key] = value * int(number) // configured
    return cfg


def _by_epochs(run: Run, stages: Sequence[str]) -> dict[str, int]:
    """The steps of the detector; of its fake-quantised twin, if the run trains nothing else of it."""
    stage = DETECTOR if DETECTOR in stages else QUANTIZED
    schedule, threshold = OmegaConf.select(run.cfg, SCHEDULES[stage]), run.cfg.get("repeat_threshold")
    train = Examples.of(run.dataset.splits["train"])
    images = draws(repeat_factors(train, threshold)) if threshold else len(train)
    steps = max(1, math.ceil(run.cfg.epochs * images / (schedule.batch_size * schedule.accumulate)))
    log.info("epochs=%s of %d images: %d steps of the stage %s", run.cfg.epochs, images, steps, stage)
    return {stage: steps}


def _by_minutes(run: Run, configured: Mapping[str, int]) -> dict[str, int]:
    """The steps of each stage, in the proportions of the configuration, after a look at this machine's speed."""
    seconds = {stage: seconds_a_step(run, stage) for stage in configured}
    scoring = _seconds_of_scores(run, [stage for stage in configured if stage != CLASSIFY])
    scoring += sum(_measured_batches(run, stage) * seconds[stage] for stage in configured)
    training = sum(seconds[stage] * configured[stage] for stage in configured)
    found: list[float] = build.replicas(run).gather([training, scoring])[0]  # worker 0 decides
    factor = (run.cfg.minutes * 60 - found[1]) / found[0]
    steps = {stage: round(number * factor) for stage, number in configured.items()}
    if min(steps.values()) < LEAST_STEPS:
        least = (max(LEAST_STEPS / number for number in configured.values()) * found[0] + found[1]) / 60
        raise ConfigError(
            f"minutes={run.cfg.minutes} is too little here: {LEAST_STEPS} steps in each stage and the scores need "
            f"{math.ceil(10 * least) / 10} minutes; give more, or a smaller network, input (detector.size) or data set"
        )
    told = ", ".join(f"{stage} {number} steps of {seconds[stage]:.2f} s" for stage, number in steps.items())
    log.info("minutes=%s: %s, and %.0f s of scores", run.cfg.minutes, told, found[1])
    return steps


def seconds_a_step(run: Run, stage: str, steps: int = TIMED_STEPS) -> float:
    """The duration of a training step of a stage with its input, when it has settled: `settled` of the mean of `steps`.

    The first steps are slower: they are traced, and the input reads its first images and fills its buffers beside them.
    The phases of fake quantisation are timed one by one: a step takes half the time once batch norm is frozen.
    """
    cfg, replicas = run.cfg, build.replicas(run)
    schedule: Schedule = build.instantiate(OmegaConf.select(cfg, SCHEDULES[stage]))
    spec: Spec | None = None
    if stage == QUANTIZED:  # calibrated ranges take the same time, but have seen nothing yet
        spec = replace(build.quantization(cfg), ranges="moving_average")
    with replicas.strategy.scope(), computing_in(_precision(cfg, stage)):
        if stage == CLASSIFY:
            pictures = build.stage_1_dataset(run)
            architecture: Architecture = build.classifier(cfg, pictures.num_classes)
            stream: Stream = build.classification_stream(run, architecture, schedule, pictures)
        else:
            architecture = detector = build.detector(cfg, run.dataset.num_classes)
            stream = build.training_stream(run, detector, schedule)
        build.prepare(run, architecture, schedule, stage, spec)
    trainer = Trainer(architecture, schedule, stream, replicas)
    trainer.train(UNTIMED_STEPS)

    def mean() -> float:
        start = time.perf_counter()
        trainer.train(steps)
        return (time.perf_counter() - start) / steps

    phases, found = Phases(architecture.model), 0.0
    begins = [step for step in (spec.phases if spec else [0]) if step < schedule.steps]
    for begin, end in pairwise([*begins, schedule.steps]):
        phases.step(begin)
        # Worker 0 decides, so that all of them take the same steps.
        found += settled(lambda: replicas.gather(mean())[0]) * (end - begin) / schedule.steps
    tf_keras.backend.clear_session()
    return found


def settled(measure: Callable[[], float]) -> float:
    """The least of several measurements of a time: it is measured until a value is not below SETTLED of the one before,
    MOST_TIMES at most."""
    found = [measure()]
    while len(found) < MOST_TIMES:
        found.append(measure())
        if found[-1] >= SETTLED * found[-2]:
            break
    return min(found)


def _seconds_of_scores(run: Run, stages: Sequence[str]) -> float:
    """The time of all scorings of the detector in its stages: during training, and of the best checkpoint.

    The scorings of stage 1 are not counted.
    """
    sizes = {name: len(examples) for name, examples in run.dataset.splits.items()}
    timed, found = dict[tuple[Precision, int], float](), 0.0
    for stage in stages:
        schedule: Schedule = build.instantiate(OmegaConf.select(run.cfg, SCHEDULES[stage]))
        times, ends = schedule.steps // schedule.evaluate_every, sizes["val"] + sizes["test"]
        way = _precision(run.cfg, stage), schedule.scored_images
        if way not in timed:  # stages that score alike are timed once
            timed[way] = _seconds_to_score(run, *way)
        found += timed[way] * (sizes[selection_split(run.dataset)] * times + ends)
    return found


def _measured_batches(run: Run, stage: str) -> float:
    """The batches of `reestimate_batch_norm` before all scorings of a stage, in training steps: they take less time."""
    schedule: Schedule = build.instantiate(OmegaConf.select(run.cfg, SCHEDULES[stage]))
    return schedule.steps // schedule.evaluate_every * schedule.reestimate_batch_norm / schedule.accumulate


def _seconds_to_score(run: Run, precision: Precision, batch_size: int) -> float:
    """The time that one image of the selection split takes in a scoring, with its decoding and its part of the figures.

    It is that of the second scoring of TIMED_IMAGES: the first one is traced.
    """
    replicas, split = build.replicas(run), selection_split(run.dataset)
    with replicas.strategy.scope(), computing_in(precision):
        detector = build.detector(run.cfg, run.dataset.num_classes)
    some = tuple(evenly_spread(run.dataset.splits[split], max(TIMED_IMAGES, batch_size)))
    few = replace(run.dataset, splits={name: some if name == split else () for name in run.dataset.splits})
    detect, frame = replicas.inference(detector.detect), Frame(detector.size, detector.resize)
    score = DetectionEvaluator(detect, frame, few, split, batch_size, threads(run.cfg), replicas)
    score()
    start = time.perf_counter()
    score()
    seconds = time.perf_counter() - start
    tf_keras.backend.clear_session()
    return seconds / len(some)


def _precision(cfg: DictConfig, stage: str) -> Precision:
    asked: Precision = cfg.precision
    return "float32" if stage == QUANTIZED else asked
