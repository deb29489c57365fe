"""Splits in arrays are sequences of the same examples."""

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from detect.data.examples import CropExample, Crops, Example, Examples, Texts
from detect.errors import DataError

LISTED = [
    Example(
        Path("a.jpg"), 20, 10, [[1, 2, 3, 4], [0, 0, 5, 5]], [2, 1], [False, True], "a", Path("x.json"), (20, 10), 7
    ),
    Example(Path("é/\udcff.png"), 5, 6, [], [], [], "é\udcff", None, None, 9),
    Example(Path("c.jpg"), 7, 8, [[1, 1, 2, 2]], [3], [False], "c", Path("y.json"), None, 8),
]
MEASURED = [replace(e, areas=np.arange(len(e.boxes)) + 0.5) for e in LISTED]


def plain(example: Example) -> list[object]:
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in astuple(example)]


@pytest.mark.parametrize("listed", [LISTED, MEASURED], ids=["no areas", "areas"])
def test_a_split_gives_back_the_examples(listed):
    split = Examples.of(listed)
    assert [plain(e) for e in split] == [plain(e) for e in listed]
    assert [plain(split[k]) for k in (0, 1, -1)] == [plain(e) for e in listed]
    assert (len(split), split.counts.tolist(), split.owners.tolist()) == (3, [2, 0, 1], [0, 0, 2])
    assert split.box_sizes().tolist() == [[20, 10], [20, 10], [7, 8]]
    assert Examples.of(split) is split
    assert type(split[0].source_id) is int and type(split[0].width) is int


@pytest.mark.parametrize("places", [slice(1, None), slice(None, None, -1), slice(0, 0)])
@pytest.mark.parametrize("listed", [LISTED, MEASURED], ids=["no areas", "areas"])
def test_a_part_of_a_split(places, listed):
    assert [plain(e) for e in Examples.of(listed)[places]] == [plain(e) for e in listed[places]]


def test_places_outside_of_a_split():
    for sequence in (Examples.of(LISTED), Texts.of("abc"), Crops.of([CropExample(Path("a"), 1, None, "a")])):
        for place in (len(sequence), -len(sequence) - 1):
            with pytest.raises(IndexError):
                sequence[place]


def test_what_a_split_gives_is_read_only():
    example = Examples.of(LISTED)[0]
    for array in (example.boxes, example.classes, example.crowd):
        with pytest.raises(ValueError):
            array[0] = 0


@pytest.mark.parametrize(
    "ids", [[None, None], [1, None], ["a", 5], [1 << 70, 2], [True, 3]], ids=["none", "some", "text", "huge", "flag"]
)
def test_ids_of_any_kind_stay_as_they_are(ids):
    given = [Example(Path("a"), 1, 1, [], [], [], str(k), source_id=i) for k, i in enumerate(ids)]
    found = [example.source_id for example in Examples.of(given)]
    assert found == ids and list(map(type, found)) == list(map(type, ids))


def test_other_boxes_for_the_same_images():
    split = Examples.of(LISTED)
    moved = split.with_boxes(split.boxes + 1, np.array([False, True, True]))
    assert [e.boxes.tolist() for e in moved] == [[[1, 1, 6, 6]], [], [[2, 2, 3, 3]]]
    assert [e.classes.tolist() for e in moved] == [[1], [], [3]] and moved[0].crowd.tolist() == [True]


def test_areas_belong_to_their_boxes():
    split = Examples.of([MEASURED[0], LISTED[2]])
    assert split.areas[:2].tolist() == [0.5, 1.5] and np.isnan(split.areas[2])
    assert split.with_boxes(split.boxes, np.array([False, True, True]))[0].areas.tolist() == [1.5]
    with pytest.raises(DataError, match=r"a\.jpg: 2 boxes, but 1 areas"):
        replace(LISTED[0], areas=[1.0])


def test_crops_give_back_the_pictures():
    box = np.array([1, 2, 3, 4.5], np.float32)
    listed = [
        CropExample(Path("a"), 1, None, "a"),
        CropExample(Path("a"), 0, box, "a#1"),
        CropExample(Path("b"), 2, box, "b"),
    ]
    crops = Crops.of(listed)
    assert [(c.path, c.label, c.id) for c in crops] == [(c.path, c.label, c.id) for c in listed]
    assert crops[0].box is None and crops[1].box.tolist() == box.tolist() and list(crops.paths) == ["a", "b"]
    assert [c.id for c in crops[1:]] == ["a#1", "b"]
