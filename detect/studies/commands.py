"""The command that repeats a run, and the settings that distinguish runs of the same cell."""

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from detect.config.fingerprint import UNFINGERPRINTED
from detect.errors import DataError
from detect.studies.cells import Cell
from detect.studies.records import FinishedRun

ONE_PLACE = re.compile(r"""^([^=]+=)(['"]?)/(?:[^,\[\]{}]*/)?([^/,\[\]{}'"\\]+)/?\2$""")
PLACE = re.compile(r"""(?:^|(?<=[\s=:,(\[{'"]))/(?:[^/\s,\]}'"]+/)*([^/\s,\]}'"\\]+)/?""")
"""An absolute path and its last part: ONE_PLACE for a whole value, with spaces allowed, PLACE for an item of a list.
A backslash is no part of it, as it may belong to the quote behind it."""

NUMBER = re.compile(r"(?:^|(?<=[\[{(,: ]))[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=$|[\]}),])")
"""A number that is a whole value, or an item of a list or mapping."""

QUOTED = re.compile(r"='(?!(?:[-+.\d].*|inf|nan|null|true|false)'$)([\w./+-]+)'$", re.IGNORECASE | re.ASCII)
"""A value with quotes of Hydra that it does not need: it is ASCII, and no number, truth or null."""

SEED = "SEED"
"""In place of the seed in a path."""

OWN = ("seed", "arm", "study", "limit.fraction", "schedule.steps", "threads")
"""Overrides that define the cell itself, or that do not change a result."""

PLACES = ("dataset.root", "dataset.roots", "classify.dataset.root")
"""Overrides that name a place of this machine."""

WITHOUT_EFFECT = (*OWN, *PLACES, "hydra.*", *(glob for glob in UNFINGERPRINTED if glob not in ("name", "rates.*")))
"""Globs of overrides that make no variant. Those of `rates` do: they change the rate of the schedule."""

FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
"""Options of the command line before a folder of configurations."""


def command(run: FinishedRun) -> str:
    """The command that repeats the run. An absolute path is shortened to its last part, as the rest is local."""
    kept = [word for word in run.overrides if not word.startswith(("hydra.run.", "hydra.sweep.", "resume="))]
    return shlex.join(["detect", "train", *(portable(word) for word in kept)]) if kept else ""


def portable(word: str) -> str:
    """`dataset.root='/data/bccd'` as `dataset.root=bccd`. A text that reads as a number keeps its quotes."""
    return QUOTED.sub(r"=\1", PLACE.sub(r"\1", ONE_PLACE.sub(r"\1\2\3\2", word)))


@dataclass(frozen=True)
class Member:
    """A run of a cell. cell: without a variant. place: its folder, for messages.

    settings: its overrides that may make a variant, and its name. A path is whole, or shortened in rows of a CSV.
    extended: whether `resume=RUN` gave it another length.
    """

    cell: Cell
    seed: int
    settings: Mapping[str, str]
    place: str
    extended: bool = False

    @property
    def about(self) -> str:
        """`study mine (crops, seed 3, 100% of the images, 800 steps)`."""
        cell = self.cell
        return f"study {cell.study} ({cell.arm}, seed {self.seed}, {cell.share} of the images, {cell.budget} steps)"


def member(run: FinishedRun) -> Member:
    """The run as a member of its cell."""
    cell = Cell(run.study, run.summary["dataset"].get("name") or "", run.fraction, run.budget, "", run.arm)
    chosen = settings(run.overrides, run.summary["name"])
    return Member(cell, run.seed, chosen, str(run.folder), bool(run.summary.get("extended")))


def settings(overrides: Sequence[str], name: str) -> dict[str, str]:
    """The overrides that may distinguish runs of one cell, and the name."""
    words = [w for before, w in zip(["", *overrides], overrides, strict=False) if before not in FOLDERS and w[0] != "-"]
    pairs = (QUOTED.sub(r"=\1", word).lstrip("+~").partition("=") for word in words)
    kept = {k: _one_form(value) for k, _, value in pairs if not any(fnmatchcase(k, glob) for glob in WITHOUT_EFFECT)}
    return kept | {"name": name}


