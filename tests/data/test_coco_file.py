"""Annotations that `CocoFile` takes at once are those that it takes one by one, with the same errors."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.formats.coco_file import CocoFile
from detect.data.notes import Notes
from detect.errors import DataError

SIDES = st.integers(0, 50) | st.floats(0, 50)
ODD_SIDES = st.sampled_from(["3", "x", None, True, -1, 2**60, 10**400, math.nan, math.inf, 1e9, 1e10, [], "1_0"])
FLAGS = st.sampled_from([0, 1])
ODD_FLAGS = st.sampled_from([None, True, False, 0.0, 1.0, "0", "1", "true", "", 2, -1, [], {}, "x"])
AREAS = st.integers(0, 50) | st.floats(0, 50)
ODD_AREAS = st.sampled_from(["3", "x", None, True, -1, 2**60, 10**400, math.nan, math.inf, [], 0, 1e9])
IDS = st.sampled_from([1, 2, 3])
ODD_IDS = st.sampled_from(["1", "2", 1.0, True, None, 4, "x", [1], 2.5])


def one_of(usual, odd):
    """Nine of ten are usual, so that a group of them is plain now and then."""
    return st.integers(0, 9).flatmap(lambda k: usual if k else odd)


PLAIN = st.fixed_dictionaries(
    {"image_id": IDS, "category_id": IDS, "bbox": st.lists(SIDES, min_size=4, max_size=4)},
    optional={
        "iscrowd": FLAGS,
        "ignore": FLAGS,
        "area": AREAS,
        "attributes": st.just({"occluded": False, "rotation": 0.0}),
    },
)
ANY = st.fixed_dictionaries(
    {"image_id": one_of(IDS, ODD_IDS), "category_id": one_of(IDS, ODD_IDS)},
    optional={
        "bbox": one_of(
            st.lists(one_of(SIDES, ODD_SIDES), min_size=4, max_size=4),
            st.sampled_from([[], None, "abcd", {}, 4]) | st.lists(SIDES, max_size=6),
        ),
        "iscrowd": one_of(FLAGS, ODD_FLAGS),
        "ignore": one_of(FLAGS, ODD_FLAGS),
        "segmentation": st.sampled_from([[[1, 2, 5, 2, 5, 9]], [], [[]], None]),
        "area": one_of(AREAS, ODD_AREAS),
        "attributes": st.sampled_from(
            [None, {}, [], {"rotation": 90}, {"rotation": "x"}, {"occluded": True}, {"ignore": 1}]
        ),
    },
) | st.sampled_from([None, 3, [], {"image_id": 1}])


class OneByOne(CocoFile):
    def _plain(self, entries):
        return False


def read(kind, groups):
    """The arrays of a file with the groups as its annotations, or the message of the error."""
    numbered = [{"id": k, "name": f"n{k}", "file_name": f"{k}.jpg"} for k in (1, 2, 3)]
    values = [(key, -1, []) for key in ("images", "categories", "annotations")]
    values[1:1] = [("images", 0, numbered)]
    values[3:3] = [("categories", 0, numbered)]
    place = 0
    for group in groups:
        values.append(("annotations", place, group))
        place += len(group)
    try:
        file = kind(Path("a.json"), values, Notes())
        owners = file._places("image_id", file.image_codes, file.images)
    except DataError as error:
        return str(error)
    arrays = owners.tolist(), file.kinds.tolist(), file.corners.tolist(), list(file.crowd), file.areas.tolist()
    return *arrays, file.boxes, file.notes.lines()


@settings(max_examples=300)
@given(st.lists(st.lists(PLAIN, min_size=1, max_size=5) | st.lists(ANY, min_size=1, max_size=5), max_size=4))
def test_a_group_is_read_as_each_of_its_entries(groups):
    assert repr(read(CocoFile, groups)) == repr(read(OneByOne, groups))


@pytest.mark.parametrize("flags", [{}, {"iscrowd": 1}, {"ignore": 1}])
@pytest.mark.parametrize("area", [{}, {"area": 7.5}, {"area": 8}])
def test_plain_annotations_are_taken_at_once(flags, area, monkeypatch):
    entry = {"image_id": 2, "category_id": 3, "bbox": [1, 2, 3.5, 4], **flags, **area}
    taken = CocoFile._entry
    monkeypatch.setattr(CocoFile, "_entry", lambda self, key, *rest: key != "annotations" and taken(self, key, *rest))
    owners, kinds, corners, crowd, areas, _, _ = read(CocoFile, [[entry, entry]])
    assert (owners, kinds, corners) == ([1, 1], [2, 2], [2.0, 1.0, 6.0, 4.5] * 2)
    assert crowd == [int(bool(flags))] * 2
    assert repr(areas) == repr([float(area.get("area", math.nan))] * 2)
