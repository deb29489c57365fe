"""The lock file, the wheel, the Makefile and the script of the continuous integration."""

import re
import stat
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from detect.config import check

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
TARGETS = ["help", "install", "demo", "test", "test-slow", "lint", "fuzz", "docs", "bench", "lock", "clean"]


def locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.rstrip(" \\"))
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_lock_pins_everything_with_hashes():
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)[1:]
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+( ;[^\\]+)? \\\n", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_lock_bears_no_path_of_a_machine():
    assert "make lock" in LOCK.splitlines()[1]
    assert re.findall(r"(?m)(?:^|\s)(?:file:|/)\S+", LOCK) == []


EXTRAS = PROJECT["project"]["optional-dependencies"]
ASKED = [*PROJECT["project"]["dependencies"], *EXTRAS["sweep"], *EXTRAS["dev"], *EXTRAS["docs"]]


@pytest.mark.parametrize("text", ASKED)
def test_lock_satisfies_what_the_package_asks_for(text):
    wanted = Requirement(text)
    versions = [str(r.specifier).removeprefix("==") for r in locked().get(canonicalize_name(wanted.name), [])]
    assert versions, f"{wanted.name} is not locked: make lock"
    assert all(wanted.specifier.contains(version) for version in versions)


def test_lock_holds_no_release_that_pip_would_refuse():
    (strenum,) = locked()["backports-strenum"]
    assert str(strenum.specifier) == "==1.2.8", "1.3 says that it is for Python before 3.11"


def test_build_backend_is_locked():
    for text in PROJECT["build-system"]["requires"]:
        assert canonicalize_name(Requirement(text).name) in locked()


def test_licence_and_entry_point():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["scripts"] == {"detect": "detect.cli.main:main"}


def test_wheel_carries_package_configs_and_what_the_studies_found(tmp_path, monkeypatch):
    build = pytest.importorskip("hatchling.build", reason="hatchling, which builds the wheel, is not installed")
    monkeypatch.chdir(ROOT)
    name = build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        names = set(wheel.namelist())
    for file in check.CONFIG_DIR.rglob("*.yaml"):
        assert f"detect/configs/{file.relative_to(check.CONFIG_DIR).as_posix()}" in names
    for file in (ROOT / "detect").rglob("*.py"):
        assert file.relative_to(ROOT).as_posix() in names
    for file in (ROOT / "experiments").glob("*/results.csv"):
        assert f"detect/experiments/{file.relative_to(ROOT / 'experiments').as_posix()}" in names
    assert {Path(name).suffix for name in names if name.startswith("detect/experiments/")} == {".csv"}
    outside = {name.split("/")[0] for name in names}
    assert outside == {"detect", "tf_detect-0.2.0.dist-info", "tf_detect-0.2.0.data"}
    assert any(name.endswith("share/detect/requirements.lock") for name in names)


def test_source_distribution_carries_what_its_tests_read(tmp_path, monkeypatch):
    build = pytest.importorskip("hatchling.build", reason="hatchling, which builds it, is not installed")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "pyproject.toml", "requirements.lock", "detect/api.py", "tests/conftest.py"} <= names
    assert ".ci/run" in names


def test_make_help_lists_the_targets():
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert set(TARGETS) <= set(listed)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_make_refuses_another_python(tmp_path):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(ROOT), f"PYTHON={python}", f"VENV={tmp_path}/venv", "install"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"Python 3.11, 3.12 or 3.13 is needed, {python} is Python 3.9.2; give PYTHON=PATH" in done.stderr


def test_ci_script_is_executable_bash():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "set -euo pipefail" in text and "make test" in text and "DETECT_SHARED" in text