def _one_form(value: str) -> str:
    """`[0.003,1]` for `[.003, 1.0]`: a sweep writes values in another form than a user does."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.15g}", value).replace(", ", ",")


def variants(members: Sequence[Member]) -> list[str]:
    """The variant of each run: settings other than the seed that differ from runs of the same cell; mostly empty.

    The variant is `name` if runs with equal seeds have different names, and the overrides that then still differ. The
    choice is the same for all runs of a study. Raises DataError for two runs with the same seed and no difference.
    """
    by_study = defaultdict(list)
    for one in members:
        by_study[one.cell.study].append(one)
    keys = {study: _short(_differing(of)) for study, of in by_study.items()}
    shown = {study: {key: _labels(of, key) for key in keys[study]} for study, of in by_study.items()}

    def told(one: Member) -> str:
        short, labels = keys[one.cell.study], shown[one.cell.study]
        texts = {key: labels[key][one.seed, value] for key, value in one.settings.items() if key in short}
        return " ".join(text if key == "name" else f"{short[key]}={text}" for key, text in texts.items())

    found = list(map(told, members))
    _refuse_twins(members, found)
    return found


def _differing(members: Sequence[Member]) -> set[str]:
    """The settings that vary within a cell, except copies of the seed. `name` comes first if it distinguishes equal
    seeds: then only those that vary among runs of one name."""
    cells, named = defaultdict(list), False
    for one in members:
        cells[one.cell].append(one)
    for of in cells.values():
        named |= len({(one.seed, one.settings["name"]) for one in of}) > len({one.seed for one in of})
    groups = defaultdict(list)
    for one in members:
        groups[one.cell, one.settings["name"] if named else ""].append(one)
    keys = {"name"} if named else set()
    for of in groups.values():
        keys |= {key for key in {key for one in of for key in one.settings} - {"name"} if _varies(of, key)}
    return keys


def _varies(members: Sequence[Member], key: str) -> bool:
    """Whether a setting has several values, apart from the seeds in them. A CSV has only the last part of a path."""

    def vary(values: set[str | None]) -> bool:
        whole = {value for value in values if value is not None and last_part(value) != value}
        return len({None if value is None else last_part(value) for value in values}) > 1 or len(whole) > 1

    values = [one.settings.get(key) for one in members]
    without = [value and seedless(value, one.seed) for one, value in zip(members, values, strict=True)]
    copies = all(value == str(one.seed) for one, value in zip(members, values, strict=True))
    return not copies and vary(set(values)) and vary(set(without))


def seedless(value: str, seed: int) -> str:
    """The value, with SEED in place of the seed where it is a number in a path."""
    return re.sub(rf"(?<!\d){seed}(?!\d)", SEED, value) if "/" in value else value


def last_part(value: str) -> str:
    """A value in which absolute paths have only their last part."""
    return portable(f"={value}")[1:]


def _labels(members: Sequence[Member], key: str) -> dict[tuple[int, str], str]:
    """{(seed, value of a setting): how it is shown}. Of an absolute path, as many last parts as tell it from others.

    Seeds in paths are left out where this leaves fewer values: `init=aSEED` for a0, a1 beside b0, b1.
    """
    found = {(one.seed, one.settings[key]) for one in members if key in one.settings}
    texts = {(seed, value): seedless(value, seed) for seed, value in found}
    if len(set(texts.values())) >= len({value for _, value in found}):
        texts = {(seed, value): value for seed, value in found}
    parts = {text: text.strip("'\"").split("/") for text in texts.values()}
    shown = {}
    for text, own in parts.items():
        alike = [other for other in parts if last_part(other) == last_part(text) and last_part(other) != other]
        counts = (n for n in range(2, len(own)) if sum(parts[other][-n:] == own[-n:] for other in alike) == 1)
        shown[text] = last_part(text) if len(alike) < 2 else "/".join(own[-next(counts, 0) :])
    return {place: shown[text] for place, text in texts.items()}


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
