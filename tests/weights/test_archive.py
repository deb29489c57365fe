"""Archives: what is taken out of them, and what hostile ones get."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile

import pytest

from detect.errors import WeightsError
from detect.weights import archive as module
from detect.weights.archive import unpack


def pack(path, members, mode="w:gz"):
    """members: name -> content, or a TarInfo without content."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.name = name
            if isinstance(content, bytes):
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def special(kind, target=""):
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


def refusal(archive, start="net.ckpt"):
    before = {file.name for file in archive.parent.iterdir()}
    with pytest.raises(WeightsError) as caught:
        unpack(archive, start, archive.parent / "folder")
    assert {file.name for file in archive.parent.iterdir()} == before, "something was left"
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_only_the_checkpoint_is_unpacked(tmp_path, mode):
    members = {"./net.ckpt.index": b"i", "./sub/net.ckpt.data-00000-of-00001": b"d", "./net_frozen.pb": b"p"}
    folder = unpack(pack(tmp_path / "net.tar", members, mode), "net.ckpt", tmp_path / "net")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "net.ckpt.index": b"i",
        "net.ckpt.data-00000-of-00001": b"d",
    }
    (tmp_path / "net.tar").unlink()
    assert unpack(tmp_path / "net.tar", "net.ckpt", folder) == folder  # the second time there is nothing to do


def test_folders_in_the_archive_may_be_named(tmp_path):
    members = {"v3/ema/model-5.index": b"e", "v3/pristine/model-5.index": b"p", "v3/ema/readme": b"r"}
    folder = unpack(pack(tmp_path / "net.tgz", members), "ema/model", tmp_path / "net")
    assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [("model-5.index", b"e")]


def test_a_longer_name_is_another_file(tmp_path):
    members = {"ckpt-1.index": b"1", "ckpt-10.index": b"10", "ckpt-1-of-2": b"part", "ckpt-1_old.index": b"old"}
    folder = unpack(pack(tmp_path / "net.tgz", members), "ckpt-1", tmp_path / "net")
    assert sorted(file.name for file in folder.iterdir()) == ["ckpt-1-of-2", "ckpt-1.index"]


@pytest.mark.parametrize("name", ["../net.ckpt.index", "/net.ckpt.index", "a/../../net.ckpt.index"])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    assert "points outside of the folder: refused" in refusal(pack(tmp_path / "net.tgz", {name: b"evil"}))
    assert not list(tmp_path.parent.glob("net.ckpt*"))


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "readme"), (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)  # fmt: skip
def test_links_and_devices(tmp_path, kind, target):
    members = {"readme": b"x", "net.ckpt.index": special(kind, target)}
    assert "net.ckpt.index is not a plain file: refused" in refusal(pack(tmp_path / "net.tgz", members))


def test_a_link_is_never_followed_by_a_file_of_its_name(tmp_path):
    members = {"net.ckpt": special(tarfile.SYMTYPE, "/tmp"), "net.ckpt/evil": b"x"}
    assert "net.ckpt is not a plain file" in refusal(pack(tmp_path / "net.tgz", members))


def test_two_files_of_one_name(tmp_path):
    members = {"a/net.ckpt.index": b"1", "b/net.ckpt.index": b"2"}
    assert "holds net.ckpt.index twice: refused" in refusal(pack(tmp_path / "net.tgz", members))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive", "can't be unpacked into"), (None, "holds no file that starts with net.ckpt")],
)
def test_bad_archives_leave_nothing(tmp_path, content, message):
    archive = pack(tmp_path / "net.tgz", {"readme": b""})
    if content:
        archive.write_bytes(content)
    assert message in refusal(archive)


def test_a_cut_archive_leaves_nothing(tmp_path):
    content = bytes(hashlib.sha256(str(i).encode()).digest()[0] for i in range(50_000))
    archive = pack(tmp_path / "net.tgz", {"net.ckpt.index": content})
    archive.write_bytes(archive.read_bytes()[:20_000])
    assert "can't be unpacked" in refusal(archive)


@pytest.mark.parametrize("bomb", ["readme", "net.ckpt.index"])
def test_archives_that_swell_are_refused_before_they_are_read(tmp_path, monkeypatch, bomb):
    monkeypatch.setattr(module, "LARGEST", 100_000)
    members = {bomb: bytes(5_000_000), "net.ckpt.meta": b""}
    archive = pack(tmp_path / "net.tgz", members)
    assert archive.stat().st_size < 100_000
    assert "it unpacks to more than" in refusal(archive)


def test_a_header_that_fills_the_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "net.tgz").write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20)))
    assert "one of its headers claims" in refusal(tmp_path / "net.tgz")


def test_an_archive_of_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    assert "more than 3 members" in refusal(pack(tmp_path / "net.tgz", {f"f{i}": b"" for i in range(4)}))


@pytest.mark.parametrize("name", ["net.ckpt\x1b[31m", "net.ckpt\nindex", "net.ckpt\x00.index"])
def test_names_with_control_characters(tmp_path, name):
    member = tarfile.TarInfo()
    member.pax_headers = {"path": name}
    assert "refused" in refusal(pack(tmp_path / "net.tgz", {"net.ckpt": member}, "w:gz")) or "\0" in name


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    archive = pack(tmp_path / "net.tgz", {"net.ckpt.index": b"i"})
    left = tmp_path / "folder.new12345"
    left.mkdir()
    (left / "net.ckpt.index").write_bytes(b"half")
    other = tmp_path / "folder-2.new1"
    other.mkdir()
    folder = unpack(archive, "net.ckpt", tmp_path / "folder")
    assert (folder / "net.ckpt.index").read_bytes() == b"i"
    assert not left.exists() and other.exists()


def test_a_death_while_unpacking_leaves_no_folder_of_that_name(tmp_path, monkeypatch):
    archive = pack(tmp_path / "net.tgz", {"net.ckpt.index": b"i", "net.ckpt.data": b"d"})
    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # a killed process removes nothing

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, "net.ckpt", tmp_path / "folder")
    assert not (tmp_path / "folder").exists() and list(tmp_path.glob("folder.new*"))
    monkeypatch.undo()
    folder = unpack(archive, "net.ckpt", tmp_path / "folder")
    assert len(list(folder.iterdir())) == 2 and not list(tmp_path.glob("folder.new*"))


def test_processes_that_unpack_at_once_do_not_clash(tmp_path):
    archive = pack(tmp_path / "net.tgz", {f"net.ckpt.{i}": bytes(100_000) for i in range(20)})
    program = (
        "import sys; from pathlib import Path; from detect.weights.archive import unpack;"
        "print(len(list(unpack(Path(sys.argv[1]), 'net.ckpt', Path(sys.argv[2])).iterdir())))"
    )
    words = [sys.executable, "-c", program, str(archive), str(tmp_path / "folder")]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in running] == ["20"] * 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "net.tgz"]
