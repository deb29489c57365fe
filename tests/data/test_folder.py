"""Which split a path speaks for, and which files nobody used."""

import os
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from detect.data import folder
from detect.data.folder import (
    find_files,
    find_images,
    folders_of,
    leftovers,
    split_folders,
    split_of_file,
    splits_of,
    splits_of_folders,
    telling,
    told_by,
)
from detect.data.formats.auto import read_auto
from detect.data.formats.yolo_paths import at
from detect.data.notes import Notes


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["task 1, test project/a.json", "task 2/a.json"], [None, None]),
        (["my test of cats/a.csv"], [None]),
        (["my test job 1/a.xml", "my test job 2/a.xml"], [None, None]),
        (["cats_val/a.json", "cats_test/a.json"], ["val", "test"]),
        (["cats_train/a.json"], ["train"]),
        (["dev_2024/a.json"], [None]),
        (["dev/a.json"], [None]),
        (["dev/a.json", "train/a.json"], ["val", "train"]),
        (["dev/a.json", "test/a.json"], ["val", "test"]),
        (["test/dev/a.json"], ["test"]),
        (["test/a.csv", "other/a.csv"], ["test", None]),
        (["test_images/a.csv"], ["test"]),
        (["cats_train/a.json", "cats_test/a.json"], ["train", "test"]),
        (["a/instances_val2017.json", "a/instances_train2017.json"], ["val", "train"]),
        (["my test of cats.csv"], ["test"]),
        (["eval_board/default.json", "train/default.json"], ["val", "train"]),
    ],
)
def test_words_of_folders_count_where_one_names_train(paths, splits):
    assert list(splits_of(map(Path, paths)).values()) == splits


@pytest.mark.parametrize(
    ("places", "splits"),
    [
        (["dev_2024", "photos"], [None, None]),
        (["dev", "train"], ["val", "train"]),
        (["dev", "test"], ["val", "test"]),
        (["val", "photos"], ["val", None]),
    ],
)
def test_a_folder_dev_is_val_beside_another_split(places, splits):
    assert list(splits_of_folders((name,) for name in places).values()) == splits


@pytest.mark.parametrize(
    ("path", "split"),
    [("dev/labels.csv", None), ("dev/val.csv", "val"), ("test/a.csv", "test"), ("my test/a.csv", None)],
)
def test_the_folder_of_a_named_file(tmp_path, path, split):
    assert split_of_file(tmp_path / "x" / path) == split


def test_a_note_names_the_part_of_a_path_that_tells_the_split(tmp_path):
    assert told_by("test", tmp_path / "my test/a/b.json", tmp_path) == "my test/a/b.json"
    assert told_by("test", tmp_path / "a/my test.json", tmp_path) == "my test.json"
    assert told_by("val", tmp_path / "valid/b.json", tmp_path / "valid") == "valid/b.json"
    assert told_by("train", tmp_path / "train/b.json", tmp_path) == "b.json"


def test_a_folder_beside_train_needs_files_that_count(tmp_path):
    """Pictures of results have no annotations; those of a folder that is called test by itself need none."""
    for name in ("train/a.jpg", "train/a.txt", "test_results/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    labels = partial(find_files, suffixes={".txt"})
    told = telling(split_folders(tmp_path), tmp_path, find_images, labels)
    assert told == {"train": tmp_path / "train"}
    (tmp_path / "test_results").rename(tmp_path / "test")
    told = telling(split_folders(tmp_path), tmp_path, find_images, labels)
    assert told == {"train": tmp_path / "train", "test": tmp_path / "test"}


@pytest.mark.parametrize("used", ["images/A.JPG", "Images/a.jpg", "./images//A.JPG"])
def test_a_file_that_is_used_by_another_spelling_is_used(tmp_path, monkeypatch, used):
    """A file system that takes both letter cases for one; here both names lead to one file, and one is listed."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").touch()
    (tmp_path / "images/b.jpg").touch()
    listed = folder.listing(str(tmp_path), True)
    (tmp_path / "Images").symlink_to(tmp_path / "images")
    (tmp_path / "images/A.JPG").hardlink_to(tmp_path / "images/a.jpg")
    monkeypatch.setattr(folder, "listing", lambda *_: listed)
    notes = Notes()
    leftovers(tmp_path, [[f"{tmp_path}/{used}"]], notes)
    assert notes.lines() == ("not used, pictures: 1 (images/b.jpg)",)


def test_a_link_to_itself_is_no_folder(tmp_path):
    for name in ("loop", "train"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "a.txt").touch()
    assert find_files(tmp_path, {".txt"}) == [tmp_path / "a.txt"] and folders_of("train", tmp_path) == []


SERVICE = (
    "__MACOSX", "@eaDir", "@Recycle", "#recycle", "lost+found", "$RECYCLE.BIN", "$Recycle.Bin",
    "System Volume Information", "RECYCLER",
)  # fmt: skip


@pytest.mark.parametrize("name", [*SERVICE, ".cache"])
def test_folders_of_operating_systems_are_no_data(tmp_path, name, monkeypatch):
    """They may be closed to the user, as `lost+found` of a mount point is; root may read all."""
    for place in (tmp_path, tmp_path / "set"):
        (place / name).mkdir(parents=True)
        (place / name / "$RABC.jpg").touch()
    (tmp_path / "set/a.jpg").touch()
    scandir = os.scandir

    def closed(folder):
        if Path(folder).name == name:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    assert find_images(tmp_path) == [tmp_path / "set/a.jpg"]
    assert at(tmp_path, Path("set/*")) == [tmp_path / "set/a.jpg"]
    notes = Notes()
    leftovers(tmp_path, [[tmp_path / "set/a.jpg"]], notes)
    assert notes.lines() == ()


@pytest.mark.parametrize("name", SERVICE)
def test_beside_folders_of_operating_systems_the_data_are_found(tmp_path, name):
    """A recycle bin beside a classes.txt is no background, and a folder of an archive is still the only one."""
    for place in ("set/0.jpg", "set/1.jpg", f"set/{name}/S-1/$RABC.jpg", f"{name}/x.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (len(place), 0, 0)).save(tmp_path / place)
    (tmp_path / "set/0.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "set/classes.txt").write_text("cat\n")
    (tmp_path / "Thumbs.db").touch()
    data = read_auto(tmp_path, val_fraction=0, test_fraction=0)
    assert [e.id for e in data.splits["train"]] == ["0.jpg", "1.jpg"]


def test_files_that_differ_in_letter_case_are_two(tmp_path):
    for name in ("a.jpg", "A.jpg"):
        (tmp_path / name).touch()
    notes = Notes()
    leftovers(tmp_path, [[tmp_path / "A.jpg"]], notes)
    assert notes.lines() == ("not used, pictures: 1 (a.jpg)",)
