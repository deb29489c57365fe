"""The run folder: the names of all files of a run, and how they are written.

    RUN/config.yaml classes.json data.json lock failed.txt summary.json results.png VAL_predictions.png ...
    RUN/.hydra/                          the configuration and the overrides, with Hydra's names
    RUN/train.log history.json           the lines of the console, and what `resume=RUN` changed
    RUN/thresholds.json report.html      the scores from which detections are shown, and the page of the run
    RUN/card.yaml                        what only people know: licences, intended use, limits
    RUN/budget.json loggers.json         the steps that fit `minutes` or `epochs`; the ids of the run in MLflow and W&B
    RUN/workers/1/ ...                   the log and the curves of each further worker (`distribute`)
    RUN/classify/ detector/ quantized/   one folder for each stage
        metrics.jsonl train/ eval/       the figures during training; the folders are for TensorBoard
        last/ best.*                     the whole state, and the best weights by name
        transfer.json summary.json       the source of its weights, its scores and its cost
        first_batch.png confusion.png    pictures: the second one of stage 1

The results of the last stage are in the run folder itself.
"""

import datetime
import logging
import os
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from detect import files
from detect.config import resume
from detect.config.resume import BUDGET, CLASSES, EXTENDABLE, HYDRA, MOVABLE, STEPS, Command, extensions
from detect.config.tree import load_yaml, plain
from detect.errors import ConfigError, DataError, InUse, UserError, printable_lines
from detect.files import read_json, write_json, write_text
from detect.runs import forms
from detect.runs.stage_folder import METRICS, SUMMARY, StageFolder, summary_of
from detect.runs.workers import Worker

if TYPE_CHECKING:  # it imports numpy, and the command line imports this module before it refuses a typo
    from detect.data.dataset import ClassificationDataset, DetectionDataset
    from detect.evaluation.thresholds import Shipped

log = logging.getLogger("detect")

EXPORT, MEASURED = "export.json", "measured.json"
"""The files that `detect report` reads beside SUMMARY: from an exported model, or any other measurement."""

CLASSIFY, DETECTOR, QUANTIZED = STAGES = ("classify", "detector", "quantized")
"""The stages, in the order in which they are trained."""

SCHEDULES = {CLASSIFY: "classify.schedule", DETECTOR: "schedule", QUANTIZED: "quantize.schedule"}
"""The schedule of each stage in the configuration."""

THRESHOLDS = "thresholds.json"
"""Beside the scores of a stage: the scores from which its detections are shown."""

TFLITE_MODEL, DETECTOR_JSON = "model.tflite", "detector.json"
"""In the folder of an export: the TFLite file, and the file with the classes, frame and origin of a SavedModel."""

FAILED, WORKERS, LOCK = "failed.txt", "workers", "lock"


