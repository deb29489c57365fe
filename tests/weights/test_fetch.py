"""Fetching into a cache, against a server on this machine."""

import hashlib
import io
import logging
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from detect.errors import WeightsError
from detect.weights import fetch as module
from detect.weights.fetch import cache_folder, fetch, unpack

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing.tgz":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:500] if self.path == "/broken.tgz" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def address(server):
    server.asked.clear()
    return f"http://127.0.0.1:{server.server_port}"


def refusal(address, sha256, cache):
    with pytest.raises(WeightsError) as caught:
        fetch(address, sha256, cache, timeout=5)
    assert not list(cache.glob("*.part")), "a partial file was left"
    return str(caught.value)


def test_a_file_is_fetched_once(address, server, tmp_path):
    for _ in range(2):
        path = fetch(f"{address}/net.tgz", SHA256, tmp_path / "new" / "cache")
        assert path == tmp_path / "new" / "cache" / "net.tgz" and path.read_bytes() == CONTENT
    assert server.asked == ["/net.tgz"]
    assert [file.name for file in path.parent.iterdir()] == ["net.tgz"]


def test_a_file_put_there_by_hand_is_used(tmp_path):
    (tmp_path / "net.tgz").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT


def test_a_changed_file_in_the_cache_is_replaced(address, tmp_path, caplog):
    (tmp_path / "net.tgz").write_bytes(b"something else")
    with caplog.at_level(logging.WARNING, "detect"):
        assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert f"is not the file of sha256 {SHA256}: fetching it again" in caplog.text


def test_file_addresses(tmp_path):
    (tmp_path / "net.tgz").write_bytes(CONTENT)
    assert fetch((tmp_path / "net.tgz").as_uri(), SHA256, tmp_path / "cache").read_bytes() == CONTENT


def test_offline_says_what_can_be_done(tmp_path):
    message = refusal("http://127.0.0.1:1/net.tgz", SHA256, tmp_path)  # nobody listens on port 1
    assert message.startswith("http://127.0.0.1:1/net.tgz can't be fetched (")
    assert f"the cache folder {tmp_path}\n(as net.tgz; DETECT_CACHE names another folder)" in message
    assert "init=PATH" in message and "init=none" in message


def test_not_found(address, tmp_path):
    assert f"{address}/missing.tgz can't be fetched (HTTP 404)." in refusal(f"{address}/missing.tgz", SHA256, tmp_path)


def test_a_connection_that_breaks(address, tmp_path):
    message = refusal(f"{address}/broken.tgz", SHA256, tmp_path)
    assert "the connection ended after 500 of 7000 bytes" in message


def test_another_file_than_expected(address, tmp_path):
    message = refusal(f"{address}/net.tgz", "0" * 64, tmp_path)
    assert f"{address}/net.tgz has sha256 {SHA256}, not {'0' * 64} as expected." in message
    assert "init=PATH" in message
    assert not list(tmp_path.iterdir())


def test_no_address_at_all(tmp_path):
    assert "net.tgz can't be fetched (unknown url type" in refusal("net.tgz", SHA256, tmp_path)


def test_an_endless_file_is_given_up(address, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert "can't be fetched (more than" in refusal(f"{address}/net.tgz", SHA256, tmp_path)


def test_a_cache_that_cannot_be_made(address, tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal(f"{address}/net.tgz", SHA256, tmp_path / "file" / "cache")
    assert "Not a directory" in message and "DETECT_CACHE" in message


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECT_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    assert cache_folder(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv("DETECT_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "detect"


def pack(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_only_the_checkpoint_is_unpacked(tmp_path):
    members = {"./net.ckpt.index": b"i", "./sub/net.ckpt.data-00000-of-00001": b"d", "./net_frozen.pb": b"p"}
    folder = unpack(pack(tmp_path / "net.tgz", members), "net.ckpt", tmp_path / "net")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "net.ckpt.index": b"i",
        "net.ckpt.data-00000-of-00001": b"d",
    }
    (tmp_path / "net.tgz").unlink()
    assert unpack(tmp_path / "net.tgz", "net.ckpt", folder) == folder  # the second time there is nothing to do


def test_members_cannot_leave_the_folder(tmp_path):
    archive = pack(tmp_path / "net.tgz", {"../../net.ckpt.index": b"evil", "/net.ckpt.meta": b"evil"})
    with tarfile.open(tmp_path / "link.tgz", "w:gz") as tar:
        link = tarfile.TarInfo("net.ckpt.index")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "a").mkdir()
    unpack(archive, "net.ckpt", tmp_path / "a" / "b")
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["net.ckpt.index", "net.ckpt.meta"]
    assert not list(tmp_path.parent.glob("net.ckpt*")) and not list(tmp_path.glob("net.ckpt*"))
    with pytest.raises(WeightsError, match=r"holds no file that starts with net\.ckpt"):
        unpack(tmp_path / "link.tgz", "net.ckpt", tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive", "can't be unpacked into"), (None, "holds no file that starts with net.ckpt")],
)
def test_bad_archives_leave_nothing(tmp_path, content, message):
    archive = pack(tmp_path / "net.tgz", {"readme": b""})
    if content:
        archive.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        unpack(archive, "net.ckpt", tmp_path / "net")
    assert [file.name for file in tmp_path.iterdir()] == ["net.tgz"]


def test_a_cut_archive_leaves_nothing(tmp_path):
    content = bytes(hashlib.sha256(str(i).encode()).digest()[0] for i in range(50_000))
    archive = pack(tmp_path / "net.tgz", {"net.ckpt.index": content})
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match="can't be unpacked"):
        unpack(archive, "net.ckpt", tmp_path / "net")
    assert [file.name for file in tmp_path.iterdir()] == ["net.tgz"]


def test_archives_that_swell_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    archive = pack(tmp_path / "net.tgz", {"net.ckpt.index": bytes(2000)})
    with pytest.raises(WeightsError, match="unpacks to more than"):
        unpack(archive, "net.ckpt", tmp_path / "net")
