"""Facts of image files are remembered while the files do not change."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data import remembered
from detect.data.remembered import facts_of


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.setenv("DETECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "MANY", 3)
    paths = [tmp_path / "data" / f"{k}.png" for k in range(4)]
    paths[0].parent.mkdir()
    for k, path in enumerate(paths):
        Image.fromarray(np.full((10 + k, 20, 3), 9 * k, np.uint8)).save(path)
    return paths


@pytest.fixture
def examined(monkeypatch) -> list[str]:
    """Names of the files that are decoded."""
    seen: list[str] = []
    original = remembered.examine
    monkeypatch.setattr(remembered, "examine", lambda path: (seen.append(path.name), original(path))[1])
    return seen


def test_unchanged_files_are_not_decoded_again(pictures, examined):
    first = facts_of(pictures, decode=True)
    assert [f.size for f in first] == [(20, 10 + k) for k in range(4)] and len(examined) == 4
    assert facts_of(pictures, decode=True) == first and len(examined) == 4
    assert [f.size for f in facts_of(pictures)] == [f.size for f in first]
    pictures[2].write_bytes(b"no image")
    again = facts_of(pictures, decode=True)
    assert examined[4:] == ["2.png"] and "not an image" in again[2].reason
    assert again[:2] + again[3:] == first[:2] + first[3:]


def test_a_file_that_could_not_be_read_is_looked_at_again(pictures, examined, monkeypatch):
    """What went wrong may be over, and nothing of the file has changed: a disk of the network, its rights, memory."""
    seen = remembered.examine
    monkeypatch.setattr(remembered, "examine", lambda path: ("can't read it", 8) if path == pictures[1] else seen(path))
    assert facts_of(pictures, decode=True)[1].reason == "can't read it"
    monkeypatch.setattr(remembered, "examine", seen)
    assert [facts.reason for facts in facts_of(pictures, decode=True)] == [None] * 4
    assert examined[3:] == ["1.png"]


def test_headers_alone_do_not_count_as_decoded(pictures, examined):
    facts_of(pictures)
    assert not examined
    facts_of(pictures, decode=True)
    assert len(examined) == 4


def test_another_decoder_looks_again(pictures, examined, monkeypatch):
    facts_of(pictures, decode=True)
    monkeypatch.setattr(remembered, "_DECODER", "another")
    facts_of(pictures, decode=True)
    assert len(examined) == 8


@pytest.mark.parametrize("damage", ["text", "folder", "table"])
def test_a_cache_that_can_not_be_used_costs_only_time(pictures, examined, tmp_path, damage):
    place = tmp_path / "cache" / remembered.DATABASE
    place.parent.mkdir()
    if damage == "folder":
        place.mkdir()
    else:
        place.write_bytes(b"no database" * 100 if damage == "text" else b"")
    if damage == "table":
        import sqlite3

        with sqlite3.connect(place) as database:
            database.execute("CREATE TABLE checks (folder TEXT)")
    assert [f.size for f in facts_of(pictures, decode=True)] == [(20, 10 + k) for k in range(4)]
    facts_of(pictures, decode=True)
    assert len(examined) == 8


def test_the_cache_is_outside_of_the_data(pictures, tmp_path):
    before = sorted(pictures[0].parent.iterdir())
    facts_of(pictures, decode=True)
    assert sorted(pictures[0].parent.iterdir()) == before and (tmp_path / "cache" / remembered.DATABASE).exists()
