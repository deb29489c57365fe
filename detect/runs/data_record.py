"""What a run was trained on, kept in its folder, so that a resume on other data is refused."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from detect.data.dataset import ClassificationDataset, DetectionDataset, rows
from detect.data.examples import CropExample, Example, Examples
from detect.data.image_file import stamp
from detect.data.split import SPLITS
from detect.errors import first_few


def record(dataset: DetectionDataset, pictures: ClassificationDataset | None = None) -> dict[str, Any]:
    """The name, the fingerprint, and what `changes` compares; the same of the pictures of stage 1, under `classify`."""
    of = [{"name": one.name, "fingerprint": one.fingerprint()} | compared(one) for one in (dataset, pictures) if one]
    return of[0] | ({"classify": of[1]} if pictures else {})


def compared(dataset: DetectionDataset | ClassificationDataset) -> dict[str, Any]:
    """The classes, and of every split the images by id with a digest of their annotations and file length."""
    if isinstance(dataset, ClassificationDataset):
        splits = {split: labels(dataset.splits[split]) for split in SPLITS}
    else:
        splits = {split: digests(dataset.splits[split]) for split in SPLITS}
    return {"classes": list(dataset.classes), "splits": splits}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each kind of difference in what is compared, with the first images; empty if there is none."""
    found = []
    if before["classes"] != now["classes"]:
        found.append(f"the classes were {first_few(before['classes'], 9)}; they are {first_few(now['classes'], 9)}")
    old = {i: (split, digest) for split, images in before["splits"].items() for i, digest in images.items()}
    new = {i: (split, digest) for split, images in now["splits"].items() for i, digest in images.items()}
    kinds = {
        "images that are gone": sorted(old.keys() - new.keys()),
        "images that are new": sorted(new.keys() - old.keys()),
        "images in another split": [
            f"{i} ({old[i][0]} -> {new[i][0]})" for i in sorted(old.keys() & new.keys()) if old[i][0] != new[i][0]
        ],
        "images with other boxes, classes, sizes or files": [
            i for i in sorted(old.keys() & new.keys()) if old[i][1] != new[i][1]
        ],
    }
    return found + [f"{kind}: {len(ids)} ({first_few(ids)})" for kind, ids in kinds.items() if ids]


def digests(examples: Sequence[Example]) -> dict[str, str]:
    """A digest of each image by its id."""
    split = Examples.of(examples)
    found = {}
    for path, (name, width, height, content) in zip(split.paths, rows(split), strict=True):
        found[name] = hashlib.sha256(repr((width, height, stamp(path)[0])).encode() + content).hexdigest()[:12]
    return found


def labels(pictures: Sequence[CropExample]) -> dict[str, str]:
    """The label and the file length of each whole picture by its id."""
    return {picture.id: f"{picture.label} {stamp(str(picture.path))[0]}" for picture in pictures}
