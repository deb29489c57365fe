"""Finds and reads the files that runs write: training runs, exports, measurements."""

import functools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detect.errors import ConfigError, DataError, first_few
from detect.files import expanded, unswollen
from detect.runs.folder import CLASSIFY, DETECTOR, EXPORT, MEASURED, QUANTIZED, RunFolder
from detect.runs.forms import BUDGET, check, read
from detect.runs.stage_folder import LAST, SUMMARY
from detect.studies import forms

PASSED_OVER = {LAST, "__pycache__"}
NO_STAGE = {"seconds": 0.0, "steps": 0}


def command_words(about: Mapping[str, Any]) -> list[str]:
    """The words of the command in a summary; none if it is not a command line."""
    try:
        return shlex.split(about.get("command") or "")
    except ValueError:  # a quotation mark without its second
        return []


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a training run, and the summaries of the run, of its stage 1 and of its float detector.

    stage_1: {} without a stage 1. float_stage: {} if the run ends with the float detector.
    """

    folder: Path
    summary: dict[str, Any]
    stage_1: dict[str, Any] = field(default_factory=dict)
    float_stage: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Arm and seed: the label of the run's curve."""
        return f"{self.arm} ({self.seed})"

    @property
    def study(self) -> str:
        """The study that the run belongs to; an empty text for a single run."""
        return self.summary.get("study") or ""

    @property
    def arm(self) -> str:
        arm = self.summary.get("arm")
        return self.summary["name"] if arm in (None, "none") else arm

    @property
    def seed(self) -> int:
        return self.summary["seed"]

    @property
    def fraction(self) -> float:
        """Share of the training images."""
        return self.summary.get("fraction") or 1.0

    @functools.cached_property
    def budget(self) -> int:
        """Configured steps of the detector: without the extra steps of an arm, and before `minutes` or `epochs` changed
        them, so that runs of one budget are one cell. A run that was extended by name is in a cell of its own. Steps of
        fake-quant training if a run has nothing else."""
        if self.stage == QUANTIZED and not self.float_stage:
            return self.summary["steps"]
        file, told = RunFolder(self.folder).shared_budget, self.summary.get("budget") or self.summary["steps"]
        found = read(file, BUDGET) if file.is_file() else {"steps": {}, "configured": {}}
        fitted = found["steps"].get(DETECTOR)
        return found["configured"].get(DETECTOR, told) if fitted is not None and int(fitted) == told else told

    @property
    def stage(self) -> str:
        """The last stage of the run."""
        return self.metrics.parent.name

    @functools.cached_property
    def metrics(self) -> Path:
        """metrics.jsonl of the last stage."""
        run = RunFolder(self.folder)
        return run.stage(run.last_stage() or DETECTOR).metrics

    @functools.cached_property
    def overrides(self) -> list[str]:
        """Overrides from the run's command, else those that Hydra saved, as a sweep's command has those of all jobs."""
        words = command_words(self.summary)
        if words[:2] == ["detect", "train"] and not {"-m", "--multirun"} & set(words):
            return words[2:]
        saved = RunFolder(self.folder).hydra / "overrides.yaml"
        if not saved.is_file():
            return []
        try:
            lines = yaml.safe_load(unswollen(saved.read_text(encoding="utf-8"))) or []
        except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
            raise DataError(f"{saved}: not readable: {first_few(str(error).splitlines(), 1)}") from error
        if not isinstance(lines, list):
            raise DataError(f"{saved}: legal is a list of overrides")
        return [str(line) for line in lines]

    @property
    def debugs(self) -> bool:
        """Whether the run only tried something out: the group `debug`."""
        return any(line.startswith("debug=") and line not in ("debug=null", "debug=[]") for line in self.overrides)

    @property
    def earlier_seconds(self) -> float:
        """Seconds of training before the last stage."""
        return sum((NO_STAGE | stage)["seconds"] for stage in (self.stage_1, self.float_stage))

    @property
    def seconds(self) -> float:
        """Seconds of training in all stages."""
        return self.summary["seconds"] + self.earlier_seconds


@dataclass(frozen=True)
class Records:
    """The input of a report, sorted by folder. exports, measured: folder of the file -> content."""

    runs: list[FinishedRun]
    exports: dict[Path, dict[str, Any]]
    measured: dict[Path, dict[str, Any]]


def collect(runs: str | Path | Sequence[str | Path]) -> Records:
    """All finished runs, exports and measurements in the named folders and below.

    Raises ConfigError for a missing folder, DataError for a file that is not readable.
    """
    named = [expanded(one) for one in ([runs] if isinstance(runs, str | Path) else runs)]
    for folder in named:
        if not folder.is_dir():
            raise ConfigError(f"runs={folder}: no such folder")
    found: dict[str, dict[Path, dict[str, Any]]] = {SUMMARY: {}, EXPORT: {}, MEASURED: {}}
    for path in sorted(record_files(*named)):
        found[path.name][path.parent] = read(
            path, {SUMMARY: {}, EXPORT: forms.EXPORT, MEASURED: forms.MEASURED}[path.name]
        )
    return Records(_finished(found[SUMMARY]), found[EXPORT], found[MEASURED])


def record_files(*named: Path) -> Iterator[Path]:
    """The files of runs, exports and measurements in the named folders and below, each once. Links are followed."""
    seen = set()
    for folder in named:
        for place, folders, files in os.walk(folder, followlinks=True):
            real = os.path.realpath(place)
            known = real in seen
            seen.add(real)
            folders[:] = [] if known else sorted(n for n in folders if n not in PASSED_OVER and not n.startswith("."))
            yield from (Path(place, n) for n in files if n in (SUMMARY, EXPORT, MEASURED) and not known)


def _stage(about: dict[str, Any]) -> dict[str, Any]:
    """The summary of a stage that a run had, with its seconds and steps; {} for a stage that it had not."""
    return about and NO_STAGE | {key: value for key, value in about.items() if value is not None}


def _finished(summaries: dict[Path, dict[str, Any]]) -> list[FinishedRun]:
    """The runs with scores of a detector. The folders of their stages are not runs."""
    runs = [
        FinishedRun(folder, about, *(_stage(summaries.get(folder / stage, {})) for stage in (CLASSIFY, DETECTOR)))
        for folder, about in summaries.items()
        if "scores" in about and RunFolder(folder).last_stage()
    ]
    for run in runs:
        check(run.summary, forms.RUN, run.folder / SUMMARY)
        check(run.stage_1, forms.STAGE, run.folder / CLASSIFY / SUMMARY)
        check(run.float_stage, forms.STAGE, run.folder / DETECTOR / SUMMARY)
    return runs
