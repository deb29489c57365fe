"""`logger=mlflow`: parameters, figures, pictures and results of a run in MLflow."""

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.errors import printable
from detect.loggers.interface import Described, Row, RowLogger, State, figures_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STORE = "MLFLOW_TRACKING_URI"
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
MOST_PARAMETERS, LONGEST_PARAMETER, LONGEST_PART = 100, 500, 100
"""Limits of every MLflow store: parameters in a request, and characters of a value and of a key."""


class MLflow(RowLogger):
    """Writes an MLflow run for each run, with the figures of all its stages.

    MLFLOW_TRACKING_URI names the store: a server, or a folder. Without it, the store is the folder `mlruns` of the
    working directory. A configuration can't name a store, so that a stranger's one sends nothing to the stranger.
    """

    package = extra = "mlflow"

    def __init__(self, experiment: str | None = None, pictures: bool = True, files: bool = True):
        """experiment: its name in MLflow; None is the study of the run, or else the name of the run.

        pictures: whether the pictures of evaluations are sent. files: whether scores, pictures and configuration are
        sent as artefacts at the end of a stage.
        """
        super().__init__()
        self.experiment, self.pictures, self.files = experiment, pictures, files
        self._client: MlflowClient | None = None
        self._run = ""

    def begin(self, run: Described) -> None:
        for name, value in (("MAX_RETRIES", "2"), ("TIMEOUT", "20")):  # else a lost server costs minutes at each row
            os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
        store = os.environ.get(STORE) or (Path.cwd() / "mlruns").as_uri()
        if store.startswith("file:") or "://" not in store:  # MLflow asks to be told that a folder is meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        client = self._client = MlflowClient(tracking_uri=store)
        found = _existing(client, run.remembered("mlflow"))
        self._new = found is None
        if found is None:
            experiment = self._experiment(client, str(self.experiment or run.study or run.name))
            self._run = client.create_run(experiment, run_name=printable(run.folder.name)).info.run_id
            run.remember("mlflow", self._run)
        else:
            self._run = found.info.run_id
            client.update_run(self._run, status="RUNNING")
        self._parameters(client, run.parameters, dict(found.data.params) if found else {})
        client.set_tag(self._run, "folder", str(run.folder))

    @staticmethod
    def _experiment(client: "MlflowClient", name: str) -> str:
        from mlflow.exceptions import MlflowException

        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another cell of the sweep may have made it since then
            if found := client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def _parameters(self, client: "MlflowClient", given: Mapping[str, object], before: Mapping[str, str]) -> None:
        """Sends the parameters. MLflow changes none, so that an extended run gets tags `changed.KEY`."""
        from mlflow.entities import Param, RunTag

        shown = {_key(k): printable(v)[:LONGEST_PARAMETER] for k, v in given.items() if k not in ("resume", "trust")}
        new = [Param(key, value) for key, value in shown.items() if key not in before]
        for start in range(0, len(new), MOST_PARAMETERS):
            client.log_batch(self._run, params=new[start : start + MOST_PARAMETERS])
        changed = [RunTag(f"changed.{k}", v) for k, v in shown.items() if k in before and before[k] != v]
        if changed:
            client.log_batch(self._run, tags=changed[:MOST_PARAMETERS])

    def _send(self, row: Row) -> None:
        named = {f"{row['stage']}/{row['kind']}/{name}": value for name, value in figures_of(row).items()}
        self._figures(named, float(row["time"] or 0), int(row["step"] or 0))

    def _figures(self, figures: Mapping[str, float], when: float, step: int) -> None:
        from mlflow.entities import Metric

        given = [Metric(_key(name), value, round(1000 * when), step) for name, value in figures.items()]
        for start in range(0, len(given), 1000):  # the most that a request may have
            self._known.log_batch(self._run, metrics=given[start : start + 1000])

    def picture(self, stage: str, tag: str, step: int, image: np.ndarray) -> None:
        if self.pictures and self._rows.wants_picture(tag, step):
            self._known.log_image(self._run, image, key=_key(f"{stage}/{tag}"), step=step)

    def results(self, stage: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        head = f"{stage}/final" if stage else "final"
        self._figures({f"{head}/{name}": value for name, value in figures.items()}, time.time(), 0)
        for file in files if self.files else ():
            self._known.log_artifact(self._run, str(file), artifact_path=stage or None)

    def end(self, state: State) -> None:
        self._known.set_terminated(self._run, status=STATUS[state])

    @property
    def _known(self) -> "MlflowClient":
        assert self._client is not None  # `begin` makes it
        return self._client


def _existing(client: "MlflowClient", number: str | None) -> Any:
    """The run of an id in the store; None without one. Raises what MLflow raises if the store can't be reached."""
    from mlflow.exceptions import MlflowException

    if number is None:
        return None
    try:
        found = client.get_run(number)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None  # the store is another one
        raise
    return found if found.info.lifecycle_stage == "active" else None


def _key(name: str) -> str:
    """A name that MLflow takes; a class may have any letters. Other signs become their number, such as _2b_ for +.

    A folder keeps each key as a path, so a class after `val_AP/` is one part of it, and a long part ends with digits of
    its hash.
    """
    head, between, label = name.partition("_AP/")
    parts = [*f"{head}_AP".split("/"), label] if between else name.split("/")
    return "/".join(map(_part, parts))


def _part(part: str) -> str:
    safe = re.sub(r"[^\w. \-]", lambda found: f"_{ord(found[0]):x}_", part)
    safe = safe if safe.strip(". ") else "_2e_" * len(safe)
    if len(safe.encode()) <= LONGEST_PART:
        return safe
    mark = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe.encode()[:LONGEST_PART].decode(errors='ignore')}_{mark}"
