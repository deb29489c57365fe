"""Where the initial weights of a model come from: random values, a file, an earlier run or a published archive.

Each source has
    read(backbone) -> arrays by the layer names of this project, or None to start from random values;
        the backbone has `slim_scope` and `keras_layers()`
    describe() -> one line for logs and the ledger
    scope -> `backbone`, or `detector` for the whole detector
    skip -> globs of variable names to leave out
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from detect.config.tree import leaves, plain
from detect.errors import WeightsError
from detect.files import expanded
from detect.quantization.spec import RANGE_VARIABLES
from detect.runs.folder import DETECTOR, QUANTIZED, RunFolder
from detect.weights import checkpoint, formats
from detect.weights.catalogue import Entry, obtain
from detect.weights.interface import Network, Scope
from detect.weights.names import Arrays

BEST = ("detector/best", "quantized/best", "classify/best", "best")  # in a run folder, or in the folder of one stage


class NoWeights:
    """The model starts from random values."""

    scope: Scope = "backbone"
    skip: tuple[str, ...] = ()

    def read(self, backbone: Network) -> None:
        """None: there are no arrays."""
        return None

    def describe(self) -> str:
        """See `WeightSource.describe`."""
        return "random values (init=none)"


class FromFile:
    """A file of weights in any format of `detect.weights.formats`, or the best checkpoint of one of our runs.

    path: a file, the prefix of a checkpoint, a folder with one of these, or a run folder. In a run folder, the best
        detector is used, else the best classifier.
    scope: `backbone`, or `detector` for the heads, too.
    skip: globs of variable names that are not loaded, and may be missing.
    average: takes the moving average of each weight that has one in a checkpoint of TF 1.
    """

    def __init__(self, path: str, scope: Scope = "backbone", skip: Sequence[str] = (), average: bool = False):
        self.path, self.skip, self.average = path, tuple(skip), average
        self.scope: Scope = scope

    def read(self, backbone: Network) -> Arrays:
        """Arrays by our names; ranges of a fake-quantised model are left out. Raises WeightsError."""
        path, kind = self.place()
        arrays = formats.read(path, kind, backbone, self.average)
        run = RunFolder(path.parent.parent)
        if arrays.ours and path.parent.name in (DETECTOR, QUANTIZED) and run.classes.is_file():
            arrays.classes = run.class_names()
        if arrays.ours and run.config.is_file():
            arrays.settings = dict(leaves(plain(run.saved_config())))
        for name in [name for name in arrays if any(fnmatchcase(name, glob) for glob in RANGE_VARIABLES)]:
            del arrays[name]
        return arrays

    def place(self) -> tuple[Path, str]:
        """The file or the prefix of a checkpoint, and the format. Raises WeightsError if there is none."""
        folder = expanded(self.path)
        if folder.is_dir():
            for best in BEST:
                if checkpoint.exists(folder / best):
                    return folder / best, "checkpoint"
        elif not folder.parent.is_dir():
            raise WeightsError(f"init.path={self.path}: the folder {folder.parent} does not exist")
        return formats.locate(folder)

    def describe(self) -> str:
        """The file; the path as it was given if there is none, as a run that goes on does not need it."""
        try:
            return str(self.place()[0])
        except WeightsError:
            return self.path


class Published:
    """Weights that their authors have published on the web. They are fetched once into a cache.

    archives: the catalogue, name -> the fields of a `detect.weights.catalogue.Entry`.
    name: name of an archive; None takes the classifier that suits the backbone and its depth multiplier.
    scope: `backbone`, or `detector` for the heads, too.
    cache: folder for downloads; None: DETECT_CACHE, or ~/.cache/detect.
    skip: globs of variable names that are not loaded, and may be missing.
    average: takes the moving average of each weight that has one in a checkpoint of TF 1.
    """

    def __init__(
        self,
        archives: Mapping[str, Mapping[str, Any]],
        name: str | None = None,
        scope: Scope = "backbone",
        cache: str | None = None,
        skip: Sequence[str] = (),
        average: bool = False,
    ):
        self.archives = {key: Entry.of(key, value) for key, value in archives.items()}
        self.name, self.cache, self.skip, self.average = name, cache, tuple(skip), average
        self.scope: Scope = scope

    def read(self, backbone: Network) -> Arrays:
        """Arrays by our names. Raises WeightsError if the file can't be fetched or belongs to another network."""
        entry = self._choose(backbone)
        self.name = entry.name
        arrays = FromFile(str(obtain(entry, self.cache)), average=self.average).read(backbone)
        arrays.use = entry.use
        arrays.settings = (arrays.settings or {}) | {f"backbone.{key}": v for key, v in entry.backbone.items()}
        return arrays

    def describe(self) -> str:
        """See `WeightSource.describe`."""
        return f"published weights {self.name or ', '.join(self.archives)}"

    def _choose(self, backbone: Network) -> Entry:
        if self.name is None:
            fit = [entry for entry in self.archives.values() if not entry.detector and entry.suits(backbone)]
            if fit:
                return fit[0]
            raise WeightsError(self._nothing_for(backbone))
        if self.name not in self.archives:
            raise WeightsError(f"init.name={self.name} is not in the catalogue; legal are {', '.join(self.archives)}")
        entry = self.archives[self.name]
        if entry.slim_scope != backbone.slim_scope:
            raise WeightsError(
                f"init.name={self.name} is for {entry.slim_scope}, not for {backbone.slim_scope}: use {entry.use}"
            )
        if self.scope == "detector" and not entry.detector:
            raise WeightsError(f"init.name={self.name} is a classifier without detector heads: use init.scope=backbone")
        return entry

    def _nothing_for(self, backbone: Network) -> str:
        classifiers = [entry for entry in self.archives.values() if not entry.detector]
        same = [f"{e.name} ({e.use})" for e in classifiers if e.slim_scope == backbone.slim_scope]
        multiplier = getattr(backbone, "depth_multiplier", 1.0)
        return (
            f"the catalogue has no weights for {backbone.slim_scope} with depth_multiplier={multiplier} and these "
            f"options; it has {', '.join(same or [entry.name for entry in classifiers])}. Use one of these backbones, "
            "start from a file or a run folder with init=PATH, or start from random weights with init=none."
        )
