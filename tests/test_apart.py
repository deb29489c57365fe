"""A reader in a process of its own: its result, its message, and its end by each limit."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from detect import apart
from detect.errors import WeightsError

READERS = {
    "copies": "stdout.write(stdin.read() + arguments[0].encode())",
    "refuses": "stdout.write(b'half'); from detect.errors import DataError; raise DataError('x.h5: no')",
    "prints": "import os; print('a'); os.write(1, b'b'); stdout.write(b'result')",
    "prints and refuses": "print('a', flush=True); from detect.errors import DataError; raise DataError('x.h5: no')",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "1 / 0",
    "sleeps": "import time; time.sleep(60)",
    "spins": "while True: pass",
    "fills": "bytearray(1 << 30)",
    "pours": "[stdout.write(bytes(1 << 20)) for _ in range(200)]",
}


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls a reader of READERS, as a module that the child finds below `detect`."""
    (tmp_path / "detect").mkdir()
    for name, body in READERS.items():
        text = f"def apart(arguments, stdin, stdout):\n    {body}\n"
        (tmp_path / "detect" / f"reader_{name.replace(' ', '_')}.py").write_text(text)
    hook = f"import detect; detect.__path__.append({str(tmp_path / 'detect')!r})\n"
    (tmp_path / "sitecustomize.py").write_text(hook)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def called(name, seconds=20, content=b""):
        limits = apart.Limits(seconds, 64 << 20)
        with apart.call(f"detect.reader_{name.replace(' ', '_')}", ["a b"], "x.h5", limits, content) as output:
            return output.read()

    return called


def test_the_output_comes_back(call):
    assert call("copies", content=b"bytes, ") == b"bytes, a b"


def test_what_a_library_prints_is_no_output(call):
    assert call("prints") == b"result"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refuses", "^x.h5: no$"),
        ("prints and refuses", "^x.h5: no$"),
        ("crashes", "^x.h5: it is damaged: the process that read it ended with signal SIGSEGV$"),
        ("raises", "^x.h5: it is damaged: the process that read it ended with code 1$"),
        ("fills", "^x.h5: reading it needs more than 64 MB of memory: it is damaged, or too large"),
        ("pours", "^x.h5: .*it is damaged"),
    ],
)
def test_the_ends_of_readers(call, name, message):
    with pytest.raises(WeightsError, match=message):
        call(name)


@pytest.mark.parametrize("name", ["sleeps", "spins"])
def test_a_reader_that_takes_too_long(call, name):
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"^x\.h5: reading it needs more than 1 s: it is damaged, or too large"):
        call(name, seconds=1)
    assert time.monotonic() - started < 20


def test_only_modules_of_this_program(call, tmp_path):
    (tmp_path / "strange.py").write_text("def apart(arguments, stdin, stdout):\n    pass\n")
    with open(os.devnull, "wb") as output:
        assert apart.run("strange", [], apart.Limits(), b"", output) == 1


def test_nothing_is_imported_from_the_working_folder(call, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path / "cwd")
    assert call("copies", content=b"still, ") == b"still, a b"


def test_a_process_that_does_not_start_its_clock(monkeypatch):
    def stuck(*_, **__):
        raise apart.subprocess.TimeoutExpired("x", 1)

    monkeypatch.setattr(apart.subprocess, "run", stuck)
    with pytest.raises(WeightsError, match="needs more than 60 s"):
        apart.call("detect.x", [], "x.h5", apart.Limits())
    monkeypatch.setattr(apart.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-signal.SIGKILL))
    with pytest.raises(WeightsError, match="needs more than 60 s"):
        apart.call("detect.x", [], "x.h5", apart.Limits())
