"""Crops for stage 1: from the right split, around the object, background free of objects."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.crops import context_box, crop_dataset
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.subset import share
from detect.errors import ConfigError, DataError
from detect.geometry.boxes import intersection


def example(name, boxes, classes=None, crowd=None, size=(200, 100)):
    n = len(boxes)
    return Example(
        Path(f"{name}.jpg"),
        *size,
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(classes or [1] * n),
        np.array(crowd or [False] * n),
        name,
    )


def dataset(train, val=(), test=()):
    return DetectionDataset("toy", ("cat", "dog"), {"train": tuple(train), "val": tuple(val), "test": tuple(test)})


def test_margin_and_square_by_hand():
    box = np.array([40, 50, 60, 90], np.float32)  # 20 high, 40 wide
    np.testing.assert_allclose(context_box(box, 100, 200, 0.0, False), box)
    np.testing.assert_allclose(context_box(box, 100, 200, 0.25, False), [35, 40, 65, 100])
    np.testing.assert_allclose(context_box(box, 100, 200, 0.0, True), [30, 50, 70, 90])
    moved, cut = np.array([0, 0, 10, 40]), np.array([0, 0, 30, 200])
    np.testing.assert_allclose(context_box(moved, 100, 200, 0.0, True), [0, 0, 40, 40])
    np.testing.assert_allclose(context_box(cut, 100, 200, 0.0, True), [0, 0, 100, 200])


def test_labels_ids_and_what_is_left_out():
    e = example(
        "a",
        [[10, 10, 50, 50], [20, 60, 60, 99], [0, 0, 4, 30], [60, 100, 90, 140]],
        [1, 2, 1, 2],
        [False, False, False, True],
    )
    crops = crop_dataset(dataset([e]), background_per_image=0, min_size=8)
    assert crops.classes == ("background", "cat", "dog")
    assert [(c.label, c.id) for c in crops.splits["train"]] == [(1, "a#0"), (2, "a#1")]
    assert len(crops.notes) == 1 and crops.notes[0].startswith("train: 1 objects below 8 px")


def test_only_training_images_feed_the_train_split():
    train, val = example("t", [[10, 10, 30, 30]]), example("v", [[40, 40, 80, 80]])
    test = example("u", [[5, 5, 50, 50]])
    data = dataset([train], [val], [test])
    crops = crop_dataset(data, background_per_image=2)
    for split, name in (("train", "t"), ("val", "v"), ("test", "u")):
        assert {c.path for c in crops.splits[split]} == {Path(f"{name}.jpg")}
        assert {c.label for c in crops.splits[split]} == {0, 1}
    without = crop_dataset(dataset([train]), background_per_image=2)
    pairs = zip(without.splits["train"], crops.splits["train"], strict=True)
    assert all(np.array_equal(a.box, b.box) for a, b in pairs)  # nor do the others decide sizes or places


spot = st.tuples(st.integers(0, 70), st.integers(0, 150), st.integers(3, 30), st.integers(3, 50))


@given(spots=st.lists(spot, min_size=1, max_size=8), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_background_touches_nothing(spots, seed):
    boxes = np.array([[y, x, y + h, x + w] for y, x, h, w in spots], np.float32)
    crowd = [False] + [i % 2 == 1 for i in range(1, len(spots))]
    e = example("a", boxes, crowd=crowd)
    crops = crop_dataset(dataset([e, example("empty", [])]), background_per_image=3, min_size=1, seed=seed)
    background = [c for c in crops.splits["train"] if c.label == 0]
    assert sum(c.path.stem == "empty" for c in background) == 3
    for crop in background:
        assert np.all(crop.box >= 0) and np.all(crop.box[2:] <= (100, 200)) and np.all(crop.box[2:] > crop.box[:2])
        if crop.path.stem == "a":
            assert intersection(crop.box, boxes).max() == 0


def test_full_image_gives_no_background_and_says_so():
    crops = crop_dataset(dataset([example("a", [[0, 0, 100, 200]])]), background_per_image=1)
    assert [c.label for c in crops.splits["train"]] == [1]
    assert len(crops.notes) == 1 and "0 of 1 background crops" in crops.notes[0]


def test_deterministic_in_the_seed():
    data = dataset([example(f"i{k}", [[10, 10, 30, 40]]) for k in range(5)])
    assert crop_dataset(data, seed=3).fingerprint() == crop_dataset(data, seed=3).fingerprint()
    assert crop_dataset(data, seed=3).fingerprint() != crop_dataset(data, seed=4).fingerprint()
    fractional = crop_dataset(data, background_per_image=0.5).splits["train"]
    assert 0 < sum(c.label == 0 for c in fractional) < 5


def test_a_file_name_that_is_no_text_has_crops_and_is_drawn():
    data = dataset([example(name, [[10, 10, 30, 40]]) for name in ("half\udc80", "whole")])
    assert [c.label for c in crop_dataset(data, background_per_image=1).splits["train"]].count(0) == 2
    assert len(share(data.splits["train"], 0.5, seed=0)) == 1


def test_messages():
    data = dataset([example("a", [[10, 10, 12, 12]])])
    with pytest.raises(DataError, match=r"train split.* 8 px.*classify\.dataset\.min_size.*classify\.enabled=false"):
        crop_dataset(data)
    with pytest.raises(ConfigError, match=r"classify\.dataset\.margin=-1: .*0 or more"):
        crop_dataset(data, margin=-1)
