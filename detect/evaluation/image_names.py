"""Finds images by the paths that another program gives them."""

from collections.abc import Hashable, Iterable
from pathlib import PurePosixPath
from typing import Generic, TypeVar
from urllib.parse import unquote

from detect.data.pictures import in_address
from detect.data.text import loose

Image = TypeVar("Image", bound=Hashable)
Words = tuple[str, ...]
Entry = tuple[Words, Image]


class ImageNames(Generic[Image]):
    """Images by their paths, with slashes of any kind. A look-up takes as long for many images as for few."""

    def __init__(self, images: Iterable[tuple[str, Image]]):
        """images: the path of each, and what stands for it."""
        self._exact: dict[str, list[Entry[Image]]] = {}
        self._whole: dict[Words, list[Entry[Image]]] = {}
        self._ends: dict[Words, list[Entry[Image]]] = {}
        for name, image in images:
            entry = words, _ = _words(name), image
            self._exact.setdefault(name, []).append(entry)
            self._whole.setdefault(words, []).append(entry)
            for start in range(len(words)):
                self._ends.setdefault(words[start:], []).append(entry)

    def fitting(self, name: str) -> list[Entry[Image]]:
        """The images that a path fits, with their paths in parts.

        Those that have the same path; or else those of the same file name whose folders, as far as both have some, are
        the same; or else those of the same file name. Letter case and percent escapes matter only where they tell two
        paths apart, and an address means its path.
        """
        words = _words(name)
        return (
            self._exact.get(name)
            or self._whole.get(words)
            or [*self._ends.get(words, ()), *(e for k in range(1, len(words)) for e in self._whole.get(words[k:], ()))]
            or self._ends.get(words[-1:], [])
        )


def _words(name: str) -> Words:
    plain = unquote(in_address(name)).replace("\\", "/")
    return tuple(loose(part) for part in PurePosixPath(plain).parts if part != "/")
