"""The command that repeats a run, and the settings that distinguish runs of the same cell."""

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detect.errors import DataError
from detect.studies.cells import Cell
from detect.studies.records import FinishedRun

ONE_PLACE = re.compile(r"""^([^=]+=)(['"]?)/(?:[^,\[\]{}]*/)?([^/,\[\]{}'"]+)/?\2$""")
PLACE = re.compile(r"""(?:^|(?<=[\s=:,(\[{'"]))/(?:[^/\s,\]}'"]+/)*([^/\s,\]}'"]+)/?""")
"""An absolute path and its last part: ONE_PLACE for a whole value, with spaces allowed, PLACE for an item of a list."""

NUMBER = re.compile(r"(?:^|(?<=[\[{(,: ]))[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=$|[\]}),])")
"""A number that is a whole value, or an item of a list or mapping."""

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


@dataclass(frozen=True)
class Member:
    """A run of a cell. cell: without a variant. place: its folder, for messages.

    settings: its overrides without those of OWN, and its name.
    """

    cell: Cell
    seed: int
    settings: Mapping[str, str]
    place: str

    @property
    def about(self) -> str:
        """`study mine (crops, seed 3, 100% of the images, 800 steps)`."""
        cell = self.cell
        return (
            f"study {cell.study} ({cell.arm}, seed {self.seed}, {cell.fraction:.0%} of the images, {cell.budget} steps)"
        )


def member(run: FinishedRun) -> Member:
    """The run as a member of its cell."""
    cell = Cell(run.study, run.summary["dataset"].get("name") or "", run.fraction, run.budget, "", run.arm)
    return Member(cell, run.seed, settings(run.overrides, run.summary["name"]), str(run.folder))


def settings(overrides: Sequence[str], name: str) -> dict[str, str]:
    """The overrides that may distinguish runs of one cell, and the name."""
    pairs = (portable(word).lstrip("+~").partition("=") for word in overrides if not word.startswith("-"))
    kept = {key: _one_form(value) for key, _, value in pairs if key not in OWN and not key.startswith("hydra.")}
    return kept | {"name": name}


def _one_form(value: str) -> str:
    """`[0.003,1]` for `[.003, 1.0]`: a sweep writes values in another form than a user does."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.15g}", value).replace(", ", ",")


def variants(members: Sequence[Member]) -> list[str]:
    """The variant of each run: settings other than the seed that differ from runs of the same cell; mostly empty.

    The variant is `name` if runs with equal seeds have different names, else the overrides that differ. The choice is
    the same for all runs of a study. Raises DataError for two runs with the same seed and no difference.
    """
    by_study = defaultdict(list)
    for one in members:
        by_study[one.cell.study].append(one)
    keys = {study: _short(_differing(of)) for study, of in by_study.items()}

    def told(one: Member) -> str:
        short = keys[one.cell.study]
        return " ".join(v if k == "name" else f"{short[k]}={v}" for k, v in one.settings.items() if k in short)

    found = list(map(told, members))
    _refuse_twins(members, found)
    return found


def _differing(members: Sequence[Member]) -> set[str]:
    """The settings that vary within a cell, except copies of the seed; only `name` if it distinguishes equal seeds."""
    cells = defaultdict(list)
    for one in members:
        cells[one.cell].append((one.seed, one.settings))
    keys, named = set(), False
    for of in cells.values():
        names = {(seed, found["name"]) for seed, found in of}
        named |= len(names) > len({seed for seed, _ in of})
        for key in {key for _, found in of for key in found} - {"name"}:
            values = [(str(seed), found.get(key)) for seed, found in of]
            if len({value for _, value in values}) > 1 and any(seed != value for seed, value in values):
                keys.add(key)
    return {"name"} if named else keys


def _short(keys: set[str]) -> dict[str, str]:
    """The last parts of each key, as many as tell it from the others."""
    parts = {key: key.split(".") for key in keys}

    def alone(key: str, count: int) -> bool:
        return sum(other[-count:] == parts[key][-count:] for other in parts.values()) == 1

    counts = {key: next((n for n in range(1, len(parts[key])) if alone(key, n)), len(parts[key])) for key in keys}
    return {key: ".".join(parts[key][-count:]) for key, count in counts.items()}


def _refuse_twins(members: Sequence[Member], variant: Sequence[str]) -> None:
    seen: dict[tuple, Member] = {}
    for one, text in zip(members, variant, strict=True):
        other = seen.setdefault((one.cell, one.seed, text), one)
        if one.cell.study and other is not one:
            raise DataError(
                f"{one.place} and {other.place} are the same cell of the {one.about}; a mean needs it once: leave one "
                "of them out"
            )
