"""An error of the disk is one message that names the place; the need of a run is said before it starts."""

import errno
import logging

import pytest
import tensorflow as tf
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from detect.data.formats import voc
from detect.errors import DataError, UserError
from detect.runs import disk
from detect.runs.dataset import open_dataset


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "no", "x.json"), "x.json: no space is left on the disk; "),
        (OSError(errno.EDQUOT, "no"), "the disk quota is used up; "),
        (tf.errors.ResourceExhaustedError(None, None, "run/ckpt; No space left on device"), "no space is left"),
        (OSError(errno.ENAMETOOLONG, "no", "xxx"), "xxx: this name is too long for a file or folder"),
        (OSError(errno.EROFS, "no"), "the file system is read-only"),
        (PermissionError(errno.EACCES, "no", "data"), "data: this user has no permission"),
        (OSError(errno.ESTALE, "no", "data"), "data: the network disk was taken away or replaced; mount it anew"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_an_error_of_the_disk_is_one_message_which_asks_for_room_if_the_disk_is_full(tmp_path, error, text, begun):
    run = tmp_path / "run"
    if begun:
        (run / "detector" / "last").mkdir(parents=True)
    with pytest.raises(UserError) as told, disk.told(run, "detect train resume=run"):
        raise error
    message, full = str(told.value), text.endswith("; ") or "space" in text
    assert text in message and "\n" not in message
    assert (f" are free in {run}" in message) == full
    assert ("Make room, then go on with" in message) == (full and begun)
    assert message.endswith("then go on with: detect train resume=run") == begun == ("was saved" in message)


def test_a_disk_that_is_away_while_a_reader_looks_at_it(tmp_path, monkeypatch):
    def away(folder, key="dataset.root"):
        raise OSError(errno.ESTALE, "Stale file handle", str(folder))

    monkeypatch.setattr(voc, "existing_folder", away)
    node = {"_target_": "detect.data.formats.voc.read_voc", "root": str(tmp_path)}
    with pytest.raises(InstantiationException) as caught:
        open_dataset(OmegaConf.create({"dataset": node}))
    assert disk.problem(caught.value).startswith(f"{tmp_path}: the network disk was taken away")


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "no", "x"), DataError("x.jpg")])
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as passed, disk.told(tmp_path, "x"):
        raise error
    assert passed.value is error and disk.problem(ValueError()) is None


def test_a_message_that_says_more_stays():
    error = DataError("x.xml can't be read")
    error.__cause__ = PermissionError(errno.EACCES, "no", "x.xml")
    assert disk.problem(error) is None
    assert disk.problem(PermissionError(errno.EACCES, "no", "x.xml")) == "x.xml: this user has no permission"


def test_the_need_is_said_and_too_little_room_refused(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(disk, "_free", lambda folder: 250_000_000)
    with caplog.at_level(logging.INFO, "detect"):
        disk.demand(tmp_path, 10_000_000, stages=2)  # 2 x (2 x 40 + 10) + 40 = 220 MB
    assert caplog.messages == [f"disk: the run needs at most 220 MB in {tmp_path}; 250 MB are free"]
    with pytest.raises(UserError, match=r"needs 310 MB of disk, and only 250 MB are free"):
        disk.demand(tmp_path, 10_000_000, stages=3)
    (tmp_path / "train.log").write_bytes(bytes(70_000_000))  # what is written no second time makes no room
    with pytest.raises(UserError, match="needs 310 MB of disk"):
        disk.demand(tmp_path, 10_000_000, stages=3)
    (tmp_path / "detector/last").mkdir(parents=True)  # what a run that resumes has already
    (tmp_path / "detector/last/ckpt-1.data-00000-of-00001").write_bytes(bytes(40_000_000))
    (tmp_path / "detector/best.data-00000-of-00001").write_bytes(bytes(30_000_000))
    disk.demand(tmp_path, 10_000_000, stages=3)
