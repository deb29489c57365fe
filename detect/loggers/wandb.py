"""`logger=wandb`: parameters, figures, pictures and results of a run in Weights & Biases."""

import netrc
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from detect.errors import ConfigError, printable
from detect.loggers.interface import Described, Row, RowLogger, State, figures_of

if TYPE_CHECKING:
    import wandb

HOST = "api.wandb.ai"


class WandB(RowLogger):
    """Writes a W&B run for each run, with the figures of all its stages. Its own files are in RUN/wandb.

    The account, the team and the server are those of WANDB_API_KEY or `wandb login`, WANDB_ENTITY and WANDB_BASE_URL. A
    configuration can't name them, so that a stranger's one sends nothing to the stranger.
    """

    package = extra = "wandb"

    def __init__(
        self,
        project: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        pictures: bool = True,
        files: bool = True,
    ):
        """project: its name in W&B; None is the study of the run, or else the name of the run.

        mode: `offline` keeps all in RUN/wandb, for `wandb sync`; None is WANDB_MODE, or else online. pictures: whether
        the pictures of evaluations are sent. files: whether scores, pictures and configuration are sent at the end of
        a stage.
        """
        super().__init__()
        self.project, self.mode, self.pictures, self.files = project, mode, pictures, files
        self._run: wandb.Run | None = None
        self._folder = Path()

    def check(self) -> None:
        super().check()
        if self._mode() == "online" and not os.environ.get("WANDB_API_KEY") and not _logged_in():
            raise ConfigError(
                "logger=wandb: no account of Weights & Biases is known; give one with `wandb login` or WANDB_API_KEY, "
                "or keep all in the run folder with logger.wandb.mode=offline"
            )

    def begin(self, run: Described) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # else its lines break into the progress line
        import wandb

        known = run.remembered("wandb")
        number = known or uuid.uuid4().hex[:12]
        self._new, self._folder = known is None, run.folder
        self._run = wandb.init(
            project=str(self.project or run.study or run.name),
            name=printable(run.folder.name),
            group=run.study,
            id=number,
            resume="allow",
            dir=str(run.folder),
            mode=self._mode(),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, init_timeout=60, save_code=False),
        )
        run.remember("wandb", number)
        parameters = {k: v for k, v in run.parameters.items() if k not in ("resume", "trust")}
        self._known.config.update(parameters, allow_val_change=True)

    def begin_stage(self, stage: str, folder: Path, kept: Sequence[Row], undone: Sequence[Row]) -> None:
        self._known.define_metric(f"{stage}/step", hidden=True)  # each stage counts its steps from 0
        self._known.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        super().begin_stage(stage, folder, kept, undone)

    def _send(self, row: Row) -> None:
        stage = row["stage"]
        named = {f"{stage}/{row['kind']}/{printable(name)}": value for name, value in figures_of(row).items()}
        self._known.log({**named, f"{stage}/step": int(row["step"] or 0)})

    def picture(self, stage: str, tag: str, step: int, image: np.ndarray) -> None:
        import wandb

        if self.pictures and self._rows.wants_picture(tag, step):
            self._known.log({f"{stage}/{printable(tag)}": wandb.Image(image), f"{stage}/step": step})

    def results(self, stage: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        head = f"{stage}/final" if stage else "final"
        self._known.summary.update({f"{head}/{name}": value for name, value in figures.items()})
        for file in files if self.files else ():
            self._known.save(str(file), base_path=str(self._folder), policy="now")

    def end(self, state: State) -> None:
        self._known.finish(exit_code={"finished": 0, "interrupted": 130, "failed": 1}[state])

    def _mode(self) -> Literal["online", "offline", "disabled"]:
        asked = self.mode or os.environ.get("WANDB_MODE") or "online"
        return "offline" if asked in ("offline", "dryrun") else "disabled" if asked == "disabled" else "online"

    @property
    def _known(self) -> "wandb.Run":
        assert self._run is not None  # `begin` makes it
        return self._run


def _logged_in() -> bool:
    """Whether `wandb login` has left a key for the server."""
    server = os.environ.get("WANDB_BASE_URL", f"https://{HOST}").partition("://")[2].strip("/").partition(":")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(server) is not None
    except (OSError, netrc.NetrcParseError):
        return False
