"""Near-duplicate images, found by a hash of what they show."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from detect.data.image_file import read_image
from detect.data.parallel import each
from detect.errors import DataError

SIDE = 16
DISTANCE = 20
"""Bits of 256 in which the hashes of two near-duplicates differ at most. Unrelated images differ in about 128."""


MOST_PAIRS = 1 << 18
"""Pairs of hashes that are compared at once: it bounds the memory."""
_BITS = np.array([value.bit_count() for value in range(1 << 16)], np.int64)


def fingerprints(paths: Sequence[Path]) -> np.ndarray:
    """The difference hash of each image, bool [n, 256]: where a small grey copy gets brighter from left to right.

    An image that can't be read has a hash of its own, so that it is similar to nothing.
    """
    return np.array(each(_hash, paths), bool).reshape(len(paths), SIDE * SIDE)


def similar_groups(paths: Sequence[Path]) -> list[int]:
    """The group of each image: the place of the first image that it is similar to, directly or through others."""
    hashes, places, same = _different(fingerprints(paths))
    group = np.arange(len(hashes))  # of each hash: the first one that it is known to be similar to
    for first, second, _, _ in close_pairs(hashes, group):
        while (group[first] != group[second]).any():
            a, b = group[first], group[second]
            np.minimum.at(group, np.maximum(a, b), np.minimum(a, b))
            while (group != group[group]).any():
                group[:] = group[group]
    found: list[int] = places[group[same]].tolist()
    return found


def nearest_twins(paths: Sequence[Path]) -> dict[int, tuple[int, int]]:
    """Of each image with near-duplicates: the place of the most similar one, and the bits in which their hashes differ.

    Of several that are as similar, it is the first.
    """
    hashes, places, same = _different(fingerprints(paths))
    n = len(hashes)
    equal: dict[int, list[int]] = {}
    for place, one in enumerate(same.tolist()):
        equal.setdefault(one, []).append(place)
    best = np.full(n, (DISTANCE + 1) * n)  # bits * n + twin
    label = np.array([one if len(equal[one]) == 1 else n for one in range(n)], np.int64)  # n: its twin is known
    for first, second, bits, least in close_pairs(hashes, label):
        np.minimum.at(best, first, bits * n + second)
        np.minimum.at(best, second, bits * n + first)
        label[best < least * n] = n
    found: dict[int, tuple[int, int]] = {}
    for one, (place, *others) in equal.items():
        closest, twin = divmod(int(best[one]), n)
        if others:
            found |= {place: (others[0], 0)} | dict.fromkeys(others, (place, 0))
        elif closest <= DISTANCE:
            found[place] = (int(places[twin]), closest)
    return found


def _different(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hashes without repetition, in order of their first places; these places; and which hash each image has."""
    _, first, same = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return hashes[first[order]], first[order], np.argsort(order)[same.reshape(-1)]


def close_pairs(
    hashes: np.ndarray, label: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Pairs of hashes bool [n, 256] that differ in at most DISTANCE bits: the places of both, the smaller one first,
    the bits in which they differ, and the least number of bits of all pairs that follow.

    Each pair comes once, in no order of the pairs, and none is kept: equal images make as many pairs as n * n / 2.
    label: int [n]. Pairs of one label are left out. The caller may change it after each part.

    The bits are dealt into DISTANCE + 1 bands. Two close hashes are equal in one band at least, so only hashes that are
    equal in a band are compared (multi-index hashing, Norouzi et al. 2012, arxiv.org/abs/1307.2982). Neighbouring bits
    are alike, so the deal is random: then few unrelated images agree in a band.
    """
    label = np.arange(len(hashes)) if label is None else label
    dealt = np.array_split(np.random.default_rng(0).permutation(SIDE * SIDE), DISTANCE + 1)
    words = np.packbits(hashes, axis=1).view(np.uint16)
    earlier: list[np.ndarray] = []
    for band in dealt:
        keys = hashes[:, band] @ (1 << np.arange(len(band), dtype=np.int16))
        order = np.lexsort((label, keys))
        for one, other in _pairs(keys[order], label[order]):
            first, second = order[one], order[other]
            new = label[first] != label[second]
            first, second = first[new], second[new]
            for known in earlier:  # these pairs were found in an earlier band
                new = known[first] != known[second]
                first, second = first[new], second[new]
            apart = _BITS[words[first] ^ words[second]].sum(axis=1)
            near = apart <= DISTANCE
            if near.any():
                first, second = first[near], second[near]
                yield np.minimum(first, second), np.maximum(first, second), apart[near], len(earlier)
        earlier.append(keys)


def _pairs(keys: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The places of two equal keys with different labels, both sorted, in parts of about MOST_PAIRS pairs."""
    here = np.arange(len(keys))
    start = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]) | (labels[1:] != labels[:-1])))
    after = np.append(start[1:], len(keys))[np.searchsorted(start, here, side="right") - 1]  # the next label, or key
    count = np.searchsorted(keys, keys, side="right") - after
    total = np.cumsum(count)
    cuts = np.searchsorted(total, np.arange(MOST_PAIRS, count.sum(), MOST_PAIRS))
    for part in np.split(here, cuts):
        partners = count[part]
        one = np.repeat(part, partners)
        ranks = np.arange(len(one)) - np.repeat(np.cumsum(partners) - partners, partners)
        if len(one):
            yield one, after[one] + ranks


def _hash(path: Path) -> np.ndarray:
    try:
        gray = cv2.cvtColor(read_image(path, 2), cv2.COLOR_RGB2GRAY)
    except DataError:
        seed = zlib.crc32(str(path).encode(errors="replace"))
        return np.random.default_rng(seed).random(SIDE * SIDE) < 0.5
    small = cv2.resize(gray, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()
