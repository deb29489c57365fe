"""Entries of json files are those that `json.loads` gives, wherever a piece ends and however many are read at once."""

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.formats import json_lists
from detect.data.formats.json_lists import Irregular, entries

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def gathered(path):
    content = {}
    for key, place, value in entries(path, lambda name: math.nan):
        if place < 0:
            content[key] = value
        else:
            assert place == len(content[key])
            assert value
            content[key] += value
    return content


OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), VALUES | st.just([{"b": 1}, {}]), max_size=3), max_size=9)
CONTENT = st.dictionaries(st.text(), OBJECTS | VALUES, max_size=5)


@contextmanager
def pieces_of(block, together):
    before = json_lists.BLOCK, json_lists.TOGETHER
    json_lists.BLOCK, json_lists.TOGETHER = block, together
    try:
        yield
    finally:
        json_lists.BLOCK, json_lists.TOGETHER = before


@settings(max_examples=150)
@given(CONTENT, st.sampled_from([None, 1]), st.integers(1, 400), st.integers(2, 100), st.booleans())
def test_entries_are_those_of_json(tmp_path_factory, content, indent, block, together, plain):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=plain).encode("utf-8", "replace").decode())
    with pieces_of(block, together):
        try:
            assert gathered(path) == json.loads(path.read_text())
        except Irregular:  # a number at the end of a piece: the whole file is read instead
            assert any(isinstance(value, float) for value in content.values()) or "." in path.read_text()


@settings(max_examples=200)
@given(CONTENT, st.data())
def test_a_damaged_file_is_irregular_or_what_json_reads(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        new = data.draw(
            st.sampled_from(['"', "{", "}", "[", "]", ",", ":", "\\", " ", "0", "-", "e", "NaN", "\n", "", "},{"])
        )
        text = text[:place] + new + text[place + data.draw(st.integers(0, 2)) :]
    path.write_text(text, encoding="utf-8", newline="")
    with pieces_of(data.draw(st.integers(1, 400)), data.draw(st.integers(2, 200))):
        try:
            found = gathered(path)
        except Irregular:
            return
    assert repr(found) == repr(json.loads(text, parse_constant=lambda name: math.nan))  # nan differs from itself


def test_numbers_are_those_of_json(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64).view(np.float64)
    texts = [*map(repr, numbers[np.isfinite(numbers)].tolist()), "1e400", "-1e400", "1e-400", "-0", "-0.0", str(10**30)]
    path = tmp_path / "a.json"
    path.write_text('{"list": [' + ",".join(f'{{"a": {text}}}' for text in texts) + "]}")
    assert repr(gathered(path)) == repr(json.loads(path.read_text()))


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_a_key_that_comes_again_begins_again(tmp_path, monkeypatch, block):
    monkeypatch.setattr(json_lists, "BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text(' {"a" : [ {"b": [1, 2]} , {"b": []}], "c": null , "a": [3] } \n')
    assert gathered(path) == {"a": [3], "c": None}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "3",
            "{",
            '{"a": [1, 2',
            '{"a": [1,]}',
            '{"a": 1,}',
            "{1: 2}",
            '{"a" 1}',
            '{"a": 1} x',
            '{"a": [1 2]}',
        ),
        *("\ufeff{}", '{"a": ' + "[" * 100_000, '{"a": nan}', '{"a": [' + "{" * 3),
    ],
)
def test_what_is_no_object_is_irregular(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(Irregular):
        gathered(path)


@pytest.mark.parametrize("content", [b'{"a": "\xe9"}', '{"a": 1}'.encode("utf-16")], ids=["Latin-1", "UTF-16"])
def test_other_encodings_are_irregular(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(Irregular):
        gathered(path)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_objects_that_hold_objects_are_read_together(tmp_path, separators):
    masks = [{"id": k, "segmentation": {"counts": [1, 2], "size": [3, 4]}, "area": k} for k in range(500)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": masks}, separators=separators))
    groups = [value for _, place, value in entries(path, lambda name: math.nan) if place >= 0]
    assert [entry for group in groups for entry in group] == masks and len(groups) < 10
