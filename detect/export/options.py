"""Checks the settings of `detect export`, and names the folder to write. Nothing here imports TensorFlow."""

from pathlib import Path

from omegaconf import DictConfig

from detect.config.check import refuse_unread
from detect.errors import ConfigError
from detect.files import expanded, tensorflow_reads
from detect.portable.packages import MODEL, require
from detect.runs.folder import TFLITE_MODEL, RunFolder
from detect.runs.unstarted import refuse_unwritable
from detect.tflite.options import Options

LABELS, ANCHORS = "labels.txt", "anchors.csv"  # beside the model
SAVED_MODEL = "saved_model.pb"
FILES = {"saved_model": SAVED_MODEL, "tflite": TFLITE_MODEL, **MODEL}
"""The file of each format in the folder of an export."""


def destination(cfg: DictConfig) -> Path:
    """Checks all settings, and returns the folder of the export.

    Raises ConfigError for settings that contradict each other, and for an existing folder without `overwrite=true`.
    """
    if not cfg.run:
        raise ConfigError("name a run folder: run=RUN")
    check(cfg)
    refuse_export(expanded(cfg.run))
    check_stage(cfg)
    folder = expanded(cfg.output or expanded(cfg.run) / default_name(cfg))
    if cfg.format == "saved_model" and not tensorflow_reads(folder):
        raise ConfigError(f"output={folder}: TensorFlow can't read a SavedModel whose path contains [ or \\")
    refuse_unwritable(folder, "output")
    if folder.exists() and not cfg.overwrite:
        raise ConfigError(f"output={folder} exists; name another folder or give overwrite=true")
    refuse_other_content(cfg, folder)
    return folder


def refuse_export(run: Path) -> None:
    """Raises ConfigError for an exported model in place of a run."""
    names = {Path(name).name for name in FILES.values()}
    if not RunFolder(run).is_run and (run.name in names or any((run / name).exists() for name in names)):
        raise ConfigError(f"run={run}: an exported model can't be exported again; name the run folder")


def refuse_other_content(cfg: DictConfig, folder: Path) -> None:
    """Raises ConfigError for a run folder, and for a folder with a model of another format: which of the two would be
    opened later, its name does not tell."""
    if RunFolder(folder).is_run:
        raise ConfigError(f"output={folder}: this is a run folder; name another one, such as {folder}/{cfg.format}")
    held = [name for kind, name in FILES.items() if kind != cfg.format and (folder / name).exists()]
    if held:
        raise ConfigError(f"output={folder}: it holds {held[0]}, a model of another format; name another folder")


def check(cfg: DictConfig) -> None:
    """Raises ConfigError for settings that contradict each other, before TensorFlow is imported."""
    named = {Path(name).suffix: name for name in FILES.values() if name != SAVED_MODEL}
    if file := named.get(Path(str(cfg.output or "")).suffix):
        raise ConfigError(f"output={cfg.output}: name a folder; the file in it is called {file}")
    if cfg.format != "tflite":
        kinds = ("none", "qat") if cfg.format == "saved_model" else ("none",)
        legal: dict[str, tuple[object, ...]] = {
            "quantization": kinds,
            "nms": (None, "in_graph"),
            "input": (None,),
            "heads": (None,),
        }
        legal |= {"weights": ("per_channel",), "batch": (1,)}
        others = {key: cfg[key] for key, values in legal.items() if cfg[key] not in values}
        typed = {"quantization": "quantize"}
        given = [f"{typed.get(key, key)}={'null' if value is None else value}" for key, value in others.items()]
        if given:
            name = "a SavedModel" if cfg.format == "saved_model" else f"format={cfg.format}"
            raise ConfigError(f"{', '.join(given)} is for format=tflite; {name} is float, with its NMS inside")
        if cfg.format != "saved_model":
            require(cfg.format, f"format={cfg.format}", writes=True)
    else:
        of_tflite(cfg)
    if cfg.quantization != "ptq":
        refuse_unread(cfg, "export", "quantize=ptq alone measures ranges on training images", "representative")
    check_target(cfg)


def of_tflite(cfg: DictConfig) -> Options:
    """The kind of a TFLite file. Raises ConfigError for settings that contradict each other."""
    return Options(cfg.quantization, cfg.weights, cfg.nms or "none", cfg.input, cfg.heads, cfg.batch)


def check_target(cfg: DictConfig) -> None:
    """Raises ConfigError if the settings alone tell that the file is not for the client that `target` names."""
    if cfg.target is None:
        return
    told = f"target={cfg.target}"
    if cfg.format != "tflite":
        raise ConfigError(f"{told}: it takes a TFLite file; give format=tflite")
    if cfg.target == "mediapipe" and cfg.nms in (None, "none"):
        raise ConfigError(f"{told}: it wants detections; give nms=in_graph or nms=tflite_op")
    if cfg.target == "mediapipe" and cfg.input == "int8":
        raise ConfigError(f"{told} input=int8: it gives images of uint8 or float32; leave input=null")
    if cfg.target == "edge_tpu" and cfg.quantization not in ("ptq", "qat"):
        raise ConfigError(f"{told} quantize={cfg.quantization}: it computes in int8; give quantize=ptq or quantize=qat")
    if cfg.target == "edge_tpu" and cfg.batch != 1:
        raise ConfigError(f"{told} batch=null: it takes tensors of fixed shapes; leave batch=1")


def check_stage(cfg: DictConfig) -> None:
    """Raises ConfigError if the run lacks the stage to export; the message names a run or a command that has it."""
    run = RunFolder(expanded(cfg.run))
    if not run.is_run:
        return  # loading raises the error
    saved = run.saved_config()
    quantize = saved.get("quantize") or {}
    if cfg.quantization == "qat":
        if not quantize.get("enabled"):
            raise ConfigError(
                f"quantize=qat: {cfg.run} never trained with fake quantisation. Start a run from it with its data set, "
                f"backbone and detector: detect train quantize=int8 init={cfg.run} init.scope=detector"
            )
    elif quantize.get("enabled") and not quantize.get("float_stage", True):
        mend = "train one without quantize.float_stage=false"
        if saved.init.get("scope") == "detector" and saved.init.get("path"):
            start = expanded(str(saved.init.path))  # RUN, RUN/detector or RUN/detector/best
            around = next((place for place in (start, *start.parents[:2]) if RunFolder(place).is_run), None)
            mend = f"name the run that it started from: run={around}" if around else mend
        told = f"quantize={cfg.quantization}: {cfg.run} has no float detector, because stage 2 was left out"
        raise ConfigError(f"{told}; {mend}")


def default_name(cfg: DictConfig) -> str:
    """The name of the export's folder in the run folder: `saved_model` or `tflite`, and the settings that differ."""
    together = "class_agnostic" if cfg.class_agnostic else ""
    if cfg.format in MODEL:
        return "_".join([cfg.format, *([together] if together else [])])
    if cfg.format == "saved_model":
        parts = ["qat" if cfg.quantization == "qat" else "", together]
    else:
        batch = "" if cfg.batch else "any_batch"
        kernels = "per_tensor" if cfg.weights == "per_tensor" else ""
        parts = [cfg.quantization, kernels, cfg.nms or "none", batch, together]
    return "_".join([cfg.format, *(part for part in parts if part not in ("", "none"))])
