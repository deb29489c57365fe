"""The Python API: all steps from a data set to an exported detector.

    from detect.api import Detector, compose, evaluate, export, read_dataset, train

    cfg = compose("dataset=voc", "dataset.root=DIR", "schedule.steps=2000")
    train(cfg, "runs/mine")
    detector = Detector.load("runs/mine")
    print(evaluate(detector, read_dataset("voc", root="DIR"), "test").summary["AP"])
    export("runs/mine", format="tflite", quantize="ptq")

The import of this module does not import TensorFlow: the first use of `train`, `evaluate`, `export`, `Detector` or
`Hook` does. It sets environment variables that TensorFlow reads then (`detect.environment.for_library`). Every error
that you can correct is a `UserError`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from detect import environment as _environment
from detect.config import check as _check
from detect.config import trust as _trust
from detect.config.compose import compose as _compose
from detect.config.grammar import quoted
from detect.config.resume import refuse_other_folder as _refuse_other_folder
from detect.data.dataset import DetectionDataset
from detect.errors import ConfigError, DataError, UserError, WeightsError
from detect.train import main as _train

if TYPE_CHECKING:
    from detect.detector import Detections, Detector
    from detect.evaluation.coco import Scores
    from detect.training.loop import Hook

__all__ = [
    "ConfigError",
    "DataError",
    "DetectionDataset",
    "Detections",
    "Detector",
    "Hook",
    "UserError",
    "WeightsError",
    "compose",
    "evaluate",
    "export",
    "read_dataset",
    "train",
]

Value = str | int | float | bool | Path | Sequence["Value"] | Mapping[str, "Value"] | None
"""What a key of the configuration can hold."""

_environment.for_library()

_LATE = {"Detector": "detect.detector", "Detections": "detect.detector", "Hook": "detect.training.loop"}
"""Names that need TensorFlow, and the module of each."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    import importlib

    return getattr(importlib.import_module(_LATE[name]), name)


def compose(*overrides: str, config_dir: str | Path | None = None, trust: Sequence[str] = ()) -> DictConfig:
    """The configuration of `detect train` with overrides, such as "dataset=voc" and "schedule.steps=2000".

    config_dir: a folder of your own YAML files beside the packaged ones. trust: your own modules that they may name.
    Raises ConfigError for an unknown group, option or key, and for a value that is not legal.
    """
    for override in overrides:
        _expect(override, str, "compose", 'overrides, such as compose("dataset=voc", "schedule.steps=2000")')
    if config_dir is not None:
        _expect(config_dir, (str, Path), "compose", "config_dir, the path of a folder")
    lines = (*overrides, *_trust.line(trust))
    return _compose(lines, "train", None if config_dir is None else Path(config_dir))


def read_dataset(
    kind: str, *, config_dir: str | Path | None = None, trust: Sequence[str] = (), **arguments: Value
) -> DetectionDataset:
    """Reads, checks and cleans a data set. The arguments are the keys of the group `dataset`.

    kind: an option of the group, such as "voc", "coco" or "yolo". arguments: for example root="DIR". config_dir, trust:
    as in `compose`.
    Boxes are float32 [n, 4], [ymin, xmin, ymax, xmax] in pixels of the image; classes count from 1.
    Raises ConfigError for an unknown kind or argument, DataError for a data set with errors.
    """
    from detect.runs.dataset import open_dataset

    maps = {key: value for key, value in arguments.items() if isinstance(value, Mapping)}
    lines = (f"dataset.{key}={'{}' if key in maps else _value(value)}" for key, value in arguments.items())
    with _trust.trusting(trust):
        cfg = compose(f"dataset={kind}", *lines, config_dir=config_dir, trust=trust)
        for key, value in maps.items():  # Hydra's grammar can't write every name of a class as a key
            plain = {str(name): str(item) if isinstance(item, Path) else item for name, item in value.items()}
            OmegaConf.update(cfg, f"dataset.{key}", plain, force_add=True)
            _check.check(cfg)
        return open_dataset(cfg)


def train(cfg: DictConfig, folder: str | Path, trust: Sequence[str] = (), extend: bool = False) -> float:
    """Trains all stages of a configuration in a run folder. Returns AP on the validation images.

    trust: your own modules that the configuration may name; the key `trust` of `cfg` opens none, as it may be a file's.
    extend: trains the run in the folder for longer, finished or not: `cfg` has a larger `schedule.steps` or another
    `schedule.patience`, and else the same values.
    A stopped run continues from its folder, and its final weights are the same bits. A finished run returns its AP at
    once.
    Raises ConfigError for a value that is not legal, and for a folder that holds another run or lies in that of the
    data.
    """
    _expect(cfg, DictConfig, "train", "a configuration of `compose`")
    if extend:
        cfg = cfg.copy()
        cfg.resume = str(folder)
    _refuse_other_folder(cfg, folder)
    with _trust.trusting(trust):
        return _train(cfg, folder)


def evaluate(detector: "Detector", dataset: DetectionDataset, split: str = "test") -> "Scores":
    """COCO's twelve metrics of a detector on a split (`summary`), and the metrics of each class (`per_class`).

    See `Detector.evaluate`.
    """
    from detect.detector import Detector

    _expect(detector, Detector, "evaluate", "a detector of `Detector.load`")
    _expect(dataset, DetectionDataset, "evaluate", "a data set of `read_dataset`")
    return detector.evaluate(dataset, split)[0]


def export(run: str | Path, *, trust: Sequence[str] = (), **options: Value) -> Path:
    """Exports a run as `detect export run=RUN` does, compares the file with the run, and returns its folder.

    options: the keys of `detect export`, for example format="tflite", quantize="ptq", output="DIR". trust: your own
    modules that the run names.
    Raises ConfigError for options that contradict each other, and for a file that differs from the run.
    """
    from detect.export.options import destination

    words = {"run": str(run), **options}
    words = {"quantization" if key == "quantize" else key: value for key, value in words.items()}
    cfg = _compose([f"{key}={_value(value)}" for key, value in words.items()], "export")
    with _trust.trusting(trust):
        folder = destination(cfg)
        from detect.export.writer import write

        write(cfg, folder)
    return folder


def _expect(value: object, kind: type | tuple[type, ...], function: str, needed: str) -> None:
    """Raises ConfigError for an argument of another type."""
    if not isinstance(value, kind):
        raise ConfigError(f"{function} takes {needed}; this is {type(value).__name__}: {str(value)[:80]}")


def _value(value: Value) -> str:
    """A Python value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str | Path):
        return quoted(str(value))
    if isinstance(value, Sequence):
        return f"[{','.join(map(_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
