"""Where a result came from: read from real checkouts and processes, without the heavy libraries."""

import json
import subprocess
import sys

import pytest

from detect.runs import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_commit_of_a_clean_checkout(checkout):
    assert provenance.git_state(checkout) == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_changes_make_a_checkout_dirty(checkout):
    (checkout / "new.txt").write_text("untracked files do not count")
    assert provenance.git_state(checkout)["dirty"] is False
    (checkout / "a.txt").write_text("two")
    assert provenance.git_state(checkout)["dirty"] is True


def test_no_commit_outside_a_checkout(tmp_path, checkout):
    assert provenance.git_state(tmp_path / "elsewhere") is None


def test_no_commit_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(checkout) is None


def test_no_commit_before_the_first(tmp_path):
    git(tmp_path, "init", "-q")
    assert provenance.git_state(tmp_path) is None


def test_versions():
    found = provenance.versions()
    assert found["python"].startswith("3.")
    assert found["tensorflow"].startswith("2.")
    assert provenance.version("no-such-distribution") is None


def test_host_is_of_this_machine():
    host = provenance.host()
    assert host["cores"] >= 1
    assert host["memory_gb"] is None or host["memory_gb"] > 0.5
    assert isinstance(host["cpu"], str) and isinstance(host["gpus"], list)


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/venv/bin/python3.11", "/venv/bin/detect", "train", "name=a b"], "detect train 'name=a b'"),
        (["/venv/bin/python3", "-m", "detect.cli", "train", "seed=1"], "python3 -m detect.cli train seed=1"),
        (["/usr/bin/python3"], "python3"),
    ],
)
def test_command_line(monkeypatch, argv, command):
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert provenance.command_line() == command


def test_collect_is_ready_for_json():
    collected = provenance.collect()
    assert json.loads(json.dumps(collected, allow_nan=False)) == collected
    assert list(collected) == ["command", "git", "versions", "host"]
