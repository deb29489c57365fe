"""The data of a pipeline.config: the folder with its TFRecord files and its label map."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detect.data.assemble import Selection
from detect.data.folder import splits_of
from detect.errors import first_few
from detect.migration.message import Message
from detect.migration.translation import Translation

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"
FOR = {"train": ("train",), "eval": ("val", "test")}
"""The splits that are right for files of each role."""
_ELSEWHERE = re.compile(r"://|^[A-Za-z]:[\\/]|^\\\\")
"""What an address has, a drive of Windows, or a folder in its network."""


def data(pipeline: Message, into: Translation) -> None:
    """Sets the data set: the folder that holds the TFRecord files and the label map."""
    train = [pipeline.message("train_input_reader"), *pipeline.messages("train_input_config")]
    evaluation = pipeline.messages("eval_input_reader") + pipeline.messages("eval_input_config")
    records: dict[str, list[str]] = {role: [] for role in FOR}
    maps: list[str] = []
    for role, reader in [*zip(itertools.repeat("train"), train), *zip(itertools.repeat("eval"), evaluation)]:
        if not reader.given:
            continue
        _reading(reader, role, into)
        files = list(map(with_slashes, reader.message("tf_record_input_reader").texts("input_path")))
        records[role] += [file for file in files if Path(file).name.strip(".")]
        maps += filter(None, [with_slashes(reader.text("label_map_path"))])
    into.choices["dataset"] = "tfrecord"
    root = _root([*itertools.chain(*records.values()), *maps], into)
    into.values["dataset"] = {"root": root or "???"}
    _tell_splits({role: [file for file in files if not no_path(file)] for role, files in records.items()}, root, into)


def _reading(reader: Message, role: str, into: Translation) -> None:
    """Sets the limit of boxes. Tells what is not read, and how else the API goes through the training images."""
    for name in ("load_instance_masks", "load_context_features", "load_multiclass_scores", "load_dense_pose"):
        if reader.flag(name, False):
            into.left_out.append(f"{reader.path}.{name}: only boxes and classes are read")
    if reader.word("input_type", "TF_EXAMPLE") == "TF_SEQUENCE_EXAMPLE":
        into.left_out.append(f"{reader.path}.input_type: only TF_EXAMPLE is read")
    reader.ignore("shuffle_buffer_size", "filenames_shuffle_buffer_size", "num_readers", "read_block_length")
    reader.ignore("num_parallel_batches", "num_prefetch_batches", "queue_capacity", "min_after_dequeue", "name")
    reader.ignore("prefetch_size", "num_parallel_map_calls", "drop_remainder", "mask_type", "use_display_name")
    reader.ignore("include_source_id", "num_keypoints")
    boxes, shuffled = reader.whole("max_number_of_boxes", 100), reader.flag("shuffle", True)
    epochs = reader.whole("num_epochs", 0)
    if role == "train":
        into.put("max_boxes", boxes)
        if not shuffled:
            into.differ("the training images: in an order that is drawn; the API's is that of the files (shuffle)")
        if epochs > 0:
            into.differ(
                f"the training images: read until the last step; the API ends after {epochs} epochs (num_epochs)"
            )


def with_slashes(path: str) -> str:
    """A path of this machine; a relative one of Windows has backslashes."""
    return path if path.startswith("/") or _ELSEWHERE.search(path) else path.replace("\\", "/")


def no_path(path: str) -> str | None:
    """Why a path is none of this machine; None if it is one. Hydra would replace `${...}`, and ??? means no value."""
    if _ELSEWHERE.search(path):
        return f"not of this machine ({path}): copy it to a local folder"
    return "a placeholder" if PLACEHOLDER in path or "${" in path or path == "???" else None


def _root(paths: Sequence[str], into: Translation) -> str | None:
    """The folder that holds all files; None, which is told, if there is none."""
    if distant := [path for path in paths if _ELSEWHERE.search(path)]:
        into.differ(f"dataset.root: {no_path(distant[0])}, and give dataset.root=FOLDER")
        return None
    if not paths or any(map(no_path, paths)):
        into.differ(
            "dataset.root: the file names no folder; give dataset.root=FOLDER with TFRecord files and label map"
        )
        return None
    folders = list(map(_folder, paths))
    absolute = {os.path.isabs(folder) for folder in folders}
    root = os.path.commonpath(folders) if len(absolute) == 1 else "/"
    if root == "/" or (not root and any(folder.startswith("..") for folder in folders)):
        into.differ("dataset.root: the paths have no common folder; put TFRecord files and label map below one folder")
        return None
    root = root or "."
    into.differ(f"the data: every TFRecord file below {root} is read, and its name tells the split (train, val, test)")
    return root


def _folder(path: str) -> str:
    """The folder of a file. Of a glob, it is the folder above the first part with a wildcard."""
    parts = itertools.takewhile(lambda part: not re.search(r"[*?\[]", part), Path(path).parent.parts)
    return str(Path(*parts))


def _tell_splits(records: Mapping[str, Sequence[str]], root: str | None, into: Translation) -> None:
    """Tells files whose names say another use, and images that leave the training for splits that no file is for."""
    below = {
        file: Path(os.path.relpath(file, root) if root else os.path.basename(file))
        for file in itertools.chain(*records.values())
    }
    splits = splits_of(below.values())
    for role, files in records.items():
        if odd := [file for file in files if (splits[below[file]] or "train") not in FOR[role]]:
            into.differ(
                f"{first_few(odd, 3)}: such a name does not tell that it is for {role}, and names decide; rename the "
                "file"
            )
    found = {split or "train" for split in splits.values()}
    if "train" in found and "val" not in found:
        shares = {"val": Selection.val_fraction} | ({} if "test" in found else {"test": Selection.test_fraction})
        drawn = " and ".join(f"{share:.0%} for {split}" for split, share in shares.items())
        keys = " and ".join(f"dataset.{split}_fraction" for split in shares)
        into.differ(
            f"the training images: {drawn} are drawn from them, as no file is for it ({keys}); the API trains with all"
        )
