"""Near-duplicate images, found by a hash of what they show."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from detect.data.image_file import read_image
from detect.errors import DataError

SIDE = 16
DISTANCE = 20
"""Bits of 256 in which the hashes of two near-duplicates differ at most. Unrelated images differ in about 128."""


def fingerprints(paths: Sequence[Path], threads: int = 8) -> np.ndarray:
    """The difference hash of each image, bool [n, 256]: where a small grey copy gets brighter from left to right.

    An image that can't be read has a hash of its own, so that it is similar to nothing.
    """
    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(_hash, paths)), bool).reshape(len(paths), SIDE * SIDE)


def similar_groups(paths: Sequence[Path]) -> list[int]:
    """The group of each image: the place of the first image that it is similar to, directly or through others."""
    group = list(range(len(paths)))

    def first(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, k, _ in similar_pairs(paths):
        a, b = sorted((first(i), first(k)))
        group[b] = a
    return [first(i) for i in range(len(paths))]


def similar_pairs(paths: Sequence[Path]) -> Iterator[tuple[int, int, int]]:
    """The places of two similar images, the smaller one first, and the bits in which their hashes differ."""
    hashes = np.packbits(fingerprints(paths), axis=1)
    bits = np.array([bin(value).count("1") for value in range(256)], np.uint16)
    for i in range(len(paths) - 1):
        apart = bits[hashes[i + 1 :] ^ hashes[i]].sum(axis=1)
        for k in np.flatnonzero(apart <= DISTANCE).tolist():
            yield i, i + 1 + k, int(apart[k])


def _hash(path: Path) -> np.ndarray:
    try:
        gray = cv2.cvtColor(read_image(path, 2), cv2.COLOR_RGB2GRAY)
    except DataError:
        seed = zlib.crc32(str(path).encode(errors="replace"))
        return np.random.default_rng(seed).random(SIDE * SIDE) < 0.5
    small = cv2.resize(gray, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()
