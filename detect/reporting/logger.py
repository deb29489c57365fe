"""Records the training of a run in metrics.jsonl, in TensorBoard and on the console.

metrics.jsonl has every figure as JSON lines, and `detect report` and the pictures read only this file. TensorBoard
shows the same figures, images, curves and the configuration. The console has a progress line and evaluation tables.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from detect.errors import DataError
from detect.evaluation.coco import Scores
from detect.files import strict_json, write_text
from detect.loggers.interface import Loggers
from detect.reporting.progress import ProgressLine
from detect.reporting.tensorboard import EventWriter
from detect.runs.stage_folder import METRICS

if TYPE_CHECKING:
    import tf_keras

log = logging.getLogger("detect")


class RunLogger:
    """Writes <folder>/metrics.jsonl and <folder>/{train,eval} for TensorBoard, and prints the progress line.

    Every stage has its own folder, because its steps start from 0. Use it as a context manager, or call `close`:
    otherwise a terminal stays without its cursor.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        stage: str,
        console: bool = True,
        every: float = 30.0,
        services: Loggers | None = None,
    ):
        """folder: folder of the stage. total_steps: steps of the stage. stage: its name in rows and on the console.

        console: False prints nothing. every: seconds between two progress lines if the output is not a terminal.
        services: the loggers of the run that get the same figures and pictures.
        """
        self._services = services or Loggers()
        self.folder, self.stage = Path(folder), stage
        self.folder.mkdir(parents=True, exist_ok=True)
        self._metrics = self.folder / METRICS
        self._file: IO[str] | None = None
        self._board = {kind: EventWriter(self.board(kind)) for kind in ("train", "eval")}
        self._progress = ProgressLine(stage, total_steps, every) if console else None

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def train(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record the training figures of one step and redraw the progress line."""
        self._record("train", step, scalars)
        if self._progress:
            self._progress.update(step, scalars)

    def evaluation(self, step: int, scalars: Mapping[str, float | None], table: str) -> None:
        """Record the figures of one evaluation (None: n/a) and print its table above the progress line."""
        self._record("eval", step, scalars)
        self._board["eval"].flush()
        if self._progress:
            self._progress.say(f"\n{self.stage}, step {step}: {table.strip()}\n")

    def images(self, tag: str, step: int, images: Sequence[np.ndarray] | np.ndarray) -> None:
        """Show RGB uint8 pictures [h, w, 3] under one tag in TensorBoard; a single array is one picture."""
        pictures = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
        for number, picture in enumerate(pictures):
            name = tag if len(pictures) == 1 else f"{tag}/{number}"
            self._board["eval"].image(name, step, picture)
            self._services.picture(self.stage, name, step, picture)

    def board(self, kind: str) -> Path:
        """The folder of the event files of a kind, `train` or `eval`. TensorBoard names the curves by its path."""
        return self.folder / kind

    def graph(self, serialized: bytes) -> None:
        """Show a graph in TensorBoard. serialized: a GraphDef."""
        self._board["train"].graph(serialized)

    def final(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Show figures of the finished stage in TensorBoard, under tags of their own."""
        self._board["eval"].scalars(step, _known(figures))

    def text(self, tag: str, text: str) -> None:
        """Show text (Markdown) in TensorBoard."""
        self._board["train"].text(tag, text)

    def histograms(self, step: int, model: "tf_keras.Model") -> None:
        """Show the distribution of every weight of a Keras model in TensorBoard."""
        for weight in model.weights:
            self._board["train"].histogram("weights/" + weight.name.split(":")[0], step, weight.numpy())

    def hparams(self, values: Mapping[str, Any], metrics: Mapping[str, float | None]) -> None:
        """Register this run in TensorBoard's HParams table.

        values: settings; nested ones become dotted keys, lists and nulls are left out. metrics: the figures for the
        comparison of runs, without those that are None. With metrics, TensorBoard marks the run as finished.
        """
        self._board["eval"].hparams(dict(_flat_scalars(values)), _known(metrics))

    def pr_curves(self, step: int, scores: Scores) -> None:
        """Show precision and recall at IoU .5 per class in TensorBoard, with exact counts at 101 scores."""
        levels = np.linspace(0, 1, 101)
        for name, ranking in scores.rankings.items():
            above = np.searchsorted(-ranking.scores, -levels, side="right")  # detections of at least this score
            true = np.concatenate([[0], np.cumsum(ranking.hits)])[above]
            self._board["eval"].pr_curve(f"precision_recall/{name}", step, true, above - true, ranking.boxes - true)

    def resume_at(self, step: int) -> None:
        """Remove the records of this stage after `step`, because these steps run again."""
        self._close_file()
        rows = read_metrics(self._metrics, strict=False) if self._metrics.exists() else []
        kept, undone = list[dict](), list[dict]()
        for row in rows:
            (kept if row["stage"] != self.stage or row["step"] <= step else undone).append(row)
        if self._metrics.exists():
            write_text(self._metrics, "".join(strict_json(row) + "\n" for row in kept))
        for writer in self._board.values():
            writer.restart(step + 1)
        self._services.begin_stage(self.stage, self.folder, kept, undone)

    def close(self) -> None:
        """End the progress line and flush everything; calling it twice does no harm."""
        if self._progress:
            self._progress.close()
        for writer in self._board.values():
            writer.close()
        self._close_file()

    def _record(self, kind: str, step: int, scalars: Mapping[str, float | None]) -> None:
        figures = {key: None if value is None else float(value) for key, value in scalars.items()}
        row: dict[str, str | float | None] = {"stage": self.stage, "kind": kind, "step": int(step)}
        row |= {"time": round(time.time(), 3), **figures}
        if self._file is None:
            _drop_half_line(self._metrics)
            # Line buffered: the operating system has each written row, so it is safe if the process is killed.
            self._file = self._metrics.open("a", buffering=1)
        self._file.write(strict_json(row) + "\n")
        self._services.row(row)
        group = "training/" if kind == "train" else "scores/"
        tags = {key if "/" in key else group + key: value for key, value in _known(figures).items()}
        self._board[kind].scalars(step, tags)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_metrics(path: Path, strict: bool = True) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. An incomplete last line from a killed process is skipped.

    Raises DataError, naming file and line, for any other line that is not JSON. Without `strict`, a warning counts
    these and those that are no row of a stage.
    """
    rows, damaged = [], 0
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not strict:
                float(row["step"]), row["stage"], row["kind"]
            rows.append(row)
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            if number < len(lines) and strict:
                raise DataError(f"{path}, line {number}: not readable: {error}") from error
            damaged += number < len(lines)
    if damaged:
        log.warning("%s: %d damaged rows are left out", path, damaged)
    return rows


def _drop_half_line(path: Path) -> None:
    """Remove an incomplete last row of a killed process, so that the next row starts on a new line."""
    if path.exists() and not (text := path.read_text()).endswith("\n"):
        write_text(path, text[: text.rfind("\n") + 1])


def _flat_scalars(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, bool | int | float | str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat_scalars(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str | np.generic):
            yield f"{prefix}{key}", value.item() if isinstance(value, np.generic) else value


def _known(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in figures.items() if value is not None}
