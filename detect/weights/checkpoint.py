"""Name-based TensorFlow checkpoints: PREFIX.index and PREFIX.data-00000-of-00001, as TF-slim and TF 1 wrote them.

Checkpoints of 2016 are a single file (V1) in the format of an index. `read` reads them, too.
"""

import contextlib
import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.errors import WeightsError, first_few, one_line
from detect.files import expanded, tensorflow_reads
from detect.weights.transfer import transfer

if TYPE_CHECKING:
    import tf_keras

DATA = ".data-00000-of-00001"
PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")
TABLE_END = bytes.fromhex("57fb808b247547db")  # the last bytes of an index, and of a V1 checkpoint
# Variables of a training program that are not weights: step counters, optimizer slots, moving averages of weights.
NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|beta[12]_power|ExponentialMovingAverage|Momentum|Adagrad|(Adadelta|Adam|Ftrl|RMSProp)(_\d)?)$"
)
AVERAGE = "/ExponentialMovingAverage"
# What quantisation-aware training of TF 1 adds: `Conv2d_0/act_quant/min`, `.../min/biased`, `.../min/local_step`.
RANGES = re.compile(r"(^|/)\w+_quant/(.*/)?(min|max|biased|local_step)$")


def read(path: str | Path, average: bool = False, notes: list[str] | None = None) -> dict[str, np.ndarray]:
    """All weights of a checkpoint by name.

    path: the prefix, one of its files, or a folder that holds exactly one checkpoint.
    average: takes the moving average of a weight (`NAME/ExponentialMovingAverage`) in place of NAME, where it is there.
    notes: gets a line about averages, and one about ranges of fake quantisation, if some are left out.

    `global_step` and optimizer slots (`.../Momentum`, `.../RMSProp`, `.../Adam`, ...) are left out, too. Raises
    WeightsError, also if an average is asked for and no weight has one.
    """
    import tensorflow as tf  # slow, and needless where a file is only looked for

    from detect.weights import table

    prefix = find(path)
    table.check(prefix)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        held = sorted(reader.get_variable_to_shape_map())
        names = [name for name in held if not NOT_WEIGHTS.search(name) and not RANGES.search(name)]
        averaged = {name for name in names if name + AVERAGE in held}
        if average and not averaged:
            raise WeightsError(f"init.average=true: {prefix} has no {AVERAGE[1:]} of its weights")
        ranges = sum(RANGES.search(name) is not None for name in held)
        if notes is not None and averaged and not average:
            notes.append(f"{len(averaged)} averages of weights are not used; init.average=true takes them")
        if notes is not None and ranges:
            notes.append(f"{ranges} numbers of fake quantisation are left out (*_quant)")
        return {name: reader.get_tensor(name + AVERAGE * (average and name in averaged)) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{prefix} can't be read: it is damaged or not a checkpoint: {one_line(error)}") from error


def write(prefix: str | Path, values: Mapping[str, Any]) -> None:
    """Writes arrays or variables under their names. Raises WeightsError for a path that TensorFlow can't read again.

    The write is atomic: if the program dies, `read` finds all old values or all new values. The data file is renamed
    first, then the index. If `.PREFIX.new.index` has no data file, only the second rename is missing, and the next
    `read` does it.
    """
    import tensorflow as tf

    prefix = Path(prefix)
    _check_readable(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    new = _new(prefix)
    _with(new, ".index").unlink(missing_ok=True)
    arrays = {name: np.asarray(value) for name, value in values.items()}
    tf.raw_ops.SaveV2(
        prefix=str(new),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    for suffix in (DATA, ".index"):
        with open(_with(new, suffix), "rb") as file:
            os.fsync(file.fileno())
    os.replace(_with(new, DATA), _with(prefix, DATA))
    with contextlib.suppress(FileNotFoundError):  # another process that reads has done this rename
        os.replace(_with(new, ".index"), _with(prefix, ".index"))


def load(model: "tf_keras.Model", prefix: str | Path) -> None:
    """Fills all variables of a tf_keras model from a checkpoint that `write` made of the same model.

    Raises WeightsError, and changes nothing, if a variable is missing, unknown or of another shape.
    """
    transfer(model, read(prefix), source=str(prefix), layers=None)


def exists(prefix: str | Path) -> bool:
    """Whether a checkpoint with this prefix exists."""
    _finish_interrupted(Path(prefix))
    return _with(Path(prefix), ".index").is_file()


def find(path: str | Path) -> Path:
    """The prefix of the checkpoint at `path`; for a V1 checkpoint the file itself.

    path: a prefix, one of a checkpoint's files, or a folder with one checkpoint. Raises WeightsError if there is none.
    """
    path = expanded(path)
    if path.is_dir():
        found = sorted(file.with_suffix("") for file in path.glob("*.index") if not file.name.startswith("."))
        if len(found) != 1:
            named = first_few((prefix.name for prefix in found), 3)
            holds = f"{len(found)} checkpoints ({named}): name one" if found else "no *.index"
            raise WeightsError(f"{path} is a folder with {holds}. A checkpoint is PREFIX.index and PREFIX.data-*.")
        path = found[0]
    prefix = path.parent / PART.sub("", path.name)
    if not exists(prefix):
        if _is_v1(path):
            _check_readable(path)
            return path
        if path.is_file():
            raise WeightsError(f"{path} is not a TensorFlow checkpoint: there is no {prefix.name}.index beside it")
        beside = sorted(file.stem for file in prefix.parent.glob("*.index") if not file.name.startswith("."))
        hint = f"; that folder holds {first_few(beside, 3)}" if beside else ""
        raise WeightsError(f"{path}: there is no such checkpoint (no {prefix.name}.index){hint}")
    _check_readable(prefix)
    if not any(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")):
        raise WeightsError(f"{prefix}.index has no {prefix.name}.data-* beside it: half of the checkpoint is missing")
    return prefix


def is_part(path: Path) -> bool:
    """Whether a file has the name of a checkpoint's part."""
    return PART.search(path.name) is not None


def _is_v1(path: Path) -> bool:
    if is_part(path) or not path.is_file():
        return False
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - len(TABLE_END), 0))
        return file.read() == TABLE_END


def _finish_interrupted(prefix: Path) -> None:
    new = _new(prefix)
    if _with(new, ".index").is_file() and not _with(new, DATA).is_file():
        with contextlib.suppress(FileNotFoundError):
            os.replace(_with(new, ".index"), _with(prefix, ".index"))


def _new(prefix: Path) -> Path:
    return prefix.parent / f".{prefix.name}.new"


def _with(prefix: Path, suffix: str) -> Path:
    return prefix.parent / (prefix.name + suffix)  # Path.with_suffix would cut `mobilenet_v1_1.0`


def _check_readable(prefix: Path) -> None:
    if not tensorflow_reads(prefix):
        raise WeightsError(f"{prefix}: TensorFlow can't read a checkpoint whose path contains [ or \\")
