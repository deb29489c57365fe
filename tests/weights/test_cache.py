"""Fetching into a cache, against a server on this machine."""

import hashlib
import logging
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from detect.errors import WeightsError
from detect.files import cache_folder
from detect.weights import download as module
from detect.weights.cache import fetch

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Behaves as `server` says: content, etag and date, cut (bytes after which it hangs up), ranges, length, shift."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted) if wanted else self.path)
        if self.path == "/missing.tgz":
            self.send_error(404)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") in (server.etag, server.date):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content) > 0 and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            shown = start + server.shift
            self.send_header("Content-Range", f"bytes {shown}-{len(server.content) - 1}/{len(server.content)}")
        for header, value in (("ETag", server.etag), ("Last-Modified", server.date)):
            if value:
                self.send_header(header, value)
        body = server.content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut])

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
    server.content, server.cut, server.etag, server.date = CONTENT, None, '"1"', None
    server.ranges, server.length, server.shift = True, True, 0
    return f"http://127.0.0.1:{server.server_port}"


def refusal(address, sha256, cache):
    with pytest.raises(WeightsError) as caught:
        fetch(address, sha256, cache, timeout=5)
    return str(caught.value)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_fetched_once(address, server, tmp_path):
    for _ in range(2):
        path = fetch(f"{address}/net.tgz", SHA256, tmp_path / "new" / "cache")
        assert path == tmp_path / "new" / "cache" / "net.tgz" and path.read_bytes() == CONTENT
    assert server.asked == ["/net.tgz"]
    assert names(path.parent) == ["net.tgz"]


def test_a_file_put_there_by_hand_is_used(tmp_path):
    (tmp_path / "net.tgz").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT


def test_a_changed_file_in_the_cache_is_replaced(address, tmp_path, caplog):
    (tmp_path / "net.tgz").write_bytes(b"something else")
    with caplog.at_level(logging.WARNING, "detect"):
        assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert f"does not have sha256 {SHA256}: fetching it again" in caplog.text


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


def break_off(server, cache, cut=500, sha256=SHA256):
    server.cut = cut
    message = refusal(f"http://127.0.0.1:{server.server_port}/net.tgz", sha256, cache)
    server.cut = None
    server.asked.clear()
    return message


def test_a_connection_that_breaks_is_taken_up_where_it_broke(address, server, tmp_path):
    message = break_off(server, tmp_path)
    assert "the connection ended after 500 of 7000 bytes" in message
    assert names(tmp_path) == ["net.tgz.part", "net.tgz.part.etag"]
    break_off(server, tmp_path, cut=1500)
    assert (tmp_path / "net.tgz.part").stat().st_size == 2000
    assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/net.tgz", "bytes=2000-")]
    assert names(tmp_path) == ["net.tgz"]


def test_a_server_that_knows_only_dates(address, server, tmp_path):
    server.etag, server.date = 'W/"weak"', "Mon, 01 Jan 2018 00:00:00 GMT"
    break_off(server, tmp_path)
    assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/net.tgz", "bytes=500-")]


def test_a_server_that_knows_no_ranges_sends_it_all_again(address, server, tmp_path):
    break_off(server, tmp_path)
    server.ranges = False
    assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/net.tgz", "bytes=500-")]


def test_without_a_mark_of_the_version_nothing_is_pieced_together(address, server, tmp_path):
    server.etag = None
    break_off(server, tmp_path)
    assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["/net.tgz"]


def test_a_file_that_changed_meanwhile_is_fetched_whole(address, server, tmp_path):
    break_off(server, tmp_path, sha256=None)
    server.content, server.etag = b"new" * 3000, '"2"'
    assert fetch(f"{address}/net.tgz", None, tmp_path).read_bytes() == b"new" * 3000
    assert server.asked == [("/net.tgz", "bytes=500-")]


def test_parts_that_do_not_fit_are_thrown_away(address, server, tmp_path, caplog):
    """The server says that nothing has changed, and is wrong."""
    break_off(server, tmp_path)
    (tmp_path / "net.tgz.part").write_bytes(b"x" * 500)
    with caplog.at_level(logging.WARNING, "detect"):
        assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/net.tgz", "bytes=500-"), "/net.tgz"]
    assert "has a wrong sha256: fetching the whole file again" in caplog.text


