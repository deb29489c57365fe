"""What a logging service is told of a run, and the rule that its failure never ends a training.

A logger beside metrics.jsonl and TensorBoard is a subclass of `Logger`. The group `logger` of the configuration
switches it on. `Loggers` calls all of a run.
"""

import contextlib
import importlib.util
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from detect.errors import ConfigError, DataError, printable, to_install
from detect.files import read_json, write_json

log = logging.getLogger("detect")

Row = Mapping[str, str | float | None]
"""A row of metrics.jsonl: `stage`, `kind` (train, eval), `step`, `time` in seconds since 1970, and figures by name."""

PLACES = ("stage", "kind", "step", "time")
"""The keys of a row that are no figures."""

State = Literal["finished", "interrupted", "failed"]
"""How the training of a run ended; an interrupted or failed run can go on."""

ENDED = "ended"
"""The key beside the ids of the services: true once all were told that the run is finished."""

TOLD = "told"
"""The key beside them: the stages whose results all were told."""

FINAL = "final/"
"""How the tags of the pictures of final scores begin."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Described:
    """A run, for logging services.

    folder: the run folder. ids: the file in it that keeps the services' ids of the run. name, study: from the
    configuration. parameters: the configuration, values by dotted key.
    """

    folder: Path
    ids: Path
    name: str
    study: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)

    def remembered(self, service: str) -> str | None:
        """The id that a service gave the run before; None for a new run, and if the file is damaged."""
        found = self._kept().get(service)
        return found if isinstance(found, str) and _ID.fullmatch(found) else None

    def remember(self, service: str, number: str) -> None:
        """Keeps the id that a service gave the run. A service that begins was told no results."""
        kept = self._kept()
        if kept.get(service) != number:
            write_json(self.ids, {**kept, service: number, TOLD: []})

    @property
    def ended(self) -> bool:
        """Whether the services know that the run is finished."""
        return self._kept().get(ENDED) is True

    def end(self, finished: bool) -> None:
        """Keeps whether the services know that the run is finished."""
        write_json(self.ids, {**self._kept(), ENDED: finished})

    @property
    def told(self) -> list[str]:
        """The stages whose results the services know."""
        found = self._kept().get(TOLD)
        return found if isinstance(found, list) else []

    def tell(self, stage: str, told: bool) -> None:
        """Keeps whether the services know the results of a stage."""
        if told is not (stage in self.told):
            others = [name for name in self.told if name != stage]
            write_json(self.ids, {**self._kept(), TOLD: [*others, stage] if told else others})

    def _kept(self) -> dict[str, object]:
        try:
            found = read_json(self.ids)
        except DataError:  # also without a file
            return {}
        return found if isinstance(found, dict) else {}


class Logger:
    """A service or a file that gets the figures of a run. A subclass overrides the methods it needs.

    The constructor keeps its arguments and does nothing else. Any error of a method ends the logger, not the training.
    package: the module that the logger imports. extra: the optional dependency of `detect` that brings it.
    """

    package: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    def check(self) -> None:
        """Called before the data is read. Raises ConfigError if the logger can't work, such as without its package."""
        if self.package and importlib.util.find_spec(self.package) is None:
            name = self.extra or self.package
            ways = [to_install(self.extra)] if self.extra else []
            ways = [f"`{way}`" for way in (*ways, f"pip install {self.package}")]
            raise ConfigError(
                f"logger={name}: the package {self.package} is not installed; install it with {', or '.join(ways)}, "
                f"or leave logger={name} out"
            )

    def begin(self, run: Described) -> None:
        """Called once, before the first stage. A run that resumes goes on where the service has it."""

    def begin_stage(self, stage: str, folder: Path, kept: Sequence[Row], undone: Sequence[Row]) -> None:
        """Called before the first step of a stage in its folder.

        kept: the rows that an earlier process wrote. undone: those of steps that run again, from a resumed run.
        """

    def row(self, row: Row) -> None:
        """Called for each row of metrics.jsonl."""

    def picture(self, stage: str, tag: str, step: int, image: np.ndarray) -> None:
        """Called for each picture that TensorBoard gets: RGB uint8 [h, w, 3]."""

    def results(self, stage: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Called when a stage is finished: its scores and cost, and its files. stage: "" for the last stage."""

    def end(self, state: State) -> None:
        """Called once, when the training of the run ends."""


class Loggers:
    """The loggers of a run. One that fails is left out from then on, after one warning; the training goes on."""

    def __init__(self, each: Mapping[str, Logger] | None = None):
        """each: the loggers by the names that they have in the configuration."""
        self._each = dict(each or {})
        self._run: Described | None = None

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._each)

    def check(self) -> None:
        """Raises ConfigError if one can't work."""
        for logger in self._each.values():
            logger.check()

    @contextlib.contextmanager
    def running(self, run: Described) -> Iterator[None]:
        """Inside this context the run trains. At the end, the loggers are told how it ended."""
        if run.ended:  # a finished run is extended
            run.end(False)
        self._run = run
        self._tell(lambda logger: logger.begin(run))
        state: State = "failed"
        try:
            yield
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            self._tell(lambda logger: logger.end(state))
        if self._each:
            run.end(True)

    def catch_up(self, run: Described, results: Callable[[], tuple[str, Mapping[str, float], Sequence[Path]]]) -> None:
        """Tells the loggers the results of a finished run. The process was stopped before it had told them.

        results: gives the arguments of `Logger.results`.
        """
        if self._each:
            with self.running(run):
                self.results(*results())

    def begin_stage(self, stage: str, folder: Path, kept: Sequence[Row], undone: Sequence[Row]) -> None:
        """See `Logger.begin_stage`. The stage will have new results."""
        if self and self._run:
            self._run.tell(stage, False)
        self._tell(lambda logger: logger.begin_stage(stage, folder, kept, undone))

    def row(self, row: Row) -> None:
        """See `Logger.row`."""
        self._tell(lambda logger: logger.row(row))

    def picture(self, stage: str, tag: str, step: int, image: np.ndarray) -> None:
        """See `Logger.picture`."""
        self._tell(lambda logger: logger.picture(stage, tag, step, image))

    def results(self, stage: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """See `Logger.results`. Each resume comes upon the finished stages: those that were told are left out."""
        if self._run and stage in self._run.told:
            return
        self._tell(lambda logger: logger.results(stage, figures, files))
        if self and self._run and stage:
            self._run.tell(stage, True)

    def _tell(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._each.items()):
            try:
                call(logger)
            except Exception as error:  # a service raises what it likes
                del self._each[name]
                reason = printable((str(error).splitlines() or [""])[0])[:300]
                log.warning(
                    "logger.%s: %s: %s. It gets nothing more of this run; metrics.jsonl and TensorBoard have all",
                    name,
                    type(error).__name__,
                    reason,
                )


def figures_of(row: Row) -> dict[str, float]:
    """The figures of a row that have a value."""
    return {name: float(value) for name, value in row.items() if name not in PLACES and value is not None}


class SentRows:
    """Which rows of a stage a service must still get, if it has those of an earlier process.

    kept, undone: as in `Logger.begin_stage`. new: whether the service has nothing of the run; then it gets the kept
    rows, too. Else it has the undone ones, and they are the same when their steps run again.
    """

    def __init__(self, kept: Sequence[Row], undone: Sequence[Row], new: bool):
        self.missed = list(kept) if new else []
        self._last: dict[object, float] = {}
        for row in () if new else [*kept, *undone]:
            self._last[row["kind"]] = max(self._last.get(row["kind"], 0.0), _step(row))

    def wants(self, row: Row) -> bool:
        """Whether the service has not got this row."""
        return _step(row) > self._last.get(row["kind"], -1.0)

    def wants_picture(self, tag: str, step: int) -> bool:
        """Whether the service has not got the pictures of a step: those of an evaluation, or of the start (step 0).

        Final scores come after the row of the last evaluation, and may be made again.
        """
        return tag.startswith(FINAL) or step > self._last.get("eval", 0.0 if self._last else -1.0)


def _step(row: Row) -> float:
    return float(row["step"] or 0)


class RowLogger(Logger, ABC):
    """A logger of a service that keeps the rows of a run, so that each row is sent once, also by a resumed run.

    `begin` of a subclass sets `_new`: whether the service has nothing of the run yet.
    """

    def __init__(self) -> None:
        self._new, self._rows = True, SentRows((), (), True)

    def begin_stage(self, stage: str, folder: Path, kept: Sequence[Row], undone: Sequence[Row]) -> None:
        """Sends the kept rows that the service has not got."""
        self._rows = SentRows(kept, undone, self._new)
        for row in self._rows.missed:
            self._send(row)

    def row(self, row: Row) -> None:
        """Sends a row that the service has not got."""
        if self._rows.wants(row):
            self._send(row)

    @abstractmethod
    def _send(self, row: Row) -> None:
        """Sends a row to the service."""
