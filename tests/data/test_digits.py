import json

import cv2
import numpy as np
import pytest

from detect.data import digits
from detect.data.digits import DIGIT_SHARES, NOTE, PHOTOGRAPHS, make_digits
from detect.data.validate import check
from detect.errors import ConfigError, DataError
from detect.geometry.boxes import iou

FEW = {"train": 12, "val": 3, "test": 6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(cache):
    return make_digits(cache, images=FEW)


def folder_of(data):
    return data.splits["train"][0].path.parent.parent


def test_what_is_made(data):
    assert data.classes == tuple("0123456789")
    assert {s: len(e) for s, e in data.splits.items()} == FEW
    assert data.notes[0] == NOTE and "synthetic placement" in NOTE
    assert "Synthetic placement" in (folder_of(data) / "README.txt").read_text()
    assert check(data, decode=True, ignore=["empty-class"]) == []


def test_every_picture_has_three_to_six_digits_with_little_overlap(data):
    for examples in data.splits.values():
        for e in examples:
            assert 3 <= len(e.boxes) <= 6
            assert 160 <= e.width <= 256 and 160 <= e.height <= 256
            assert (e.boxes >= 0).all() and (e.boxes <= [e.height, e.width] * 2).all()
            between = iou(e.boxes, e.boxes)[~np.eye(len(e.boxes), dtype=bool)]
            assert between.max() <= 0.02
            high = (e.boxes[:, 2] - e.boxes[:, 0]) / min(e.width, e.height)
            assert high.min() > 1 / 6 and high.max() < 0.55
    sizes = {(e.width, e.height) for e in data.splits["train"]}
    assert len(sizes) > 1  # not square: an exchange of the axes would be seen


def test_the_label_is_the_digit_in_the_box(data):
    """The ink of a box, found as what differs most from its surroundings, is like the digit that the json names."""
    shapes, labels = digits._digits()
    content = json.loads((folder_of(data) / "train.json").read_text())
    likeness = []
    for annotation in content["annotations"]:
        assert labels[annotation["digit"]] == annotation["category_id"] - 1
        image = cv2.imread(str(folder_of(data) / content["images"][annotation["image_id"] - 1]["file_name"]))
        x, y, w, h = annotation["bbox"]
        patch = image[y : y + h, x : x + w].astype(np.float32).reshape(-1, 3)
        room = (h - max(round(h / 1.12), 1)) // 2
        shape = cv2.resize(shapes[annotation["digit"]], (w - 2 * room, h - 2 * room))
        ink = np.pad(shape, room).ravel()
        likeness.append(max(abs(np.corrcoef(patch[:, c], ink)[0, 1]) for c in range(3)))
    assert np.median(likeness) > 0.7


def test_splits_share_no_digit_and_no_photograph(data):
    used = {
        s: {a["digit"] for a in json.loads((folder_of(data) / f"{s}.json").read_text())["annotations"]} for s in FEW
    }
    assert not used["train"] & used["test"] and not used["train"] & used["val"] and not used["val"] & used["test"]
    names = [n for titles in PHOTOGRAPHS.values() for n in titles]
    assert len(set(names)) == len(names)
    shares = {s: set(digits._share(digits._digits()[1], s, 0).tolist()) for s in DIGIT_SHARES}
    assert {s: len(rows) for s, rows in shares.items()} == {"train": 3500, "val": 500, "test": 1000}
    assert len(set.union(*shares.values())) == 5000


def test_the_second_time_it_is_read_from_the_cache(data, cache, monkeypatch):
    monkeypatch.setattr(digits, "_make", lambda *_: pytest.fail("made again"))
    assert make_digits(cache, images=FEW).fingerprint() == data.fingerprint()


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    again = make_digits(tmp_path, images=FEW)
    assert again.fingerprint() == data.fingerprint()
    for a, b in zip(again.splits["test"], data.splits["test"], strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_other_settings_get_another_folder(data, cache):
    other = make_digits(cache, images={"train": 2, "val": 1, "test": 1}, seed=1)
    assert folder_of(other) != folder_of(data)
    assert other.splits["train"][0].boxes.tolist() != data.splits["train"][0].boxes.tolist()


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(folder, *_):
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "_make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_digits(tmp_path, images=FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_named(tmp_path):
    data = make_digits(tmp_path, images={"train": 1, "val": 1, "test": 1})
    data.splits["train"][0].path.unlink()
    with pytest.raises(DataError, match=r"damaged: remove .*digits-\w+"):
        make_digits(tmp_path, images={"train": 1, "val": 1, "test": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": {"train": 5, "val": 5}}, "give train, val and test"),
        ({"images": {"train": 0, "val": 5, "test": 5}}, "each at least 1"),
        ({"sides": [256, 160]}, r"dataset\.sides=\[256, 160\]: give two numbers, the least and the most"),
        ({"sides": [16, 32]}, r"dataset\.sides=\[16, 32\]: .*at least 64 pixels"),
        ({"digits": [0, 3]}, r"dataset\.digits=\[0, 3\]: .*at least 1"),
        ({"height": [0.5, 1.2]}, "shares of the shorter side"),
        ({"height": [0.4, 0.5], "digits": [3, 9]}, r"dataset\.digits=\[3, 9\] and dataset\.height=\[0\.4, 0\.5\]"),
        ({"margin": 2}, "0 <= margin <= 0.5"),
        ({"overlap": 1}, "0 <= overlap < 1"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_digits(tmp_path, **settings)


def test_a_cache_that_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"dataset\.cache=.*file: can't write there"):
        make_digits(tmp_path / "file")
