"""Translates a pipeline.config of the TF Object Detection API into an experiment: `detect migrate pipeline.config`."""

import logging
import shlex
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.config import grammar
from detect.config.check import refuse_packaged_experiment
from detect.config.compose import compose
from detect.config.trust import instantiate
from detect.errors import ConfigError, printable
from detect.files import absolute, expanded, refuse_written_by_hand, write_text
from detect.migration import experiment
from detect.migration.pipeline import read, translate
from detect.runs.unstarted import refuse_unwritable

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("detect")


def main(cfg: "DictConfig") -> Path:
    """Writes the experiment, checks that it composes and has anchors, and prints what differs; returns the file."""
    source = absolute(cfg.config, "config")
    if source.is_dir():
        source /= "pipeline.config"
    if not source.is_file():
        raise ConfigError(f"config={cfg.config}: there is no file {source}")
    folder, name = place(str(cfg.output), cfg.name, source)
    found = translate(read(source))
    found.put("name", name)
    refuse_packaged_experiment(name)
    words = ["detect", "train", "--config-dir", str(folder), f"experiment={name}"]
    file = folder / "experiment" / f"{name}.yaml"
    refuse_unwritable(file.parent, "output")
    refuse_written_by_hand(file, experiment.BY)
    text = experiment.text(source, shlex.join(words), found)
    with tempfile.TemporaryDirectory() as trial:
        (Path(trial) / "experiment").mkdir()
        write_text(Path(trial) / "experiment" / f"{name}.yaml", text)
        try:
            cfg = compose([f"experiment={name}", *(f"{key}=x" for key in needed(found.values))], config_dir=trial)
            instantiate(cfg.detector.anchors)
        except ConfigError as error:
            raise ConfigError(f"{source}: its values are not legal here: {error}") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    for line in experiment.notes(found):
        for part in textwrap.wrap(line, 79, subsequent_indent="  "):
            log.info("%s", printable(part))
    log.info("wrote %s; train it with", file)
    log.info("  %s", shlex.join([*words, *(f"{key}={value}" for key, value in needed(found.values).items())]))
    return file


def place(output: str, name: object, source: Path) -> tuple[Path, str]:
    """The folder for --config-dir, and the name of the experiment. Raises ConfigError for others."""
    folder = expanded(output)
    if folder.suffix in (".yaml", ".yml"):
        if folder.suffix == ".yml" or folder.parent.name != "experiment" or name is not None:
            raise ConfigError(f"output={output}: legal are a folder, and a file DIR/experiment/NAME.yaml without name=")
        return folder.parent.parent, grammar.demand_text("output", folder.stem)
    if folder.is_file():
        raise ConfigError(f"output={output}: it is a file; legal are a folder, and a file DIR/experiment/NAME.yaml")
    return folder, experiment.name_of(source) if name is None else grammar.demand_text("name", name)


def needed(values: dict[str, Any]) -> dict[str, str]:
    """The keys that the experiment leaves to the user, and what to give."""
    return {"dataset.root": "DIR"} if values["dataset"]["root"] == "???" else {}
