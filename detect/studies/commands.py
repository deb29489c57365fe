"""The command that repeats a run, and the settings that distinguish runs of the same cell."""

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detect.errors import DataError
from detect.studies.records import FinishedRun

ONE_PLACE = re.compile(r"""^([^=]+=)(['"]?)/(?:[^,\[\]{}]*/)?([^/,\[\]{}'"]+)/?\2$""")
PLACE = re.compile(r"""(?:^|(?<=[\s=:,(\[{'"]))/(?:[^/\s,\]}'"]+/)*([^/\s,\]}'"]+)/?""")
"""An absolute path and its last part: ONE_PLACE for a whole value, with spaces allowed, PLACE for an item of a list."""

QUOTED = re.compile(r"='([\w./+-]+)'$")
"""A value with quotes of Hydra that it does not need."""

OWN = ("seed", "arm", "study", "limit.fraction", "schedule.steps", "resume", "threads", "decode", "dataset.root")
"""Overrides that do not make a variant: they define the cell itself, or do not change a result."""


def command(run: FinishedRun) -> str:
    """The command that repeats the run. An absolute path is shortened to its last part, as the rest is local."""
    kept = [word for word in run.overrides if not word.startswith(("hydra.run.", "hydra.sweep.", "resume="))]
    return shlex.join(["detect", "train", *(portable(word) for word in kept)]) if kept else ""


def portable(word: str) -> str:
    """`dataset.root='/data/bccd'` as `dataset.root=bccd`."""
    return QUOTED.sub(r"=\1", PLACE.sub(r"\1", ONE_PLACE.sub(r"\1\2\3\2", word)))


def variants(runs: Sequence[FinishedRun]) -> dict[Path, str]:
    """The variant of each run: settings other than the seed that differ from runs of the same cell; mostly empty.

    The variant is `name` if runs with equal seeds have different names, else the overrides that differ. The choice is
    the same for all runs of a study. Raises DataError for two runs with the same seed and no difference.
    """
    found = {}
    for study in dict.fromkeys(run.study for run in runs):
        members = [run for run in runs if run.study == study]
        keys = _differing(members)
        for run in members:
            settings = _settings(run)
            texts = [value if key == "name" else f"{key}={value}" for key, value in settings.items() if key in keys]
            found[run.folder] = " ".join(texts)
    _refuse_twins(runs, found)
    return found


def _cell(run: FinishedRun) -> tuple:
    return run.study, run.summary["dataset"].get("name"), run.fraction, run.budget, run.arm


def _settings(run: FinishedRun) -> dict[str, str]:
    pairs = (portable(word).lstrip("+~").partition("=") for word in run.overrides if not word.startswith("-"))
    kept = {key: value for key, _, value in pairs if key not in OWN and not key.startswith("hydra.")}
    return kept | {"name": run.summary["name"]}


def _differing(runs: Sequence[FinishedRun]) -> set[str]:
    """The settings that vary within a cell, except copies of the seed; only `name` if it distinguishes equal seeds."""
    cells = defaultdict(list)
    for run in runs:
        cells[_cell(run)].append((run.seed, _settings(run)))
    keys, named = set(), False
    for members in cells.values():
        names = {(seed, settings["name"]) for seed, settings in members}
        named |= len(names) > len({seed for seed, _ in members})
        for key in {key for _, settings in members for key in settings} - {"name"}:
            values = [(str(seed), settings.get(key)) for seed, settings in members]
            if len({value for _, value in values}) > 1 and any(seed != value for seed, value in values):
                keys.add(key)
    return {"name"} if named else keys


def _refuse_twins(runs: Sequence[FinishedRun], variant: dict[Path, str]) -> None:
    seen: dict[tuple, Path] = {}
    for run in runs:
        other = seen.setdefault((*_cell(run), run.seed, variant[run.folder]), run.folder)
        if run.study and other != run.folder:
            raise DataError(
                f"{run.folder} and {other} are the same cell of the study {run.study} ({run.arm}, seed {run.seed}, "
                f"{run.fraction:.0%} of the images, {run.budget} steps); a mean needs it once: leave one of them out"
            )
