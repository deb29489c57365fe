"""Runs of one cell that are not alike: their saved configurations differ in more than their commands tell."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from detect.config.check import is_open
from detect.config.fingerprint import ABSENT, changes
from detect.config.tree import plain
from detect.errors import ConfigError
from detect.runs.folder import RunFolder
from detect.studies.cells import Cell
from detect.studies.commands import OWN, PLACES, seedless
from detect.studies.records import FinishedRun

SEED_LINE = "seed:"
DATA = "dataset"
OF_EACH = (*OWN, *PLACES, "dataset.*root")
"""Globs of keys that may differ between the runs of a cell."""


def warnings(runs: Sequence[FinishedRun], cells: Sequence[Cell]) -> Iterator[str]:
    """A message for each key in which a run differs from the first run of its cell, with both values.

    cells: of the runs, with their variants. An override that differs makes a variant. What is left comes from a file of
    the user that was edited between the runs, or from other defaults. A value may follow the seed.
    """
    first: dict[Cell, tuple[FinishedRun, list[str]]] = {}
    told: set[tuple[Cell, str]] = set()
    for run, cell in zip(runs, cells, strict=True):
        lines = _lines(RunFolder(run.folder)) if cell.study else []
        other, before_it = first.setdefault(cell, (run, lines))
        if cell.study and (cell, DATA) not in told and _other_data(other, run):
            told.add((cell, DATA))
            yield (
                f"{other.folder.name} and {run.folder.name} count as one cell, but were trained on other data, although"
                " their configurations name the same: the files of the data set changed between them"
            )
        if not lines or not before_it or _alike(before_it, lines):
            continue
        for key, (before, after) in _changes(RunFolder(other.folder), RunFolder(run.folder)).items():
            other_version = ABSENT in (before, after) and not is_open(key)
            usual = other_version or any(fnmatchcase(key, glob) for glob in OF_EACH)
            follows = seedless(str(before), other.seed) == seedless(str(after), run.seed)
            copies = (str(before), str(after)) == (str(other.seed), str(run.seed))
            if not (usual or follows or copies or (cell, key) in told):
                told.add((cell, key))
                yield (
                    f"{other.folder.name} and {run.folder.name} count as one cell, but {key} is {before} in the first "
                    f"and {after} in the second: give it as an override, or another study="
                )


def _other_data(first: FinishedRun, second: FinishedRun) -> bool:
    """Whether two runs have other data, and nothing in their configurations draws or names other data."""
    if first.summary["dataset"]["fingerprint"] == second.summary["dataset"]["fingerprint"]:
        return False
    try:
        before, after = (plain(RunFolder(run.folder).saved_config()) for run in (first, second))
    except ConfigError:
        return False
    drawn = any(value not in (None, False, 1.0) for value in (before.get("limit") or {}).values())  # by the seed
    named = [{k: v for k, v in (cfg.get(DATA) or {}).items() if k not in ("root", "roots")} for cfg in (before, after)]
    return not drawn and named[0] == named[1] != {}


def _lines(run: RunFolder) -> list[str]:
    """The lines of a run's configuration; empty if they can't be read."""
    try:
        return run.config.read_text(encoding="utf-8").splitlines() if run.config.is_file() else []
    except (OSError, UnicodeDecodeError):
        return []


def _alike(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two configurations differ in their seed alone. To read them as YAML takes a hundred times as long."""
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a == b or (a.startswith(SEED_LINE) and b.startswith(SEED_LINE)) for a, b in pairs
    )


def _changes(first: RunFolder, second: RunFolder) -> dict[str, tuple[object, object]]:
    """The keys that make two runs differ; empty if a configuration is damaged."""
    try:
        return changes(first.saved_config(), second.saved_config())
    except ConfigError:
        return {}
