import pytest

from detect.data.image_folder import read_image_folder
from detect.errors import DataError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_of_splits(tmp_path):
    write(tmp_path, "train/dog/1.jpg", "train/cat/deep/2.png", "valid/dog/1.jpg", "test/cat/4.jpg", "train/notes.txt")
    data = read_image_folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [(e.id, e.label, e.box) for e in data.splits["train"]] == [
        ("train/cat/deep/2.png", 0, None), ("train/dog/1.jpg", 1, None)
    ]  # fmt: skip
    assert [(e.id, e.label) for e in data.splits["val"]] == [("valid/dog/1.jpg", 1)]
    assert [(e.path, e.label) for e in data.splits["test"]] == [(tmp_path / "test/cat/4.jpg", 0)]
    assert data.notes == (
        "classes: the folders' names, sorted",
        "split: folders train, valid, test",
        "not used, .txt files: 1 (train/notes.txt)",
    )


def test_what_is_left_out_is_noted(tmp_path):
    write(tmp_path, "train/dog/1.jpg", "train/cow/1.heic", "train/2.jpg", "val/dog/3.jpg")
    (tmp_path / "train/cat").mkdir()
    data = read_image_folder(tmp_path)
    assert data.classes == ("dog",)
    assert data.notes[2:] == (
        "left out, folders without pictures that are read: 2 (cat, cow)",
        "not used, .heic pictures, a format that is not read (save them as PNG or JPEG): 1 (train/cow/1.heic)",
        "not used, pictures: 1 (train/2.jpg)",
    )


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "#recycle"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_folders_of_operating_systems_are_no_classes(tmp_path, name, split):
    write(tmp_path, f"{split}cat/1.jpg", f"{split}dog/1.jpg", f"{split}{name}/1.jpg/SYNOPHOTO_THUMB_M.jpg")
    write(tmp_path, f"{split}cat/{name}/2.jpg", "test/cat/3.jpg", f"test/{name}/4.jpg")
    data = read_image_folder(tmp_path, val_fraction=0)
    assert data.classes == ("cat", "dog")
    assert [e.id for e in data.splits["test"]] == ["test/cat/3.jpg"]
    assert len(data.splits["train"]) == 2 and len(data.notes) == 2


def test_a_folder_of_val_without_folders_of_classes_is_refused(tmp_path):
    write(tmp_path, "train/dog/1.jpg", "train/cat/1.jpg", "val/1.jpg")
    with pytest.raises(DataError, match=r"/val: .*folder per class, .* as in .*/train; or move it out of .*root"):
        read_image_folder(tmp_path)


def test_a_folder_of_test_without_folders_of_classes_is_left_out(tmp_path):
    write(tmp_path, "train/dog/1.jpg", "train/cat/1.jpg", "val/dog/1.jpg", "test/2.jpg")
    data = read_image_folder(tmp_path)
    assert not data.splits["test"] and "not used, pictures: 1 (test/2.jpg)" in data.notes
    assert "split: folders train, val" in data.notes


@pytest.mark.parametrize("names", [("caf\u00e9", "cafe\u0301"), ("cat", " cat "), ("cat", "cat\u200b")])
def test_names_of_folders_have_one_form(tmp_path, names):
    write(tmp_path, f"train/{names[0]}/1.jpg", "train/dog/1.jpg", f"val/{names[1]}/2.jpg")
    data = read_image_folder(tmp_path)
    assert data.classes == (names[0], "dog")
    assert [e.label for e in data.splits["val"]] == [0]


@pytest.mark.parametrize("top", ["flowers", "a/images"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_folder_in_a_folder(tmp_path, top, split):
    write(tmp_path, f"{top}/{split}cat/1.jpg", f"{top}/{split}dog/deep/2.jpg")
    data = read_image_folder(tmp_path, val_fraction=0, test_fraction=0)
    assert data.classes == ("cat", "dog")
    assert sorted(e.id for e in data.splits["train"]) == [f"{top}/{split}cat/1.jpg", f"{top}/{split}dog/deep/2.jpg"]


def test_the_working_directory_as_root(tmp_path, monkeypatch):
    write(tmp_path, *(f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(3)))
    monkeypatch.chdir(tmp_path)
    assert read_image_folder(".").fingerprint() == read_image_folder(tmp_path).fingerprint()


def test_folders_of_classes_are_split_from_the_seed(tmp_path):
    write(tmp_path, *(f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(10)))
    data = read_image_folder(tmp_path, val_fraction=0.2, test_fraction=0.3)
    counts = {s: [sum(e.label == k for e in examples) for k in (0, 1)] for s, examples in data.splits.items()}
    assert counts == {"train": [5, 5], "val": [2, 2], "test": [3, 3]}
    assert read_image_folder(tmp_path, val_fraction=0.2, test_fraction=0.3).fingerprint() == data.fingerprint()
    other = read_image_folder(tmp_path, val_fraction=0.2, test_fraction=0.3, split_seed=1)
    assert other.fingerprint() != data.fingerprint()


@pytest.mark.parametrize(("place", "split"), [("test", "test"), ("valid", "val")])
def test_beside_a_folder_of_test_pictures_the_other_folders_are_classes_of_train(tmp_path, place, split):
    write(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{place}/cat/2.jpg")
    data = read_image_folder(tmp_path, val_fraction=0, test_fraction=0)
    assert data.classes == ("cat", "dog")
    assert {s: [e.id for e in examples] for s, examples in data.splits.items() if examples} == {
        "train": ["cat/1.jpg", "dog/1.jpg"],
        split: [f"{place}/cat/2.jpg"],
    }


def test_a_folder_called_test_without_the_classes_of_the_others_is_a_class(tmp_path):
    write(tmp_path, "cat/1.jpg", "test/2.jpg", "val/cow/2.jpg")
    assert read_image_folder(tmp_path, val_fraction=0, test_fraction=0).classes == ("cat", "test", "val")


def test_given_classes_set_the_order(tmp_path):
    write(tmp_path, "dog/1.jpg", "cat/2.jpg")
    data = read_image_folder(tmp_path, ["dog", "cat"], val_fraction=0, test_fraction=0)
    assert sorted((e.id, e.label) for e in data.splits["train"]) == [("cat/2.jpg", 1), ("dog/1.jpg", 0)]


def test_messages(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_image_folder(tmp_path / "none")
    write(tmp_path, "1.jpg")
    with pytest.raises(DataError, match="one folder per class"):
        read_image_folder(tmp_path)
    write(tmp_path, "train/dog/1.jpg", "test/cow/1.jpg")
    with pytest.raises(DataError, match=r"test/cow: 'cow' .*legal: dog"):
        read_image_folder(tmp_path)
    with pytest.raises(DataError, match=r"train: no pictures of class 'cat'; there are dog"):
        read_image_folder(tmp_path, ["dog", "cat"])


def test_grocery(shared):
    data = read_image_folder(shared / "data" / "grocery10", val_fraction=0.1)
    assert data.num_classes == 10
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 621, "val": 69, "test": 300}
