"""The saved states of a stage: the newest two, each with digests, so that damage is found before TensorFlow reads it.

    last/ckpt-1200.index  ckpt-1200.data-00000-of-00001     the state, as TensorFlow writes it
    last/ckpt-1200.json                                     SHA-256 of both; it is written last

A state is written as `ckpt-new`, its digests last; then its files get their names, in the order above. If the program
ended between these renames, `ckpt-new.json` is still there and tells the names: `finish_interrupted` does the others.
A state without digests is not whole. Older versions wrote none at all; if no state of a folder has digests, all of them
are read.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from detect.errors import WeightsError, one_line
from detect.files import sha256_of, sync, write_json

log = logging.getLogger("detect")
KEPT = 2
NEW = "ckpt-new"
"""The prefix of a state while it is written."""
NAME = re.compile(r"ckpt-(\d+)\.index")


class SavedStates:
    """Saves objects of TensorFlow in a folder, and restores the newest state that is whole.

    writes: False for a worker that only takes part in reading the values of all replicas.
    """

    def __init__(self, folder: Path, objects: Mapping[str, Any], writes: bool = True):
        self.folder, self.writes = folder, writes
        self._checkpoint = tf.train.Checkpoint(**objects)

    def save(self, step: int) -> None:
        """Saves the state after a step, then removes all but the newest two. A failed save leaves the others."""
        if not self.writes:
            with tempfile.TemporaryDirectory() as place:
                self._checkpoint.write(str(_prefix(Path(place), step)))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        new, prefix = self.folder / NEW, _prefix(self.folder, step)
        try:
            self._checkpoint.write(str(new))
            sync(*_files(new))
            digests = {file.name: sha256_of(written) for file, written in zip(_files(prefix), _files(new), strict=True)}
            write_json(_digests(new), digests)
        except BaseException:
            _remove(self.folder.glob(f"{NEW}*"))
            raise
        for written, file in zip(_all(new), _all(prefix), strict=True):
            os.replace(written, file)
        sync(self.folder)
        self._keep([*(s for s in steps(self.folder) if s != step), step][-KEPT:])

    def restore(self) -> int | None:
        """Restores the newest state that is whole. Returns its step, or None if none was saved.

        Damaged states are removed with a warning. Raises WeightsError if there is no other.
        """
        finish_interrupted(self.folder)
        found = steps(self.folder)
        for place in range(len(found), 0, -1):
            step = found[place - 1]
            if problem := _problem(self.folder, step):
                log.warning("%s: %s; the state before it is used", _prefix(self.folder, step), problem)
                continue
            self._read(_prefix(self.folder, step))
            if self.writes:
                self._keep(found[:place][-KEPT:])
            return step
        if found:
            raise WeightsError(
                f"{self.folder}: every saved state is damaged ({problem}). Restore the folder from a copy; or remove "
                f"{self.folder.parent}, and the stage begins again"
            )
        return None

    def _read(self, prefix: Path) -> None:
        try:
            self._checkpoint.read(str(prefix)).assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:
            raise WeightsError(
                f"{prefix}: the state does not fit this network, optimiser and hooks; another version of the program "
                f"or of a hook wrote it ({one_line(error)}). Continue with that version, or remove {self.folder.parent}"
            ) from error

    def _keep(self, kept: list[int]) -> None:
        """Removes all that this program wrote into the folder, except the states after these steps."""
        stems = {_prefix(self.folder, step).name for step in kept}
        written = self.folder.glob("ckpt-*")
        _remove(p for p in written if p.name.partition(".")[0] not in stems or ".tempstate" in p.name)
        if kept:  # the file that tf.train.latest_checkpoint reads
            names = [_prefix(self.folder, step).name for step in kept]
            tf.compat.v1.train.update_checkpoint_state(str(self.folder), names[-1], names)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def steps(folder: Path) -> list[int]:
    """The steps after which a state was saved in a folder, the newest last; the states may be damaged."""
    found = (NAME.fullmatch(path.name) for path in folder.glob("ckpt-*.index"))
    return sorted(int(match[1]) for match in found if match)


def finish_interrupted(folder: Path) -> None:
    """Renames what a killed save has written whole and not yet renamed. Several workers may do so at once."""
    new = folder / NEW
    try:
        named = [NAME.fullmatch(name) for name in json.loads(_digests(new).read_bytes())]
    except (FileNotFoundError, ValueError, TypeError):  # no save was killed there, or the file is damaged
        return
    for match in filter(None, named):
        for written, file in zip(_all(new), _all(_prefix(folder, int(match[1]))), strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.replace(written, file)


def _problem(folder: Path, step: int) -> str | None:
    """Why a state can't be restored."""
    prefix = _prefix(folder, step)
    try:
        expected = json.loads(_digests(prefix).read_bytes())
        damaged = [file.name for file in _files(prefix) if expected[file.name] != sha256_of(file)]
        return f"{', '.join(damaged)}: the file is damaged" if damaged or not expected else None
    except FileNotFoundError as error:
        if Path(error.filename) == _digests(prefix):
            return "the file with its digests is missing" if any(folder.glob("ckpt-*.json")) else _unreadable(prefix)
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{_digests(prefix).name}: the file is damaged"


def _unreadable(prefix: Path) -> str | None:
    """Why a state without digests can't be read; TensorFlow keeps a checksum of each tensor."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except Exception as error:  # TensorFlow raises many types
        return f"TensorFlow can't read it: {one_line(error)}"
    return None


def _prefix(folder: Path, step: int) -> Path:
    return folder / f"ckpt-{step}"


def _files(prefix: Path) -> list[Path]:
    return [prefix.with_name(prefix.name + suffix) for suffix in (".index", ".data-00000-of-00001")]


def _all(prefix: Path) -> list[Path]:
    return [*_files(prefix), _digests(prefix)]


def _digests(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.json")
