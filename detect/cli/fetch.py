"""Downloads public weights into the cache: `detect fetch NAME`. Without a name, it lists them."""

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from detect.errors import ConfigError, printable
from detect.files import expanded
from detect.weights.catalogue import Entry, obtain

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: "DictConfig") -> Path | None:
    """Prints the folder with the files and a command that uses them; returns the folder."""
    from detect.config.tree import nearest, plain

    entries = {name: Entry.of(name, values) for name, values in plain(cfg)["archives"].items()}
    if cfg.name is None:
        print("\n".join(listing(entries)))
        return None
    if cfg.name not in entries:
        raise ConfigError(f"unknown name={cfg.name}{nearest(str(cfg.name), entries)}; `detect fetch` lists legal names")
    entry = entries[cfg.name]
    folder = obtain(entry, cfg.cache)
    print(
        "\n".join(
            [
                str(folder),
                *(f"  {printable(f.name)}  {f.stat().st_size / 1e6:.1f} MB" for f in sorted(folder.iterdir())),
            ]
        )
    )
    print(f"Use it:\n  {command(entry, cfg.cache)}")
    return folder


def command(entry: Entry, cache: str | None = None) -> str:
    """The command that trains from the weights of an entry, which are in the folder `cache`."""
    words = ["detect", "train", "dataset.root=DIR", *entry.use.split(), f"init={entry.name}"]
    words += ["init.scope=detector"] if entry.detector else []
    words += [f"init.cache={expanded(cache)}"] if cache else []
    return shlex.join(words)


def facts(entry: Entry) -> str:
    """Size, licence and hash of an archive, as far as a source states them."""
    size = "size not stated" if entry.size is None else f"{entry.size / 1e6:.1f} MB"
    known = "hash kept at the first fetch" if entry.sha256 is None else f"sha256 {entry.sha256[:16]}..."
    return f"{size}, {entry.licence or 'licence not stated'}, {known}"


def listing(entries: dict[str, Entry]) -> list[str]:
    """Lines with each name, the overrides that build its network, and the facts of its archive."""
    lines = []
    for detector, title in ((False, "ImageNet classifiers:"), (True, "Detectors (init.scope=detector for the heads):")):
        lines += [title]
        for entry in entries.values():
            if entry.detector == detector:
                lines += [f"  {entry.name}"]
                for text in (entry.use, facts(entry)):
                    lines += textwrap.wrap(text, 78, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return [*lines, "Fetch one with `detect fetch NAME`; init=NAME fetches it, too."]