def test_a_part_that_is_too_long(address, server, tmp_path):
    break_off(server, tmp_path)
    (tmp_path / "net.tgz.part").write_bytes(b"x" * 7000)
    assert fetch(f"{address}/net.tgz", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/net.tgz", "bytes=7000-"), "/net.tgz"]


def test_a_server_that_sends_another_range(address, server, tmp_path):
    break_off(server, tmp_path)
    server.shift = 10
    message = refusal(f"{address}/net.tgz", SHA256, tmp_path)
    assert "the server sent bytes 510-6999/7000; requested were bytes from 500 on" in message
    assert (tmp_path / "net.tgz.part").stat().st_size == 500


def test_several_jobs_fetch_once(address, server, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(fetch, f"{address}/net.tgz", SHA256, tmp_path) for _ in range(40)]
    assert {job.result() for job in jobs} == {tmp_path / "net.tgz"}
    assert server.asked == ["/net.tgz"] and names(tmp_path) == ["net.tgz"]


def test_an_unknown_hash_is_pinned_at_first_use(address, server, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "detect"):
        path = fetch(f"{address}/net.tgz", None, tmp_path)
        assert fetch(f"{address}/net.tgz", None, tmp_path) == path
    assert caplog.text.count(f"no sha256 is known for net.tgz: it has {SHA256}") == 1
    pin = path.with_name("net.tgz.sha256")
    assert pin.read_text().strip() == SHA256 and server.asked == ["/net.tgz"]
    path.unlink()
    server.content = b"something else"
    message = refusal(f"{address}/net.tgz", None, tmp_path)
    assert f"expected is {SHA256}, which it had when it was first fetched; if a change is fine, remove {pin}" in message
    assert names(path.parent) == ["net.tgz.sha256"]
    pin.unlink()
    assert fetch(f"{address}/net.tgz", None, tmp_path).read_bytes() == b"something else"


def test_an_unknown_file_put_there_by_hand_is_pinned(tmp_path):
    told = refusal("http://127.0.0.1:1/net.tgz", None, tmp_path)
    (place,) = tmp_path.iterdir()
    assert f"the cache folder {place}\n(as net.tgz;" in told
    (place / "net.tgz").write_bytes(CONTENT)
    fetch("http://127.0.0.1:1/net.tgz", None, tmp_path)
    assert (place / "net.tgz.sha256").read_text().strip() == SHA256


def test_another_address_is_another_file(address, server, tmp_path):
    first = fetch(f"{address}/a/net.tgz", None, tmp_path)
    server.content = b"b" * 10
    second = fetch(f"{address}/b/net.tgz", None, tmp_path)
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"b" * 10)
    known = fetch(f"{address}/b/net.tgz", hashlib.sha256(b"b" * 10).hexdigest(), tmp_path)
    assert known == tmp_path / "net.tgz" and known.read_bytes() == b"b" * 10


@pytest.mark.parametrize(("length", "total"), [(True, 7000), (False, 0)])
def test_progress(address, server, tmp_path, length, total):
    server.length, seen = length, []
    fetch(f"{address}/net.tgz", SHA256, tmp_path, progress=lambda done, size: seen.append((done, size)))
    assert seen[-1] == (7000, total)


def test_a_line_on_the_console(address, server, tmp_path, capsys):
    server.content = bytes(3_000_000)
    fetch(f"{address}/net.tgz", None, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("net.tgz  3/3 MB  ETA 0:00:00") for line in lines)  # the log may be there, too


def test_another_file_than_expected(address, tmp_path):
    message = refusal(f"{address}/net.tgz", "0" * 64, tmp_path)
    assert f"{address}/net.tgz has sha256 {SHA256}; expected is {'0' * 64}." in message
    assert "init=PATH" in message
    assert not list(tmp_path.iterdir())


def test_no_address_at_all(tmp_path):
    assert "net.tgz can't be fetched (unknown url type" in refusal("net.tgz", SHA256, tmp_path)


def test_an_endless_file_is_given_up(address, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert "can't be fetched (the file is larger than" in refusal(f"{address}/net.tgz", SHA256, tmp_path)


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


@pytest.mark.parametrize("target", ["http://x/net.tgz", "ftp://x/net.tgz", "HTTP://x/net.tgz"])
def test_no_redirect_leaves_https(target):
    follow = module._Redirect().redirect_request
    with pytest.raises(urllib.error.URLError, match=r"it redirects from https to .*: refused"):
        follow(urllib.request.Request("https://x/net.tgz"), None, 302, "Found", {}, target)
    found = follow(urllib.request.Request("https://x/net.tgz"), None, 302, "Found", {}, "https://y/net.tgz")
    assert found.full_url == "https://y/net.tgz"


def test_the_opener_uses_this_rule(monkeypatch, tmp_path):
    seen = []

    class Opener:
        def open(self, request, timeout):
            raise urllib.error.URLError("no")

    monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: seen.extend(handlers) or Opener())
    refusal("https://127.0.0.1:1/net.tgz", SHA256, tmp_path)
    assert seen == [module._Redirect]
