"""Splits a data set into train, val and test from a seed, and refuses splits that share images."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain, islice

import numpy as np

from detect.errors import ConfigError, DataError, counted, first_few

SPLITS = ("train", "val", "test")
HELD_OUT = SPLITS[1:]
FEWEST = {"train": 2, "val": 1, "test": 1}
"""Images that a drawn split has of each class, if there are enough: train is served first, then val, then test."""


def draw_splits(
    labels: Mapping[str, Sequence[int]],
    fractions: Mapping[str, float],
    seed: int,
    groups: Mapping[str, Hashable] | None = None,
) -> dict[str, list[str]]:
    """Divides images into train, val and test. The result depends only on the arguments, not on the order of images.

    labels: the class numbers of each image, by id. fractions: the shares of val and test; train has the rest.
    groups: images with the same value stay in one split; None: every image is on its own.

    Each class has at least two images (or groups) in train, and then one each in val and test, if there are enough.
    The other images are divided so that each split has its share of each image's rarest class. Sizes are rounded.
    Raises ConfigError if the fractions leave no training images.
    """
    if min(fractions.values()) < 0 or sum(fractions.values()) >= 1:
        raise ConfigError(
            f"dataset.val_fraction={fractions['val']}, dataset.test_fraction={fractions['test']}: "
            "each must be at least 0, and their sum must be below 1"
        )
    units: dict[Hashable, list[str]] = defaultdict(list)
    for name in sorted(labels):
        units[groups[name] if groups else name].append(name)
    keys = sorted(units, key=lambda key: units[key][0])
    keys = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    kinds = {key: frozenset(label for name in units[key] for label in labels[name]) for key in keys}
    counts = Counter(chain.from_iterable(kinds.values()))
    place = _fewest(kinds, counts, [split for split in SPLITS if split == "train" or fractions[split]])
    order = sorted((key for key in keys if key not in place), key=lambda key: _rarest(kinds[key], counts))
    for split in HELD_OUT[::-1]:
        size = int(len(labels) * fractions[split] + 0.5)
        have = sum(len(units[key]) for key in keys if place.get(key) == split)
        left = sum(len(units[key]) for key in order)
        taken, order = _every(order, min(1.0, max(0, size - have) / left) if left else 0.0)
        place |= dict.fromkeys(taken, split)
    return {
        split: sorted(name for key in keys if place.get(key, "train") == split for name in units[key])
        for split in SPLITS
    }


def _fewest(
    kinds: Mapping[Hashable, frozenset[int]], counts: Mapping[int, int], splits: Sequence[str]
) -> dict[Hashable, str]:
    """The split of the images that give each class, the rarest first, its FEWEST. kinds: the classes of each image."""
    members: dict[int, list[Hashable]] = defaultdict(list)
    for key, held in kinds.items():
        for kind in held:
            members[kind].append(key)
    place: dict[Hashable, str] = {}
    spent = 0  # images of a class that the splits before have
    for split in splits:
        for kind in sorted(counts, key=lambda kind: (counts[kind], kind)):
            have = sum(place.get(key) == split for key in members[kind])
            wanted = min(FEWEST[split], counts[kind] - spent) - have
            free = (key for key in members[kind] if key not in place)
            place |= dict.fromkeys(islice(free, max(0, wanted)), split)
        spent += FEWEST[split]
    return place


def _rarest(kinds: frozenset[int], counts: Mapping[int, int]) -> int:
    """The rarest class of an image; 0 without a class."""
    return min(kinds, key=lambda kind: (counts[kind], kind), default=0)


def _every(order: list[Hashable], fraction: float) -> tuple[list[Hashable], list[Hashable]]:
    """Takes `fraction` of a list at even distances, so of each group in the same proportion. Returns (taken, left)."""
    rank = np.floor(np.arange(len(order) + 1) * fraction + 0.5)
    taken = np.diff(rank) > 0
    return [k for k, t in zip(order, taken, strict=True) if t], [k for k, t in zip(order, taken, strict=True) if not t]


def sequence_name(name: str) -> str:
    """The name of the sequence that a frame belongs to: `dir/walk_0012.jpg` is a frame of `dir/walk`.

    The mark that Roboflow appends to copies of one picture (`.rf.` and a hash) and the number at the end are left out.
    """
    stem = re.sub(r"(_(jpe?g|png|bmp|webp|tiff?))?\.rf\.[^/]*$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", stem)
    return re.sub(r"[-_ .]*(frame)?[-_ .]*\(?\d+\)?$", "", stem, flags=re.IGNORECASE)


def occur_twice(texts: Callable[[], Iterable[str]]) -> list[str]:
    """The texts that occur more than once, sorted. It does not hold the texts themselves: there may be millions."""
    hashes = np.fromiter(map(hash, texts()), np.int64)
    if len(np.unique(hashes)) == len(hashes):
        return []
    return sorted(text for text, count in Counter(texts()).items() if count > 1)


def refuse_overlap(name: str, splits: Mapping[str, Sequence[str]], hint: str = "") -> None:
    """Raises DataError, which names some ids, if one id occurs in two splits or twice in one. hint: its last words."""
    names = list(splits)
    if not occur_twice(lambda: chain(*splits.values())):
        return
    for i, first in enumerate(names):
        twice = sorted(k for k, n in Counter(splits[first]).items() if n > 1)
        if twice:
            raise DataError(f"{name}: {first} lists {counted(len(twice), 'image')} twice: {first_few(twice)}{hint}")
        for second in names[i + 1 :]:
            both = sorted(set(splits[first]) & set(splits[second]))
            if both:
                raise DataError(
                    f"{name}: {first} and {second} share {counted(len(both), 'image')}: {first_few(both)}. "
                    f"An image may be in only one split{hint}"
                )
