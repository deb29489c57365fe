"""Subsets of a data set: a few images at even distances, or a share that is drawn from a seed."""

import dataclasses
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from detect.data.dataset import ClassificationDataset, DetectionDataset, class_counts
from detect.data.examples import CropExample, Crops, Example, Examples, Texts

log = logging.getLogger("detect")
Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items at equal distances, starting with the first; all items if there are fewer."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def limit(dataset: DetectionDataset, limits: Mapping[str, Any], seed: int) -> DetectionDataset:
    """Takes a share of the training images, and then a limited number of images of each split at even distances.

    limits: `fraction` of the training images; the numbers of `train`, `val` and `test` images; None keeps all. With
    `overfit`, the training images are also the validation images, and there are no test images.
    """
    splits: dict[str, Sequence[Example]] = {}
    for name, examples in dataset.splits.items():
        if name == "train" and (fraction := limits.get("fraction")) is not None:  # older runs have none
            examples = share(examples, fraction, seed)
            log.info("limit.fraction=%s: %d training images, drawn from seed %d", fraction, len(examples), seed)
        keep = limits.get(name)
        if keep is not None and keep < len(examples):
            log.info("limit.%s=%d: %d of %d %s images, at even distances", name, keep, keep, len(examples), name)
            examples = Examples.of(evenly_spread(examples, keep))
        splits[name] = examples
    if limits.get("overfit"):
        log.info("limit.overfit=true: val are the training images, and test has none")
        train = Examples.of(splits["train"])
        same = dataclasses.replace(train, ids=Texts.of(f"{name}@val" for name in train.ids))
        splits |= {"val": same, "test": ()}
    return dataclasses.replace(dataset, splits=splits)


def limit_pictures(dataset: ClassificationDataset, limits: Mapping[str, Any]) -> ClassificationDataset:
    """Takes a limited number of pictures of each split at even distances. limits: as those of `limit`.

    Pictures lie class by class, so that each class keeps its share. `fraction` is of the detector's images alone.
    """
    splits: dict[str, Sequence[CropExample]] = {}
    for name, pictures in dataset.splits.items():
        keep = limits.get(name)
        if keep is not None and keep < len(pictures):
            log.info("limit.%s=%d: %d of %d %s pictures of stage 1", name, keep, keep, len(pictures), name)
            pictures = Crops.of(pictures).take(np.array(evenly_spread(range(len(pictures)), keep), np.int64))
        splits[name] = pictures
    return dataclasses.replace(dataset, splits=splits)


def share(examples: Sequence[Example], fraction: float, seed: int) -> Examples:
    """A share of the images drawn from a seed, in their order; at least one image.

    The draw is stratified by the rarest class of each image. With the same seed, a smaller share is a subset of a
    larger one.
    """
    split = Examples.of(examples)
    counts = class_counts(split, int(split.classes.max(initial=0)))
    marks = [zlib.crc32(name.encode("utf-8", "surrogatepass")) for name in split.ids]
    drawn = [np.random.default_rng((seed, mark)).random() for mark in marks]
    groups: dict[int, list[int]] = {}
    names, labels, ends = list(split.ids), split.classes.tolist(), split.ends.tolist()
    for i in sorted(range(len(split)), key=lambda i: (drawn[i], names[i])):
        here = labels[ends[i] : ends[i + 1]]
        rarest = min(here, key=lambda label: (counts[label - 1], label), default=0)
        groups.setdefault(rarest, []).append(i)
    # The k-th of n images of a group is at (k + 1/2) / n of the order, so that every prefix is a stratified sample.
    place = {i: ((k + 0.5) / len(group), drawn[i]) for group in groups.values() for k, i in enumerate(group)}
    kept = sorted(place, key=lambda i: place[i])[: max(1, round(fraction * len(split)))]
    return split.take(np.array(sorted(kept), np.int64))
