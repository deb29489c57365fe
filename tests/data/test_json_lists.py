"""Entries of json files, read piece by piece, are those that `json.loads` gives, wherever a piece ends."""

import json
import math

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
            content[key].append(value)
    return content


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from([None, 1]), st.integers(1, 40), st.booleans())
def test_entries_are_those_of_json(tmp_path_factory, content, indent, block, plain):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=plain).encode("utf-8", "replace").decode())
    before, json_lists.BLOCK = json_lists.BLOCK, block
    try:
        assert gathered(path) == json.loads(path.read_text())
    except Irregular:  # a number at the end of a piece: the whole file is read instead
        assert any(isinstance(value, float) for value in content.values()) or "." in path.read_text()
    finally:
        json_lists.BLOCK = before


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
