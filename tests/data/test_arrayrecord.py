"""ArrayRecord files: written, read back through a batch, resumed, and refused when they are damaged."""

import json
import random
import shutil

import numpy as np
import pytest

from detect.cli.convert import write
from detect.data.augment import Augment
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats import arrayrecord_writer
from detect.data.formats.arrayrecord import read_arrayrecord
from detect.data.formats.arrayrecord_writer import INDEX, write_arrayrecord
from detect.data.formats.auto import read_auto
from detect.data.image_file import header, picture_bytes, read_image
from detect.data.notes import Notes
from detect.data.pipeline import DetectionStream
from detect.data.shards import Picture
from detect.data.validate import check
from detect.errors import DataError
from detect.files import sha256_of, write_json

cv2 = pytest.importorskip("cv2")
pytest.importorskip("array_record")


@pytest.fixture
def source(tmp_path, monkeypatch) -> DetectionDataset:
    """Seven pictures of noise as PNG and JPEG, one without a box and one with a crowd; three to a file."""
    monkeypatch.setenv("DETECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrayrecord_writer, "PER_FILE", 3)
    rng, examples = np.random.default_rng(0), []
    for k in range(7):
        path = tmp_path / "source" / f"é {k}.{'jpg' if k % 2 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        cv2.imencode(path.suffix, rng.integers(0, 256, (24 + k, 32, 3), np.uint8))[1].tofile(path)
        boxes = np.array([[2, 3, 12, 20.25], [4, 5, 20, 30]][: k % 3], np.float32).reshape(-1, 4)
        labels, crowd = [1, 2][: len(boxes)], [False, k == 2][: len(boxes)]
        examples.append(Example(path, 32, 24 + k, boxes, labels, crowd, f"a/é {k}", source_id=f"s{k}" if k else 5))
    return DetectionDataset("seed", ("cat", "dog"), {"train": examples[:5], "test": examples[5:]}, (), (3, 90))


def test_the_same_data_set_is_read_back(tmp_path, source):
    write(source, "arrayrecord", tmp_path / "out", Notes())
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert [n for n in names if "arrayrecord" in n] == [
        *("test-00000-of-00001.arrayrecord", "train-00000-of-00002.arrayrecord", "train-00001-of-00002.arrayrecord")
    ]
    assert not list(tmp_path.glob(".out*"))
    data = read_auto(tmp_path / "out")
    assert data.fingerprint() == source.fingerprint() and data.name == "seed"
    assert (data.classes, data.category_ids) == (source.classes, source.category_ids)
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 5, "val": 0, "test": 2}
    for split, examples in source.splits.items():
        for e, again in zip(examples, data.splits[split], strict=True):
            assert again.source_id == e.source_id and picture_bytes(again.path) == e.path.read_bytes()
            assert header(again.path) == header(e.path)
    assert not [f for f in check(data, decode=True) if f.kind in ("unreadable", "truncated", "duplicate")]


def test_batches_are_those_of_the_files(tmp_path, source):
    write(source, "arrayrecord", tmp_path / "out", Notes())
    streams = [
        DetectionStream(data.splits["train"], (16, 16), 3, Augment(), seed=2, max_boxes=2, threads=3)
        for data in (source, read_arrayrecord(tmp_path / "out"))
    ]
    for ours, theirs in zip(*(stream.iterate(3, 6) for stream in streams), strict=True):
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])


def test_a_picture_that_is_turned_is_written_as_it_is_displayed(tmp_path):
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.full((10, 20, 3), 90, np.uint8)).save(path, exif=turned)
    example = Example(path, 10, 20, [[0, 0, 20, 10]], [1], [False], "turned")
    write(DetectionDataset("t", ("a",), {"train": [example]}), "arrayrecord", tmp_path / "out", Notes())
    (again,) = read_arrayrecord(tmp_path / "out").splits["train"]
    assert (again.width, again.height) == (10, 20) and again.path.suffix == ".png"
    np.testing.assert_array_equal(read_image(again.path), read_image(path))


def test_a_second_call_goes_on_where_the_first_was_stopped(tmp_path, source, monkeypatch):
    real = arrayrecord_writer.encoded

    def stopped(example):
        if example.id == "a/é 4":
            raise DataError("stopped")
        return real(example)

    monkeypatch.setattr(arrayrecord_writer, "encoded", stopped)
    with pytest.raises(DataError, match="stopped"):
        write(source, "arrayrecord", tmp_path / "out", Notes())
    assert not (tmp_path / "out").exists()
    before = (tmp_path / ".out.arrayrecord.new" / "train-00000-of-00002.arrayrecord").stat()
    seen = []
    monkeypatch.setattr(arrayrecord_writer, "encoded", lambda example: (seen.append(example.id), real(example))[1])
    (tmp_path / ".out.arrayrecord.new" / "train-00000-of-00009.arrayrecord").write_bytes(b"of another call")
    damaged = tmp_path / ".out.arrayrecord.new" / "test-00000-of-00001.arrayrecord"
    if damaged.exists():
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    notes = Notes()
    write(source, "arrayrecord", tmp_path / "out", notes)
    assert sorted(seen) == ["a/é 3", "a/é 4", "a/é 5", "a/é 6"] and "whole from before: 1" in notes.lines()[0]
    after = (tmp_path / "out" / "train-00000-of-00002.arrayrecord").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert read_arrayrecord(tmp_path / "out").fingerprint() == source.fingerprint()
    assert len(list((tmp_path / "out").iterdir())) == 3 + 3 + 1


