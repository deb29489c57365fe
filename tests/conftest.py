"""Fixtures shared by all tests: where the optional real data lies, and quiet, repeatable libraries."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights that DETECT_SHARED names; without it, the test is skipped."""
    named = os.environ.get("DETECT_SHARED")
    if not named:
        pytest.skip("needs real data and weights: set DETECT_SHARED to their folder")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.fail(f"DETECT_SHARED={named} is not a folder")
    return folder
