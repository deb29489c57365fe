"""Completion in bash: the shell itself is asked what it would offer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detect.cli import completion

ASK = r"""
PATH="$1:$PATH"
eval "$(detect -sc install=bash)"
COMP_LINE="$2"; COMP_POINT=${#2}; COMP_WORDS=($2)
case "$2" in *" ") COMP_WORDS+=("");; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p detect | sed 's/.*-F \([^ ]*\) .*/\1/') detect
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("detect ex", ["export"]),
        ("detect export form", ["format="]),
        ("detect train backbone=mobilenet_v3_s", ["backbone=mobilenet_v3_small"]),
        ("detect train seed=1 schedule.warm", ["schedule.warmup="]),
        ("detect nothing sche", [""]),
    ],
)
def test_what_bash_offers(line, expected):
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(Path(sys.executable).parent), line], capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip("\n").split("\n") == expected, done.stderr


def test_the_path_of_the_program_may_hold_the_verb(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "/opt/train/detect train schedule.warm")
    assert completion.begin(["-sc", "query=bash"]) == ("train", ["-sc", "query=bash"])
    assert os.environ["COMP_LINE"] == "/opt/train/detect schedule.warm"
