from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.split import SPLITS, draw_splits, sequence_name
from detect.errors import ConfigError


def draw(labels, val=0.15, test=0.15, seed=0, groups=None):
    return draw_splits(labels, {"val": val, "test": test}, seed, groups)


LABELS = st.lists(st.lists(st.integers(1, 6), max_size=4), max_size=60)


@settings(max_examples=100)
@given(LABELS, st.integers(0, 1000), st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_every_image_is_drawn_once_and_every_class_is_trained(rows, seed, val, test):
    labels = {f"{i:03d}": row for i, row in enumerate(rows)}
    parts = draw(labels, val, test, seed)
    assert sorted(i for ids in parts.values() for i in ids) == sorted(labels)
    assert draw(dict(reversed(labels.items())), val, test, seed) == parts
    counts = Counter(kind for row in labels.values() for kind in set(row))
    for kind, count in counts.items():
        here = {s: sum(kind in labels[i] for i in parts[s]) for s in SPLITS}
        assert here["train"] >= min(2, count)


@settings(max_examples=50)
@given(st.integers(40, 90), st.integers(0, 100), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_sizes_are_the_fractions(count, seed, val, test):
    parts = draw({f"{i:03d}": [1] for i in range(count)}, val, test, seed)
    assert abs(len(parts["val"]) - count * val) <= 1 and abs(len(parts["test"]) - count * test) <= 1


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (2, 0, 0)), (3, (2, 1, 0)), (4, (2, 1, 1)), (20, (14, 3, 3))],
)
def test_train_has_two_of_a_class_before_val_and_test_have_one(count, expected):
    parts = draw({str(i): [1] for i in range(count)})
    assert tuple(len(parts[s]) for s in SPLITS) == expected


def test_rare_classes_are_spread_for_every_seed():
    """17 images of one class, four of which also have a rare one."""
    labels = {f"{i:02d}": [1, 2] if i < 4 else [1] for i in range(17)}
    drawn = set()
    for seed in range(20):
        parts = draw(labels, seed=seed)
        assert {s: sum(2 in labels[i] for i in parts[s]) for s in SPLITS} == {"train": 2, "val": 1, "test": 1}
        drawn.add(tuple(parts["val"]))
    assert len(drawn) > 5


def test_groups_are_spread_in_proportion():
    labels = {f"{i:03d}": [1] if i < 90 else [2] for i in range(100)}
    parts = draw(labels, 0.2, 0.2, 3)
    assert {s: sum(i >= "090" for i in part) for s, part in parts.items()} == {"train": 6, "val": 2, "test": 2}


@settings(max_examples=50)
@given(LABELS, st.integers(1, 9), st.integers(0, 99))
def test_groups_stay_together(rows, size, seed):
    labels = {f"{i:03d}": row for i, row in enumerate(rows)}
    groups = {i: int(i) // size for i in labels}
    parts = draw(labels, seed=seed, groups=groups)
    places = {groups[i]: split for split, ids in parts.items() for i in ids}
    assert all(places[groups[i]] == split for split, ids in parts.items() for i in ids)


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0), (0, 1.5)])
def test_fractions_out_of_range(val, test):
    with pytest.raises(ConfigError, match=r"dataset\.val_fraction=.*sum .*below 1"):
        draw({"a": []}, val, test)


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("a/walk_0012.jpg", "a/walk"),
        ("a/frame12.png", "a/"),
        ("walk-frame-3.jpg", "walk"),
        ("cat (7).jpg", "cat"),
        ("dog_jpg.rf.0a1b2c.jpg", "dog"),
        ("dog_12_jpg.rf.ffee", "dog"),
        ("portrait.jpg", "portrait"),
    ],
)
def test_names_of_sequences(name, sequence):
    assert sequence_name(name) == sequence
