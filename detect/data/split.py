"""Splits a data set into train, val and test from a seed, and refuses splits that share images."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from detect.errors import ConfigError, DataError, first_few


class Named(Protocol):
    """An object with an id that is unique in its data set."""

    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=Named)


def fill_splits(
    given: Mapping[str, Sequence[E]],
    labels: Callable[[E], Sequence[int]],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    source: str = "as the data set gives it",
) -> tuple[dict[str, tuple[E, ...]], str]:
    """Complete the splits of a data set. Returns them and a note that describes them.

    given: the examples of the splits that the source defines; "train" must be one of them. With train alone, val and
    test are drawn from it; with train and test, val is drawn from train; with train and val, test stays empty.
    labels: the class numbers of an example. The draw is stratified by the rarest class of each image, so that rare
    classes are in every split if possible. source: the definition of the given splits, for the note.
    """
    parts = {split: tuple(given.get(split, ())) for split in ("train", "val", "test")}
    if "val" in given:
        return parts, f"split: {source}" + ("" if parts["test"] else "; no test images")
    train = given["train"]
    counts = Counter(label for e in train for label in labels(e))
    groups = [min(labels(e), key=lambda label: (counts[label], label), default=0) for e in train]
    test_fraction = 0.0 if "test" in given else test_fraction
    drawn = seeded_split([e.id for e in train], val_fraction, test_fraction, seed, groups)
    by_id = {e.id: e for e in train}
    parts |= {split: tuple(by_id[i] for i in ids) for split, ids in drawn.items() if split not in given or ids}
    drawn_so = f"of the images from seed {seed}, stratified by class"
    if "test" in given:
        return parts, f"split: {source}; val {val_fraction:g} {drawn_so}"
    return parts, f"split: val {val_fraction:g}, test {test_fraction:g} {drawn_so}"


def seeded_split(
    ids: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    groups: Sequence[int] | None = None,
) -> dict[str, list[str]]:
    """Divide `ids` into train, val and test. The result depends only on the set of ids, the fractions and the seed.

    With `groups` (one number per id, e.g. its rarest class) every split has its proportion of each group.
    Sizes are rounded to the nearest whole number; the order within a split is that of the sorted ids.
    Raises ConfigError if the fractions leave no training images.
    """
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise ConfigError(
            f"dataset.val_fraction={val_fraction}, dataset.test_fraction={test_fraction}: "
            "each must be at least 0, and their sum must be below 1"
        )
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    if groups is not None:
        order.sort(key=lambda i: groups[i])  # a stable sort: the order within a group stays random
    test, rest = _every(order, test_fraction)
    val, train = _every(rest, val_fraction / (1 - test_fraction))
    return {name: sorted(ids[i] for i in part) for name, part in (("train", train), ("val", val), ("test", test))}


def _every(order: list[int], fraction: float) -> tuple[list[int], list[int]]:
    """Take `fraction` of a list at even distances, so of each group in the same proportion. Returns (taken, left)."""
    rank = np.floor(np.arange(len(order) + 1) * fraction + 0.5)
    taken = np.diff(rank) > 0
    return [i for i, t in zip(order, taken, strict=True) if t], [i for i, t in zip(order, taken, strict=True) if not t]


def refuse_overlap(name: str, splits: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError, naming some ids, if one id occurs in two splits or twice in one."""
    names = list(splits)
    for i, first in enumerate(names):
        twice = sorted(k for k, n in Counter(splits[first]).items() if n > 1)
        if twice:
            raise DataError(f"{name}: {first} lists {_count(twice)} twice: {first_few(twice)}")
        for second in names[i + 1 :]:
            both = sorted(set(splits[first]) & set(splits[second]))
            if both:
                raise DataError(
                    f"{name}: {first} and {second} share {_count(both)}: {first_few(both)}. "
                    "An image may be in only one split"
                )


def _count(ids: list[str]) -> str:
    return "1 image" if len(ids) == 1 else f"{len(ids)} images"
