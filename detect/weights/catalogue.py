"""The catalogue of published archives: the fields of an entry, and where its weights come from."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from detect.errors import ConfigError, WeightsError
from detect.files import cache_folder, sha256_of
from detect.weights.archive import unpack
from detect.weights.cache import fetch, plain_name
from detect.weights.interface import Network

log = logging.getLogger("detect")


KINDS: dict[str, Any] = {  # the others are text
    **{"backbone": Mapping, "detector": bool, "sha256": str | None, "size": int | None, "licence": str | None}
}
LEGAL = defaultdict(lambda: "text", backbone="a mapping", detector="true or false", sha256="a hash or null")
LEGAL |= {"size": "a number of bytes or null", "licence": "text or null"}
SAFE = ("https://", "file://")  # what arrives from there is what the address names


@dataclass(frozen=True)
class Entry:
    """A published archive.

    slim_scope: scope of the network in the archive.
    backbone: arguments of the backbone that it was trained with; they distinguish two archives of one network.
    detector: whether it holds a whole detector of the Object Detection API; if not, it is a classifier.
    use: overrides of `detect train` that build this network.
    name: it becomes part of a folder's name.
    address, sha256: of the tar archive. sha256=None: the hash of the first archive that is fetched is kept, and later
        archives must have it; this needs an address by https, or a file.
    file: start of the names of the wanted files in the archive, with their folders. The name ends there, or goes on
        with a sign such as . or -
    size: of the archive in bytes. licence: of the weights. None, or no such key, where no source states them.
    """

    name: str
    slim_scope: str
    backbone: Mapping[str, Any]
    detector: bool
    use: str
    address: str
    sha256: str | None
    file: str
    size: int | None = None
    licence: str | None = None

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> "Entry":
        """Makes an entry from a mapping with every field except the name; those with a default may be left out.

        Raises ConfigError for another mapping, and for values of another type.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"catalogue: {name} is {values!r}; legal is a mapping")
        known = {field.name for field in fields(cls)} - {"name"}
        wanted = {field.name for field in fields(cls) if field.default is MISSING} - {"name"}
        if odd := sorted((wanted - set(values)) | (set(values) - known)):
            raise ConfigError(f"catalogue: {name} must have {', '.join(sorted(wanted))}; wrong are {', '.join(odd)}")
        for field in fields(cls):
            value = values.get(field.name, name if field.name == "name" else field.default)
            if not isinstance(value, KINDS.get(field.name, str)):
                raise ConfigError(f"catalogue: {field.name} of {name} is {value!r}; legal is {LEGAL[field.name]}")
        return cls(name, **values)

    def suits(self, backbone: Network) -> bool:
        """Whether the entry is for the backbone's network, with the same variant and depth multiplier."""
        same = all(getattr(backbone, key, value) == value for key, value in self.backbone.items())
        return self.slim_scope == backbone.slim_scope and same


def obtain(entry: Entry, cache: str | Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """The folder with the entry's unpacked files. Fetches them if they are not in the cache.

    cache, progress: see `detect.weights.cache.fetch`. Raises WeightsError.
    """
    name = plain_name(entry.name, "a name of the catalogue")
    if entry.sha256 is None and not entry.address.startswith(SAFE):
        raise WeightsError(
            f"{name}: the address {entry.address} is not safe without a hash: anybody on the way can change the file. "
            "Legal are https, and any address with its sha256"
        )
    archive = fetch(entry.address, entry.sha256, cache_folder(cache) / "weights", progress=progress)
    wanted = f"{entry.sha256 or sha256_of(archive)} {entry.file}"
    return unpack(archive, entry.file, archive.parent / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}")