def test_a_picture_that_changed_is_written_again(tmp_path, source):
    write_arrayrecord(source, tmp_path / "out", Notes())
    path = source.splits["train"][0].path
    path.write_bytes(picture_bytes(source.splits["train"][2].path))
    notes = Notes()
    write_arrayrecord(source, tmp_path / "out", notes)
    assert not notes.lines()  # without its remark on what is written, no file is taken for whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(kind="other"), "kind"),
        (lambda index: index.update(form=2), "form is 2"),
        (lambda index: index.update(classes=[]), "classes must be"),
        (lambda index: index.update(category_ids=[1]), "list of 2 numbers"),
        (lambda index: index["splits"].pop("val"), "splits train, val, test"),
        (lambda index: index["splits"]["train"].update(table="../train.npz"), "must be a file of the same folder"),
        (lambda index: index["splits"]["train"].update(table="none.npz"), "no such file"),
        (lambda index: index["splits"]["train"].update(sha256="0"), "its sha256 differs"),
        (lambda index: index["splits"]["train"].update(images=4), "must have 4 images"),
        (lambda index: index["splits"]["train"].update(files=[]), "no picture of the files"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path, source, change, message):
    write_arrayrecord(source, tmp_path / "out", Notes())
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    change(index)
    write_json(tmp_path / "out" / INDEX, index)
    with pytest.raises(DataError, match=message):
        read_arrayrecord(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("boxes", np.full((4, 4), np.nan, np.float32), "not finite"),
        ("classes", np.full(4, 3, np.int32), r"not in 1\.\.2"),
        ("classes", np.full(4, 1, np.int64), "type int64"),
        ("ends", np.array([0, 9, 1, 1, 1, 4]), "ends of the boxes"),
        ("sizes", np.zeros((5, 2), np.int32), "number of pixels"),
        ("ids.content", np.full(30, 255, np.uint8), "UnicodeDecodeError"),
        ("pictures.ends", np.array([0, 1, 2, 3, 4, 10**6]), "ends of pictures"),
        ("crowd", np.array([{}] * 4), "ValueError"),
        ("areas", np.full(4, -1, np.float32), "number of pixels"),
        ("areas", np.full(4, np.inf, np.float32), "number of pixels"),
        ("areas", np.zeros(3, np.float32), "areas and boxes differ in number"),
        ("areas", np.zeros(4, np.float64), "type float64"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, source, name, value, message):
    folder = tmp_path / "out"
    write_arrayrecord(source, folder, Notes())
    with np.load(folder / "train.npz") as arrays:
        columns = dict(arrays)
    np.savez(folder / "train.npz", **(columns | {name: value}))
    index = json.loads((folder / INDEX).read_text())
    index["splits"]["train"]["sha256"] = sha256_of(folder / "train.npz")
    write_json(folder / INDEX, index)
    with pytest.raises(DataError, match=message):
        read_arrayrecord(folder)


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "other", "none"])
def test_damaged_pictures_are_found_by_the_check_and_by_the_batch(tmp_path, source, damage):
    folder = tmp_path / "out"
    write_arrayrecord(source, folder, Notes())
    file = folder / "train-00000-of-00002.arrayrecord"
    content, picture = file.read_bytes(), picture_bytes(source.splits["train"][0].path)
    place = content.index(picture) + len(picture) // 2
    if damage == "none":
        file.unlink()
        with pytest.raises(DataError, match="no such file"):
            read_arrayrecord(folder)
        return
    if damage == "other":
        shutil.copy(folder / "test-00000-of-00001.arrayrecord", file)
    else:
        parts = {"byte": (place, bytes([content[place] ^ 1])), "cut": (place, None), "empty": (0, None)}
        at, new = parts[damage]
        file.write_bytes(content[:at] + (b"" if new is None else new + content[at + 1 :]))
    data = read_arrayrecord(folder)
    errors = [f for f in check(data, decode=True) if f.action == "error"]
    assert errors and all(f.kind == "unreadable" and file.name in str(f.path) for f in errors)
    with pytest.raises(DataError, match=r"train-00000-of-00002\.arrayrecord"):
        list(DetectionStream(data.splits["train"], (16, 16), 5, Augment()).iterate(0, 1))


def test_no_damage_is_read_as_another_picture(tmp_path, source):
    folder, rng = tmp_path / "out", random.Random(0)
    write_arrayrecord(source, folder, Notes())
    file = folder / "train-00000-of-00002.arrayrecord"
    content = file.read_bytes()
    examples = read_arrayrecord(folder).splits["train"][:3]
    right = [picture_bytes(e.path) for e in examples]
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.unlink()  # an open file keeps what it had
        file.write_bytes(bytes(damaged[: rng.randrange(len(damaged))] if rng.random() < 0.2 else damaged))
        for example, expected in zip(examples, right, strict=True):
            moved = tmp_path / f"{rng.random()}.arrayrecord"
            moved.hardlink_to(file)  # each try opens a file of its own name
            try:
                assert picture_bytes(f"{moved}/{example.path.name}") == expected
            except OSError as error:
                assert "record" in str(error)


def test_only_names_of_pictures_are_pictures():
    assert Picture.at("a.arrayrecord/17-9ae0daaf-40213.jpg") == Picture("a.arrayrecord", 17, 0x9AE0DAAF, 40213, ".jpg")
    for path in ("a/17-9ae0daaf-40213.jpg", "a.arrayrecord/17.jpg", "a.arrayrecord", "17-9ae0daaf-40213.jpg", ""):
        assert Picture.at(path) is None


@pytest.mark.slow
def test_it_is_written_in_other_formats(tmp_path, source):
    write(source, "arrayrecord", tmp_path / "out", Notes())
    data = read_arrayrecord(tmp_path / "out")
    for kind in ("voc", "coco", "yolo", "tfrecord"):
        write(data, kind, tmp_path / kind, Notes())
        again = read_auto(tmp_path / kind)
        assert {s: len(e) for s, e in again.splits.items()} == {"train": 5, "val": 0, "test": 2}
