"""Writes a data set as ArrayRecord files of its pictures, and an index of its boxes: `to=arrayrecord`."""

import hashlib
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Examples, Texts
from detect.data.formats.tfrecord_writer import encoded
from detect.data.image_file import stamp
from detect.data.notes import Notes
from detect.data.shards import SUFFIX, Picture, library
from detect.data.split import SPLITS
from detect.environment import usable_cores
from detect.errors import DataError
from detect.files import read_json, replacing, sha256_of, write_json

FORM = 1
"""The version of the index."""
INDEX = "index.json"
PER_FILE = 2048
"""Pictures of one file: some hundred megabytes of photographs."""
_WRITTEN = ".written.json"


@dataclass(frozen=True)
class _Written:
    """A file: its sha256, the name of each picture in it, and whether it was there before."""

    sha256: str
    pictures: list[str]
    kept: bool


@dataclass(frozen=True)
class _Shard:
    """A part of a split, and the file of its pictures."""

    path: Path
    examples: Examples

    def key(self) -> str:
        """What the file is made of: a digest of ids, paths, sizes and times of change."""
        rows = [[e.id, str(e.path), *stamp(str(e.path))] for e in self.examples]
        return hashlib.sha256(json.dumps([FORM, rows]).encode()).hexdigest()


def write_arrayrecord(dataset: DetectionDataset, folder: Path, notes: Notes) -> None:
    """Writes SPLIT-NUMBER-of-COUNT.arrayrecord with a record for each picture, SPLIT.npz with the boxes, and INDEX.

    A JPEG or PNG is copied byte for byte; others become PNG, as in `tfrecord_writer`. INDEX has the sha256 of each
    file. The files are written by threads. A file that is there whole, from the same pictures, stays: so a second call
    goes on where the first was stopped. Raises DataError for a picture that can't be read.
    """
    library()
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: Examples.of(dataset.splits[split]) for split in SPLITS}
    shards = {split: list(_shards(folder, split, examples)) for split, examples in splits.items()}
    with ThreadPoolExecutor(usable_cores()) as pool:
        every = [shard for split in SPLITS for shard in shards[split]]
        written = dict(zip((shard.path for shard in every), pool.map(_write, every), strict=True))
    for path, entry in written.items():
        if entry.kept:
            notes.add("kept, files that were whole from before", path.name)
    index: dict[str, object] = {
        "form": FORM,
        "kind": "arrayrecord",
        "name": dataset.name,
        "classes": dataset.classes,
        "category_ids": dataset.category_ids,
    }
    parts = {}
    for split, examples in splits.items():
        names = [f"{shard.path.name}/{name}" for shard in shards[split] for name in written[shard.path].pictures]
        table = folder / f"{split}.npz"
        with replacing(table, f"{split}.new.npz") as temporary:
            np.savez(temporary, allow_pickle=False, **_columns(examples, names))
        files = [{"file": s.path.name, "sha256": written[s.path].sha256} for s in shards[split]]
        parts[split] = {"images": len(examples), "table": table.name, "sha256": sha256_of(table), "files": files}
    write_json(folder / INDEX, index | {"splits": parts}, indent=1)
    named = {shard.path.name for shard in every}
    for path in folder.iterdir():  # of a call that was stopped
        if path.name.endswith(_WRITTEN) or (path.suffix == SUFFIX and path.name not in named):
            path.unlink()


def _shards(folder: Path, split: str, examples: Examples) -> Iterator[_Shard]:
    count = -(-len(examples) // PER_FILE)
    for k in range(count):
        path = folder / f"{split}-{k:05d}-of-{count:05d}{SUFFIX}"
        yield _Shard(path, examples[k * PER_FILE : (k + 1) * PER_FILE])


def _write(shard: _Shard) -> _Written:
    """Writes a file unless it is there."""
    told, key = shard.path.with_name(shard.path.name + _WRITTEN), shard.key()
    if told.exists() and shard.path.exists():
        try:
            before = read_json(told)
            if before["key"] == key and before["sha256"] == sha256_of(shard.path):
                return _Written(before["sha256"], list(before["pictures"]), True)
        except (DataError, KeyError, TypeError):
            pass  # it is written again
    pictures = []
    with replacing(shard.path) as temporary:
        writer = library().ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        try:
            for k, example in enumerate(shard.examples):
                content, kind = encoded(example)
                writer.write(content)
                suffix = {"jpeg": ".jpg", "png": ".png"}[kind]
                pictures.append(Picture("", k, zlib.crc32(content), len(content), suffix).name)
        finally:
            writer.close()
    digest = sha256_of(shard.path)
    write_json(told, {"key": key, "sha256": digest, "pictures": pictures}, indent=None)
    return _Written(digest, pictures, False)


def _columns(examples: Examples, pictures: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a split's table."""
    ids = examples.source_ids
    numbers = ids.tolist() if isinstance(ids, np.ndarray) else ids or [None] * len(examples)
    texts = {"ids": examples.ids, "pictures": Texts.of(pictures), "source_ids": Texts.of(map(json.dumps, numbers))}
    arrays = {f"{name}.{part}": getattr(text, part) for name, text in texts.items() for part in ("content", "ends")}
    areas = {} if examples.areas is None else {"areas": examples.areas}
    return (
        arrays
        | areas
        | {
            "sizes": examples.sizes,
            "ends": examples.ends,
            "boxes": examples.boxes,
            "classes": examples.classes,
            "crowd": examples.crowd,
        }
    )
