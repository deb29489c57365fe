"""Subsets of a data set: a few images at even distances, or a share that is drawn from a seed."""

import dataclasses
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from detect.data.dataset import DetectionDataset, Example, class_counts

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
    splits = {}
    for name, examples in dataset.splits.items():
        if name == "train" and (fraction := limits.get("fraction")) is not None:  # older runs have none
            examples = share(examples, fraction, seed)
            log.info("limit.fraction=%s: %d training images, drawn from seed %d", fraction, len(examples), seed)
        keep = limits.get(name)
        splits[name] = examples if keep is None else tuple(evenly_spread(examples, keep))
    if limits.get("overfit"):
        same = tuple(dataclasses.replace(example, id=f"{example.id}@val") for example in splits["train"])
        splits |= {"val": same, "test": ()}
    return dataclasses.replace(dataset, splits=splits)


def share(examples: Sequence[Example], fraction: float, seed: int) -> tuple[Example, ...]:
    """A share of the images drawn from a seed, in their order; at least one image.

    The draw is stratified by the rarest class of each image. With the same seed, a smaller share is a subset of a
    larger one.
    """
    counts = class_counts(examples, max((int(e.classes.max(initial=0)) for e in examples), default=0))
    drawn = [np.random.default_rng((seed, zlib.crc32(e.id.encode()))).random() for e in examples]
    groups: dict[int, list[int]] = {}
    for i in sorted(range(len(examples)), key=lambda i: (drawn[i], examples[i].id)):
        rarest = min(examples[i].classes.tolist(), key=lambda label: (counts[label - 1], label), default=0)
        groups.setdefault(rarest, []).append(i)
    # The k-th of n images of a group is at (k + 1/2) / n of the order, so that every prefix is a stratified sample.
    place = {i: ((k + 0.5) / len(group), drawn[i]) for group in groups.values() for k, i in enumerate(group)}
    kept = sorted(place, key=lambda i: place[i])[: max(1, round(fraction * len(examples)))]
    return tuple(examples[i] for i in sorted(kept))
