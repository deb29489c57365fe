"""What all readers share: groups in a drawn split, joined folders, ids."""

import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from detect.data import similar
from detect.data.formats.join import read_join
from detect.data.formats.voc import read_voc
from detect.data.similar import DISTANCE, close_pairs, nearest_twins, similar_groups
from detect.errors import ConfigError, DataError

OBJECT = "<object><name>{}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"


def scene(seed: int) -> np.ndarray:
    """A smooth random picture of 64x48 pixels; pictures of other seeds do not look like it."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


def write(root: Path, stem: str, image: np.ndarray, name: str = "cat") -> None:
    path = root / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    path.with_suffix(".xml").write_text(f"<annotation>{OBJECT.format(name)}</annotation>")


def split_of(dataset) -> dict[str, str]:
    return {e.id: split for split, examples in dataset.splits.items() for e in examples}


@pytest.mark.parametrize(
    ("split_by", "group"),
    [
        ("folder", lambda i: i.rpartition("/")[0]),
        ("sequence", lambda i: i.rpartition("_")[0]),
        ("similar", lambda i: i.rpartition("/")[2]),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_in_one_split(tmp_path, split_by, group, seed):
    """Scenes 0..7, each in three folders with a little noise: near-duplicates across folders."""
    for folder in "abcdef":
        for number in range(8):
            noise = np.random.default_rng(number).normal(0, 2, (48, 64, 3))
            image = np.clip(scene(number) + noise * (ord(folder) - 96), 0, 255).astype(np.uint8)
            write(tmp_path, f"{folder}/walk{number % 2}_{number}", image)
    places = split_of(read_voc(tmp_path, split_by=split_by, split_seed=seed, val_fraction=0.2, test_fraction=0.2))
    groups: dict[str, set[str]] = {}
    for i, split in places.items():
        groups.setdefault(group(i), set()).add(split)
    assert all(len(splits) == 1 for splits in groups.values()) and {"train", "val", "test"} == set(places.values())


def test_images_of_one_group_can_not_be_split(tmp_path):
    for number in range(4):
        write(tmp_path, f"{number}", scene(number))
    with pytest.raises(ConfigError, match=r"dataset\.split_by=folder: all 4 images are in one group"):
        read_voc(tmp_path, split_by="folder")


def test_similar_images_are_those_that_show_the_same(tmp_path):
    images = [scene(k) for k in range(5)] + [cv2.resize(scene(1), (128, 96)), np.clip(scene(3) * 0.8 + 20, 0, 255)]
    paths = []
    for k, image in enumerate(images):
        paths.append(tmp_path / f"{k}.png")
        cv2.imwrite(str(paths[-1]), image.astype(np.uint8))
    (tmp_path / "broken.png").write_bytes(b"")
    assert similar_groups([*paths, tmp_path / "broken.png"]) == [0, 1, 2, 3, 4, 1, 3, 7]


def test_folders_are_joined_by_the_names_of_their_classes(tmp_path):
    for number in range(6):
        write(tmp_path / "one" / "train", f"{number}", scene(number), "cat")
        write(tmp_path / "two", f"{number}", scene(10 + number), "Cat" if number else "dog")
    write(tmp_path / "one" / "valid", "v", scene(99), "cat")
    data = read_join([tmp_path / "one", tmp_path / "two"], rename={"Cat": "cat"})
    assert data.classes == ("cat", "dog") and data.name == "one+two"
    places = split_of(data)
    assert places["one/valid/v"] == "val" and sum(i.startswith("two/") for i in places) == 6
    assert "train" in {split for i, split in places.items() if i.startswith("two/")}
    assert any(note.startswith("one: split: the folders' names") for note in data.notes)
    assert any(note.startswith("two: split: DRAWN") for note in data.notes)
    only = read_join([tmp_path / "one", tmp_path / "two"], classes=["dog"])
    assert only.classes == ("dog",) and sum(len(e.boxes) for part in only.splits.values() for e in part) == 1


def test_two_folders_of_one_name_keep_their_images_apart(tmp_path):
    for place in ("x", "y"):
        for number in range(3):
            write(tmp_path / place / "set", f"{number}", scene(number))
    data = read_join([tmp_path / "x/set", tmp_path / "y/set"])
    assert {i.partition("/")[0] for i in split_of(data)} == {"set", "set_2"}


@pytest.mark.parametrize(("roots", "message"), [([], "dataset.roots is empty"), (["/no/such"], "no such folder")])
def test_joining_nothing(roots, message):
    with pytest.raises((ConfigError, DataError), match=message):
        read_join(roots)


@pytest.mark.parametrize("seed", [0, 1])
def test_close_hashes_are_those_that_a_comparison_of_all_finds(seed):
    """Hashes of one original, which differ in up to 30 bits, among unrelated ones; the first two are equal."""
    rng = np.random.default_rng(seed)
    hashes = rng.random((60, 256)) < 0.5
    for k in range(30):
        hashes[k] = hashes[59]
        hashes[k, rng.permutation(256)[:k]] ^= True
    hashes[1] = hashes[0]
    apart = (hashes[:, None] != hashes).sum(axis=2)
    expected = [(i, k, apart[i, k]) for i in range(60) for k in range(i + 1, 60) if apart[i, k] <= DISTANCE]
    found = [pair for *parts, _ in close_pairs(hashes) for pair in zip(*map(np.ndarray.tolist, parts), strict=True)]
    assert sorted(found) == expected and len(expected) > 30  # each pair once
    assert list(close_pairs(hashes[:1])) == list(close_pairs(hashes[:0])) == []
    labels = np.arange(60) // 2
    pairs = [(i, k) for i, k, _ in expected if labels[i] != labels[k]]
    found = [pair for i, k, *_ in close_pairs(hashes, labels) for pair in zip(i.tolist(), k.tolist(), strict=True)]
    assert sorted(found) == pairs


def test_equal_images_need_no_memory_for_their_pairs():
    """A camera that stands still makes as many pairs as n * n / 2."""
    tracemalloc.start()
    count = sum(len(first) for first, *_ in close_pairs(np.zeros((1500, 256), bool)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1500 * 1499 // 2 and peak < 100e6


@pytest.mark.parametrize("seed", range(4))
def test_groups_and_twins_are_those_of_a_comparison_of_all(seed, monkeypatch):
    """Noisy copies of a few originals; some are equal."""
    rng = np.random.default_rng(seed)
    hashes = (rng.random((12, 256)) < 0.5)[rng.integers(0, 12, 90)] ^ (rng.random((90, 256)) < 0.02 * seed)
    hashes[rng.integers(0, 90, 20)] = hashes[rng.integers(0, 90, 20)]
    monkeypatch.setattr(similar, "fingerprints", lambda _: hashes)
    monkeypatch.setattr(similar, "MOST_PAIRS", 7)
    apart = (hashes[:, None] != hashes).sum(axis=2)
    near = apart <= DISTANCE
    reached = near.copy()
    for _ in range(90):
        reached = reached @ near
    assert similar_groups([]) == reached.argmax(axis=1).tolist()
    np.fill_diagonal(apart, 256)
    twins = {k: (int(row.argmin()), int(row.min())) for k, row in enumerate(apart) if row.min() <= DISTANCE}
    assert nearest_twins([]) == twins and (seed > 2 or len(twins) > 80)


@pytest.mark.parametrize("noise", [0, 0.02])
def test_a_camera_that_stands_still_takes_seconds(monkeypatch, noise):
    hashes = np.random.default_rng(0).random((5000, 256)) < noise
    monkeypatch.setattr(similar, "fingerprints", lambda _: hashes)
    started = time.perf_counter()
    assert set(similar_groups([])) == {0} and len(nearest_twins([])) == 5000
    assert time.perf_counter() - started < 60  # comparing each with each takes minutes
