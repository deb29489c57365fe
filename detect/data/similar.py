"""Near-duplicate images, found by a hash of what they show."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from detect.data.image_file import read_image
from detect.data.parallel import THREADS, each
from detect.errors import DataError

SIDE = 16
DISTANCE = 20
"""Bits of 256 in which the hashes of two near-duplicates differ at most. Unrelated images differ in about 128."""


MOST_PAIRS = 1 << 18
"""Pairs of hashes that are compared at once: it bounds the memory."""
_BITS = np.array([value.bit_count() for value in range(1 << 16)], np.int64)


def fingerprints(paths: Sequence[Path], threads: int = THREADS) -> np.ndarray:
    """The difference hash of each image, bool [n, 256]: where a small grey copy gets brighter from left to right.

    An image that can't be read has a hash of its own, so that it is similar to nothing.
    """
    return np.array(each(_hash, paths, threads), bool).reshape(len(paths), SIDE * SIDE)


def similar_groups(paths: Sequence[Path]) -> list[int]:
    """The group of each image: the place of the first image that it is similar to, directly or through others."""
    hashes, first, same = np.unique(fingerprints(paths), axis=0, return_index=True, return_inverse=True)
    group = list(range(len(hashes)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, k, _ in close_pairs(hashes):
        a, b = sorted((root(i), root(k)), key=lambda place: first[place])
        group[b] = a
    return [int(first[root(i)]) for i in same.reshape(-1).tolist()]


def similar_pairs(paths: Sequence[Path]) -> Iterator[tuple[int, int, int]]:
    """The places of two similar images, the smaller one first, and the bits in which their hashes differ."""
    return close_pairs(fingerprints(paths))


def close_pairs(hashes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """The places, in order, of two hashes bool [n, 256] that differ in at most DISTANCE bits, and in how many.

    Each pair comes once, in no order of the pairs, and none is kept: equal images make as many pairs as n * n / 2.

    The bits are dealt into DISTANCE + 1 bands. Two close hashes are equal in one band at least, so only hashes that are
    equal in a band are compared (multi-index hashing, Norouzi et al. 2012, arxiv.org/abs/1307.2982). Neighbouring bits
    are alike, so the deal is random: then few unrelated images agree in a band.
    """
    dealt = np.array_split(np.random.default_rng(0).permutation(SIDE * SIDE), DISTANCE + 1)
    words = np.packbits(hashes, axis=1).view(np.uint16)
    earlier: list[np.ndarray] = []
    for band in dealt:
        keys = hashes[:, band] @ (1 << np.arange(len(band), dtype=np.int16))
        order = np.argsort(keys, kind="stable")
        ends = np.searchsorted(keys[order], keys[order], side="right")
        here, step = np.arange(len(order)), 1
        while len(here := here[here + step < ends[here]]):  # the pairs that are `step` places apart in one key
            for part in np.array_split(here, -(-len(here) // MOST_PAIRS)):
                first, second = order[part], order[part + step]
                apart = _BITS[words[first] ^ words[second]].sum(axis=1)
                near = apart <= DISTANCE
                for known in earlier:  # these pairs were found in an earlier band
                    near &= known[first] != known[second]
                yield from zip(first[near].tolist(), second[near].tolist(), apart[near].tolist(), strict=True)
            step += 1
        earlier.append(keys)


def _hash(path: Path) -> np.ndarray:
    try:
        gray = cv2.cvtColor(read_image(path, 2), cv2.COLOR_RGB2GRAY)
    except DataError:
        seed = zlib.crc32(str(path).encode(errors="replace"))
        return np.random.default_rng(seed).random(SIDE * SIDE) < 0.5
    small = cv2.resize(gray, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()
