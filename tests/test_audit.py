"""The offline audit finds a locked version in the lists and in the ranges of advisories."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "audit.py"


def advisory(ranges=(), versions=(), **more):
    about = {"id": "PYSEC-1", "aliases": ["CVE-1"], "details": "It fails.\nMore.", **more}
    kept = [{"type": "ECOSYSTEM", "events": list(events)} for events in ranges]
    return about | {"affected": [{"package": {"name": "Py_Thing"}, "ranges": kept, "versions": list(versions)}]}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (advisory(versions=["1.2", "not a version"]), True),
        (advisory(versions=["1.3"]), False),
        (advisory([[{"introduced": "0"}, {"fixed": "1.10"}]]), True),
        (advisory([[{"introduced": "0"}, {"fixed": "1.2"}]]), False),
        (advisory([[{"introduced": "0"}, {"fixed": "1"}, {"introduced": "1.1"}]]), True),
        (advisory([[{"introduced": "0"}, {"last_affected": "1.2.0"}]]), True),
    ],
)
def test_a_locked_version_is_found(tmp_path, entry, found):
    (tmp_path / "a.json").write_text(json.dumps(entry))
    lock = tmp_path / "requirements.lock"
    lock.write_text("other==9 \\\n    --hash=sha256:00\npy-thing==1.2 ; python_version > '3'\n")
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, lock], capture_output=True, text=True)
    line = "py-thing 1.2: PYSEC-1, CVE-1: It fails.\n" if found else ""
    assert (done.returncode, done.stderr) == (int(found), "")
    assert done.stdout == f"{line}2 versions, 1 advisories, {int(found)} weaknesses\n"


def test_a_folder_without_advisories_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(advisory([[{"introduced": "0"}]], withdrawn="2024-01-01")))
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "has no advisories" in done.stderr