def chosen_split(scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The split that chose the checkpoint, by its scores: the first that has an AP, or else the first."""
    there = [split for split in ("val", "test", "train") if split in scores]
    return next((split for split in there if scores[split].get("AP") is not None), there[0] if there else None)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. of: the folder of the run, if `path` is that of one of its further workers."""

    path: Path
    of: Path | None = None

    @property
    def shared(self) -> Path:
        """The folder of the run, which worker 0 writes."""
        return self.of or self.path

    def of_worker(self, worker: Worker) -> "RunFolder":
        """The folder that a worker writes: of worker 0 the run's, of worker 1 `RUN/workers/1`."""
        return self if worker.is_chief else RunFolder(self.path / WORKERS / str(worker.index), self.path)

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage of STAGES."""
        return StageFolder(self.path / name, self.shared / name)

    @property
    def config(self) -> Path:
        """The composed configuration."""
        return self.path / "config.yaml"

    @property
    def classes(self) -> Path:
        """The classes in order, as COCO's categories: [{"id": 3, "name": "car"}, ...]; once a list of names."""
        return self.path / CLASSES

    @property
    def data(self) -> Path:
        """The record of the data set: `detect.runs.data_record`."""
        return self.path / "data.json"

    @property
    def summary(self) -> Path:
        """The scores and the cost of a finished run."""
        return self.path / SUMMARY

    @property
    def thresholds(self) -> Path:
        """The scores from which detections of the last stage are shown."""
        return self.path / THRESHOLDS

    @property
    def card(self) -> Path:
        """What only people know about the detector, for the page of the run: {"Intended use": "...", ...}."""
        return self.path / "card.yaml"

    @property
    def hydra(self) -> Path:
        """The folder with the files of `detect.config.resume.SAVED`."""
        return self.path / HYDRA

    @property
    def shared_budget(self) -> Path:
        """The steps of each stage that fit `minutes` or `epochs`: {"steps": {...}, "configured": {...}}."""
        return self.shared / BUDGET

    @property
    def loggers(self) -> Path:
        """The file with the ids that logging services gave the run: {"mlflow": "0f3...", "wandb": "a81..."}."""
        return self.path / "loggers.json"

    @property
    def log(self) -> Path:
        """The lines of the console, with their time."""
        return self.path / "train.log"

    @property
    def history(self) -> Path:
        """A list of the changes that `resume=RUN` made: time, the values before and after, the scores before."""
        return self.path / "history.json"

    @property
    def failed(self) -> Path:
        """The file with the error of the last try, if it failed."""
        return self.path / FAILED

    @property
    def is_run(self) -> bool:
        """Whether the folder has the configuration of a training run."""
        return self.config.exists()

    def saved_config(self) -> DictConfig:
        """The configuration of the run. Raises ConfigError if the file holds something else."""
        return load_yaml(self.config, "this is not the configuration of a run")

    def class_names(self) -> tuple[str, ...]:
        """The class names, in order."""
        return tuple(name for _, name in self._categories())

    def category_ids(self) -> tuple[int, ...]:
        """The number of each class in the user's own files: 1..C if these have none."""
        return tuple(number for number, _ in self._categories())

    def _categories(self) -> list[tuple[int, str]]:
        try:
            listed = read_json(self.classes)
            if listed and all(isinstance(entry, str) for entry in listed):
                return list(enumerate(listed, 1))
            found = [(int(entry["id"]), str(entry["name"])) for entry in listed]
            ids = [number for number, _ in found]
            if not found or len(set(ids)) < len(ids) or max(map(abs, ids)) >= 1 << 53:
                raise ValueError("legal are one or more classes, each with a number of its own")
            return found
        except (UserError, ValueError, TypeError, KeyError, OSError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{self.classes}: this is not the list of classes of a run: {error}") from error

    def save(
        self,
        cfg: DictConfig,
        dataset: "DetectionDataset",
        command: Command | None = None,
        pictures: "ClassificationDataset | None" = None,
    ) -> None:
        """Writes the command, the configuration, the class names with their numbers, and the record of the data.

        pictures: those of stage 1, if it has its own and is not finished.
        """
        from detect.runs import data_record

        kept = {} if pictures or CLASSIFY not in (known := self._recorded()) else {CLASSIFY: known[CLASSIFY]}
        if command:
            self.save_command(command)
        write_text(self.config, OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        numbered = zip(dataset.category_ids or (), dataset.classes, strict=True)
        write_json(self.classes, [{"id": number, "name": name} for number, name in numbered], indent=None)
        write_json(self.data, data_record.record(dataset, pictures) | kept, indent=None)

    def continuation(self, by_command: bool) -> str:
        """What continues the run: a command, or the call of Python that started it."""
        command = shlex.join(["detect", "train", f"resume={self.path}", *resume.since_begun(self.path)])
        return command if by_command else f"the same call of Python, with the folder {self.path}"

    def save_command(self, command: Command) -> None:
        """Writes the files that `resume=RUN` reads."""
        self.hydra.mkdir(exist_ok=True)
        for name, text in reversed(list(command.saved.items())):
            write_text(self.hydra / name, text)

    def extend(self, cfg: DictConfig) -> None:
        """If the configuration extends the run, writes that into its history. A finished run is then unfinished."""
        if not (changed := self.extensions(cfg)):
            return
        entry = {"changed": {key: list(pair) for key, pair in changed.items()}}
        history = self.changes()
        if not history or history[-1]["changed"] != entry["changed"]:
            scores = (summary_of(self.summary, forms.SCORED) or {}).get("scores")
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            write_json(self.history, [*history, {"time": now, **entry, "scores": scores}])
        self.summary.unlink(missing_ok=True)

    def threshold(self, stage: str) -> "Shipped | None":
        """The threshold that was chosen for a stage with boxes; None if the stage has none.

        Raises DataError if the file is damaged.
        """
        from detect.evaluation.thresholds import Shipped

        own = self.stage(stage).path / THRESHOLDS
        path = self.thresholds if stage == self.last_stage() and not own.exists() else own
        if not path.exists():
            return None
        said = forms.read(path, {})
        try:
            return Shipped.read(said.get("shipped"), len(self.class_names()))
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    def changes(self) -> list[dict[str, Any]]:
        """The entries of the history, the first one first. Raises DataError if the file is damaged."""
        if not self.history.exists():
            return []
        entries = read_json(self.history)
        forms.check(entries, forms.HISTORY, self.history)
        return list(entries)

    def last_stage(self) -> str | None:
        """The last stage with boxes that the run began, or None."""
        own = next((name for name in (QUANTIZED, DETECTOR) if (self.path / name).is_dir()), None)
        others = sorted(path.parent.name for path in self.path.glob(f"*/{METRICS}"))
        return own or next((name for name in others if name != CLASSIFY), None)

    def objective(self) -> float | None:
        """AP of a finished run on the split that chose the checkpoint; None if the run is not finished."""
        summary = summary_of(self.summary, forms.SCORED)
        if summary is None:
            return None
        scores = summary["scores"]
        split = chosen_split(scores)
        if split is None:
            raise DataError(f"{self.summary}: it has scores of no split; legal are val, test and train")
        return scores[split]["AP"] or 0.0

    def check_path(self) -> None:
        """Raises ConfigError for a path that TensorFlow can't use."""
        if any(sign in str(self.path) for sign in "[]\\*?"):
            raise ConfigError(f"run folder {self.path}: TensorFlow can't keep checkpoints in a path with [ ] \\ * or ?")

    def claim(self) -> IO[str]:
        """Makes the folder and locks it for this process, as long as the returned file is open.

        Raises InUse if another process trains in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / LOCK).open("a")  # the text of another process stays
        try:
            files.lock(lock, wait=False)
        except BlockingIOError as error:
            lock.close()
            raise InUse(f"run folder {self.path}: another process is training in it") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {socket.gethostname()}, {time.time_ns()}\n")
        lock.flush()
        return lock

    def claimed_by(self) -> str | None:
        """The text that worker 0 wrote into the lock of the run; None if this process can't read it."""
        try:
            return (self.shared / LOCK).read_text()
        except OSError:
            return None

    def refuse_other_data(self, dataset: "DetectionDataset", pictures: "ClassificationDataset | None" = None) -> None:
        """Raises DataError, which names what changed, if the run was begun on other data, or on other pictures."""
        for data in (dataset, pictures):
            if data is not None and (changed := self._changed(data)):
                head = f"run folder {self.path}: the data set {data.name} is not what the run was begun on"
                raise DataError("\n  ".join([head, *changed]) + "\nRestore the data, or train in another folder")

    def warn_of_other_data(self, dataset: "DetectionDataset") -> None:
        """Warns of what changed since the run was begun: scores may then be those of training images."""
        if changed := self._changed(dataset):
            head = f"{self.path}: the data set {dataset.name} is not what the run was trained on"
            log.warning("%s", printable_lines("\n  ".join([head, *changed])))

    def trained_images(self, dataset: "DetectionDataset", split: str) -> list[str]:
        """The ids of images of a split that the run was trained on, with the same boxes; empty if that is unknown."""
        from detect.runs import data_record

        trained = self._recorded().get("splits", {}).get("train", {})
        now = data_record.digests(dataset.splits[split]) if trained else {}
        return [name for name, digest in now.items() if trained.get(name) == digest]

    def _changed(self, dataset: "DetectionDataset | ClassificationDataset") -> list[str]:
        """What differs from the data that the run was begun on; empty if that is not known."""
        from detect.data.dataset import ClassificationDataset
        from detect.runs import data_record

        before: dict[str, Any] | None = self._recorded()
        if before and isinstance(dataset, ClassificationDataset):
            before = before.get(CLASSIFY)
        return data_record.changes(before, data_record.compared(dataset)) if before else []

    def _recorded(self) -> dict[str, Any]:
        """What the run was begun on; empty if that is not known."""
        if not self.data.exists():
            return {}
        try:
            return forms.read(self.data, forms.DATA)
        except DataError as error:
            log.warning("%s; whether the data changed is not known", error)
            return {}

    def extensions(self, cfg: DictConfig) -> dict[str, tuple[object, object]]:
        """The keys with which `resume=RUN` extends the run in the folder, with their values before and now.

        Raises ConfigError, which names each key, if the folder holds a run of another configuration.
        """
        if not self.is_run:
            return {}
        asked = (*EXTENDABLE, *MOVABLE) if cfg.get("resume") else ()
        found = extensions(self.saved_config(), cfg, f"run folder {self.path}", asked)
        if STEPS in found:
            configured, wanted = found[STEPS]
            resume.refuse_ignored(self.shared_budget, cast(int, configured), cast(int, wanted))
        return found
