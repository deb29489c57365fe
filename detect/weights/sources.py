"""Where the backbone's weights come from: nowhere, a file or earlier run, or a published checkpoint.

Each source has
    read(slim_scope) -> arrays by the layer names of this project, or None to start from random values
    describe() -> one line for logs and ledger
    skip -> globs of variable names to leave out
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.errors import WeightsError
from detect.weights import checkpoint
from detect.weights.fetch import cache_folder, fetch, unpack

SLIM_NAMES = {
    "weights": "kernel",
    "depthwise_weights": "depthwise_kernel",
    "pointwise_weights": "pointwise_kernel",
    "biases": "bias",
}
BEST = ("detector/best", "classify/best", "best")  # in a run folder, or in the folder of one stage


def our_name(name: str, slim_scope: str) -> str:
    """`MobilenetV1/Conv2d_0/weights` -> `Conv2d_0/kernel`; names that are ours already stay as they are."""
    *layer, last = name.removeprefix(f"{slim_scope}/").split("/")
    return "/".join([*layer, SLIM_NAMES.get(last, last)])


class NoWeights:
    """The backbone starts from random values."""

    skip: tuple[str, ...] = ()

    def read(self, slim_scope: str) -> None:
        return None

    def describe(self) -> str:
        return "random values (init=none)"


class FromFile:
    """A TF-slim checkpoint, or the best checkpoint of one of our runs.

    path: prefix or file of a checkpoint, a folder with one, or a run folder: the best detector in it, else the best
        classifier.
    skip: globs of variable names that may be missing, or are not to be loaded.
    """

    def __init__(self, path: str, skip: Sequence[str] = ()):
        self.path, self.skip = path, tuple(skip)

    def read(self, slim_scope: str) -> dict[str, np.ndarray]:
        """Arrays by our names. Raises WeightsError."""
        return {our_name(name, slim_scope): array for name, array in checkpoint.read(self.prefix()).items()}

    def prefix(self) -> Path:
        """The checkpoint's prefix. Raises WeightsError if there is none."""
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            for best in BEST:
                if checkpoint.exists(folder / best):
                    return folder / best
        elif not folder.parent.is_dir():
            raise WeightsError(f"init.path={self.path}: the folder {folder.parent} does not exist")
        return checkpoint.find(folder)

    def describe(self) -> str:
        return str(self.prefix())


class Published:
    """A checkpoint that its makers have put on the web, fetched once into a cache.

    archives: name -> {slim_scope, depth_multiplier, address, sha256, file}: a tar archive and the prefix in it.
    depth_multiplier: of the backbone; it and the backbone's slim scope choose the archive.
    cache: folder for what is fetched; None: DETECT_CACHE, or ~/.cache/detect.
    skip: globs of variable names that may be missing, or are not to be loaded.
    """

    def __init__(
        self,
        archives: Mapping[str, Mapping[str, Any]],
        depth_multiplier: float = 1.0,
        cache: str | None = None,
        skip: Sequence[str] = (),
    ):
        self.archives, self.depth_multiplier = archives, depth_multiplier
        self.cache, self.skip = cache, tuple(skip)
        self._chosen = ", ".join(archives)

    def read(self, slim_scope: str) -> dict[str, np.ndarray]:
        """Arrays by our names. Raises WeightsError if the file can't be had."""
        name = self._chosen = self._choose(slim_scope)
        entry = self.archives[name]
        archive = fetch(entry["address"], entry["sha256"], cache_folder(self.cache) / "weights")
        folder = unpack(archive, entry["file"], archive.parent / f"{name}-{entry['sha256'][:8]}")
        return FromFile(str(folder / entry["file"])).read(slim_scope)

    def describe(self) -> str:
        return f"published checkpoint {self._chosen}"

    def _choose(self, slim_scope: str) -> str:
        for name, entry in self.archives.items():
            if entry["slim_scope"] == slim_scope and float(entry["depth_multiplier"]) == float(self.depth_multiplier):
                return name
        raise WeightsError(
            f"no published weights are listed for {slim_scope} with depth_multiplier={self.depth_multiplier}, only "
            f"{', '.join(self.archives)}. Use one of these backbones, list another archive under init.archives, "
            "start from a checkpoint or a run folder with init=PATH, or from random weights with init=none."
        )
