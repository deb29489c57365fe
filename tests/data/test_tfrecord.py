"""TFRecord files: what is read, what is refused, the cache, and what the writer gives back."""

import gzip
import io
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats import tfrecord_cache
from detect.data.formats.tfrecord import read_tfrecord, recognise
from detect.data.formats.tfrecord_unpack import unpack
from detect.data.formats.tfrecord_writer import write_tfrecord
from detect.data.formats.voc import read_voc
from detect.data.image_file import read_image
from detect.errors import ConfigError, DataError, UserError

SIDES = ("ymin", "xmin", "ymax", "xmax")
NO_DRAW = {"val_fraction": 0, "test_fraction": 0}
MAP = "item { id: 1 name: 'dog' }\nitem { id: 2 name: 'cat' display_name: 'Cat' }\n"


def encoded(size=(60, 40), kind="JPEG", color=(9, 90, 200)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()


def fields(name="a.jpg", boxes=((0.25, 0.5, 0.75, 1.0),), texts=("cat",), labels=(2,), **more) -> dict[str, object]:
    """The fields of one record; boxes are yxyx as shares. `more` replaces fields: `object_difficult`; None removes."""
    sides = dict(zip(SIDES, zip(*boxes, strict=True), strict=True)) if boxes else {}
    found = {
        "image/encoded": [encoded()], "image/format": [b"jpeg"], "image/filename": [name.encode()],
        "image/height": [40], "image/width": [60],
        **{f"image/object/bbox/{side}": [float(v) for v in sides.get(side, ())] for side in SIDES},
        "image/object/class/text": [text.encode() for text in texts], "image/object/class/label": list(labels),
    }  # fmt: skip
    found |= {f"image/{key.replace('_', '/', 1) if key.startswith('object_') else key}": v for key, v in more.items()}
    return {key: value for key, value in found.items() if value is not None}


def example(values: dict[str, object]) -> bytes:
    features = {}
    for key, value in values.items():
        if value and isinstance(value[0], bytes):
            features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        elif value and isinstance(value[0], float):
            features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=value) if value else None)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path: Path, *records: dict[str, object] | bytes, options: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else example(record))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache, and unpacking in this process, where TensorFlow is loaded."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DETECT_CACHE", str(folder))
    monkeypatch.setattr(tfrecord_cache, "in_child", lambda files, place: unpack(list(files), place))
    return folder


@pytest.fixture
def root(tmp_path):
    (tmp_path / "label_map.pbtxt").write_text(MAP)
    two = fields(boxes=[(0.25, 0.5, 0.75, 1), (0, 0, 0.5, 0.5)], texts=["cat", "dog"], labels=[2, 1])
    write(tmp_path / "train.record", two, fields("b.jpg", (), (), ()))
    return tmp_path


def test_boxes_and_background(root, cache):
    data = read_tfrecord(root, **NO_DRAW)
    assert (data.classes, data.category_ids) == (("dog", "cat"), (1, 2))
    a, b = data.splits["train"]
    assert a.boxes.tolist() == [[10, 30, 30, 60], [0, 0, 20, 30]]
    assert (a.classes.tolist(), b.boxes.shape, a.id) == ([2, 1], (0, 4), "a.jpg")
    assert (a.source, a.annotated_size) == (root / "train.record", (60, 40))
    assert a.path.is_relative_to(cache) and a.path.read_bytes() == encoded()
    assert data.notes[1].startswith("split: DRAWN")
    assert data.notes[2:] == ("not used, display names of the label map: 1 (Cat for cat)",)
    assert recognise(root) == "TFRecord files, such as train.record"
    assert sorted(p.name for p in root.iterdir()) == ["label_map.pbtxt", "train.record"]


def test_an_independent_parse_gives_the_same(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for k in range(8):
        corners = np.sort(rng.uniform(0, 1, (3, 2, 2)), axis=1).reshape(3, 4)
        records.append(fields(f"{k}.jpg", corners.tolist(), ["cat", "dog", "cat"], [2, 1, 2]))
    path = write(tmp_path / "x.tfrecord", *records)
    (tmp_path / "x_label_map.pbtxt").write_text(MAP)
    data = read_tfrecord(tmp_path, **NO_DRAW)
    for raw, e in zip(tf.compat.v1.io.tf_record_iterator(str(path)), data.splits["train"], strict=True):
        feature = tf.train.Example.FromString(raw).features.feature
        assert feature["image/filename"].bytes_list.value[0].decode() == e.id
        sides = [np.array(feature[f"image/object/bbox/{s}"].float_list.value) for s in SIDES]
        np.testing.assert_allclose(e.boxes, np.stack(sides, 1) * [40, 60, 40, 60], rtol=1e-6)
        assert e.classes.tolist() == list(feature["image/object/class/label"].int64_list.value)


def test_shards_compression_and_names_of_splits(tmp_path):
    (tmp_path / "label_map.pbtxt").write_text(MAP)
    write(tmp_path / "coco_train.record-00000-of-00002", fields("a.jpg"))
    write(tmp_path / "coco_train.record-00001-of-00002", fields("b.jpg"), options="GZIP")
    write(tmp_path / "eval.tfrec", fields("c.jpg"))
    write(tmp_path / "test" / "x.TFRECORD", fields("d.jpg"))
    plain = (tmp_path / "eval.tfrec").read_bytes()
    (tmp_path / "eval.tfrec").unlink()
    (tmp_path / "eval.tfrecord.gz").write_bytes(gzip.compress(plain))
    data = read_tfrecord(tmp_path)
    assert [[e.id for e in part] for part in data.splits.values()] == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.jpg"]]
    (tmp_path / "coco_train.record-00000-of-00002").unlink()
    with pytest.raises(DataError, match=r"of the 2 shards of coco_train\.record there are 1; missing: 0"):
        read_tfrecord(tmp_path)


def test_an_export_of_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "cells.tfrecord", fields(f"{split}.jpg"))
        (tmp_path / split / "cells_label_map.pbtxt").write_text(MAP)
    data = read_tfrecord(tmp_path)
    assert [[e.id for e in part] for part in data.splits.values()] == [["train.jpg"], ["valid.jpg"], ["test.jpg"]]
    (tmp_path / "test" / "cells_label_map.pbtxt").write_text(MAP.replace("id: 1", "id: 3"))
    with pytest.raises(DataError, match=r"cells_label_map\.pbtxt: 'dog' has the id 1, but 3 in .*test/cells_label"):
        read_tfrecord(tmp_path)


def test_equal_file_names_of_different_pictures_have_their_split_before_them(tmp_path):
    """generate_tfrecord.py writes base names: images/train/1.jpg and images/test/1.jpg are both 1.jpg."""
    (tmp_path / "label_map.pbtxt").write_text(MAP)
    pictures = [[encoded(color=(9, 90, k))] for k in (0, 80, 160)]
    write(tmp_path / "train.record", fields("1.jpg", encoded=pictures[0]), fields("2.jpg"))
    write(tmp_path / "test.record", *(fields("1.jpg", encoded=p) for p in pictures[1:]))
    data = read_tfrecord(tmp_path, **NO_DRAW)
    assert {split: [e.id for e in part] for split, part in data.splits.items() if len(part)} == {
        "train": ["2.jpg", "train/1.jpg"], "test": ["test/1.jpg", "test/2/1.jpg"]
    }  # fmt: skip
    found = [data.splits["train"][1], *data.splits["test"]]
    assert [[e.path.read_bytes()] for e in found] == pictures
    told = "3 (test/1.jpg, test/2/1.jpg, train/1.jpg)"
    assert f"images of one image/filename, with the split before it: {told}" in data.notes
    write(tmp_path / "test.record", fields("1.jpg", encoded=pictures[0]))
    with pytest.raises(DataError, match=r"train\.record: record 1 has .*'1\.jpg', as .*test\.record: record 1; they"):
        read_tfrecord(tmp_path)


def test_difficult_crowd_and_group_are_crowd(root):
    for key in ("object_difficult", "object_is_crowd", "object_group_of"):
        four = [(0, 0, 0.5, side) for side in (0.4, 0.5, 0.6, 0.7)]
        write(root / "train.record", fields(boxes=four, texts=["cat"] * 4, labels=[2] * 4, **{key: [0, 1, -1, 7]}))
        (e,) = read_tfrecord(root, **NO_DRAW).splits["train"]
        assert e.crowd.tolist() == [False, True, False, True]  # -1: nobody has said it


def test_class_text_alone_label_alone_and_display_names(root):
    write(root / "train.record", fields("a.jpg", labels=()), fields("b.jpg", texts=()), fields("c.jpg", texts=["Cat"]))
    data = read_tfrecord(root, **NO_DRAW)
    assert [data.classes[e.classes[0] - 1] for e in data.splits["train"]] == ["cat"] * 3
    write(root / "train.record", fields("a.jpg", texts=["zebra"]), fields("b.jpg", texts=["ant"], labels=[1]))
    (root / "label_map.pbtxt").unlink()
    data = read_tfrecord(root, **NO_DRAW)
    assert data.classes == ("ant", "zebra")
    assert any(note.startswith("not used, labels of records, because there is no label map: 2") for note in data.notes)


def test_what_is_not_used_is_noted(root):
    write(root / "train.record", fields(object_truncated=[1], weather=[b"rain"]), fields("b.jpg", object_truncated=[0]))
    notes = read_tfrecord(root, **NO_DRAW).notes
    expected = "image/object/truncated of train.record in 2 records, image/weather of train.record in 1 records"
    assert f"not used, fields of TFRecord files: 2 ({expected})" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoded": None}, r" has no picture in image/encoded; its fields are .*image/filename"),
        ({"encoded": [b""]}, r" has no picture in image/encoded"),
        ({"encoded": [b"no picture"]}, r": image/encoded begins with b'no pictu', which is no picture"),
        ({"object_bbox/xmax": [0.1, 0.2]}, r": image/object/bbox/xmax has 2 values, but image/object/bbox/ymin has 1"),
        ({"object_bbox/xmax": None}, r": image/object/bbox/xmax has 0 values, but"),
        ({"object_bbox/xmax": [float("nan")]}, r": image/object/bbox/xmax is nan, which is not a share"),
        ({"object_bbox/xmax": [60.0]}, r": image/object/bbox/xmax is 60, which is not a share of the picture"),
        ({"object_bbox/xmax": [b"1"]}, r": image/object/bbox/xmax is of type string; it must be float"),
        ({"object_class/text": [b"a", b"b"]}, r": image/object/class/text has 2 values, but"),
        ({"object_class/label": [1, 2]}, r": image/object/class/label has 2 values, but"),
        ({"object_difficult": [0, 1]}, r": image/object/difficult has 2 values, but"),
        ({"object_is_crowd": [-7]}, r": image/object/is_crowd is -7; it must be 0 or 1"),
        ({"height": [-3]}, r": image/height is -3; it must be a number of pixels"),
        ({"height": [4.5]}, r": image/height is of type float; it must be int64"),
        (
            {"object_class/label": [9]},
            r": box 1 has class/label 9, which is not in .*label_map\.pbtxt; legal: 1 dog, 2 cat",
        ),
        (
            {"object_class/label": [1]},
            r": box 1 has class/text 'cat' and class/label 1, which is 'dog' in .*they must agree",
        ),
        ({"object_class/label": None, "object_class/text": [b"cow"]}, r": box 1 has class/text 'cow', which is not in"),
        ({"filename": [b"a.jpg"]}, r" has the image/filename 'a\.jpg', as .*train\.record: record 1; they must differ"),
    ],
)
def test_bad_fields_are_named_with_file_and_record(root, change, message):
    write(root / "train.record", fields(), fields("b.jpg", **change))
    with pytest.raises(DataError, match=r"train\.record: record 2" + message):
        read_tfrecord(root)


def test_damaged_files(root):
    content = write(root / "train.record", fields(), fields("b.jpg")).read_bytes()
    damaged = bytearray(content)
    damaged[len(content) * 3 // 4] ^= 1
    (root / "train.record").write_bytes(damaged)
    with pytest.raises(
        DataError, match=r"train\.record: record 2 can't be read, the file is damaged \(corrupted record"
    ):
        read_tfrecord(root)
    (root / "train.record").write_bytes(content[:-7])
    with pytest.raises(
        DataError, match=r"train\.record: record 2 can't be read, the file is damaged \(truncated record"
    ):
        read_tfrecord(root)
    write(root / "train.record", fields(), b"\xff\xff no message")
    with pytest.raises(DataError, match=r"train\.record: record 2: it is not a tf\.Example"):
        read_tfrecord(root)
    (root / "train.record").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.record: no record has a box .*the fields are none"):
        read_tfrecord(root)


def test_messages_for_files(root, cache, monkeypatch):
    write(root / "train.record", fields("b.jpg", (), (), (), label=[3]))
    with pytest.raises(DataError, match=r"no record has a box in image/object/bbox/ymin.*the fields are .*image/label"):
        read_tfrecord(root)
    write(root / "train.record", fields(texts=()))
    (root / "label_map.pbtxt").rename(root / "map.txt")
    with pytest.raises(
        DataError, match=r"train\.record: record 1: box 1 has no image/object/class/text, and there is no label"
    ):
        read_tfrecord(root)
    (root / "map.txt").rename(root / "a.pbtxt")
    (root / "b.pbtxt").write_text(MAP.replace("dog", "cow"))
    with pytest.raises(
        DataError, match=r"train\.record: .*a\.pbtxt, .*b\.pbtxt could be its label map, and they differ"
    ):
        read_tfrecord(root)
    (root / "b.pbtxt").unlink()
    write(root / "more.record", fields("c.jpg"))
    with pytest.raises(DataError, match=r"more\.record: neither its name nor its folder has the word train"):
        read_tfrecord(root)
    assert len(read_tfrecord(root / "more.record", **NO_DRAW).splits["train"]) == 1
    monkeypatch.setenv("DETECT_CACHE", str(root / "cache"))
    with pytest.raises(ConfigError, match=r"DETECT_CACHE=.*is below dataset\.root="):
        read_tfrecord(root / "more.record")
    for path in root.glob("*.record"):
        path.unlink()
    with pytest.raises(DataError, match=r"dataset\.root=.*there is no TFRecord file below it \(\.record, \.tfrecord"):
        read_tfrecord(root)
    assert recognise(root) is None


@pytest.mark.parametrize(
    "name", ["../../x.jpg", "/etc/x.jpg", "a/../../b", "C:\\x\\y.jpg", "x\0y", "n" * 400, "...", "a.001"]
)
def test_pictures_stay_in_the_cache_whatever_their_name(root, cache, name):
    write(root / "train.record", fields(name), fields(f"{name}/below.jpg"))
    for e in read_tfrecord(root, **NO_DRAW).splits["train"]:
        assert e.path.resolve().is_relative_to(cache.resolve())
        assert e.path.read_bytes() == encoded()


def test_the_cache_is_used_again_and_never_when_it_is_damaged(root, cache, monkeypatch):
    first = read_tfrecord(root, **NO_DRAW)
    (folder,) = cache.glob("tfrecord-*")
    made = []

    def count(files, place):
        made.append(place)
        unpack(list(files), place)

    monkeypatch.setattr(tfrecord_cache, "in_child", count)
    assert read_tfrecord(root, **NO_DRAW).fingerprint() == first.fingerprint()
    assert not made
    picture = first.splits["train"][0].path
    picture.write_bytes(picture.read_bytes()[:-9])
    assert read_tfrecord(root, **NO_DRAW).splits["train"][0].path.read_bytes() == encoded()
    picture.unlink()
    read_tfrecord(root, **NO_DRAW)
    (folder / "index.json").write_text((folder / "index.json").read_text()[:-30])
    read_tfrecord(root, **NO_DRAW)
    assert len(made) == 3
    write(root / "train.record", fields("z.jpg"))
    assert [e.id for e in read_tfrecord(root, **NO_DRAW).splits["train"]] == ["z.jpg"]
    assert len(list(cache.glob("tfrecord-*"))) == 2


def test_what_fails_leaves_nothing_in_the_cache(root, cache):
    write(root / "train.record", fields(), fields("b.jpg", encoded=None))
    with pytest.raises(DataError):
        read_tfrecord(root)
    assert not list(cache.glob("*"))


def test_the_process_of_its_own_reads_the_same_and_tells_errors(root, cache, monkeypatch):
    here = read_tfrecord(root, **NO_DRAW)
    monkeypatch.setenv("DETECT_CACHE", str(cache / "other"))
    code = (
        "import sys; from detect.data.formats.tfrecord import read_tfrecord; from detect.errors import DataError\n"
        f"data = read_tfrecord({str(root)!r}, val_fraction=0, test_fraction=0)\n"
        "assert 'tensorflow' not in sys.modules; print(data.fingerprint())\n"
        f"open({str(root / 'train.record')!r}, 'ab').write(b'x' * 40)\n"
        f"try: read_tfrecord({str(root)!r})\nexcept DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    first, second = done.stdout.splitlines()
    assert first == here.fingerprint()
    assert f"{root / 'train.record'}: record 3 can't be read" in second


def noisy(path: Path, size=(60, 40), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_the_images_without_a_subset_are_train_beside_those_of_train(tmp_path):
    write(tmp_path / "default.tfrecord", fields("a.jpg", encoded=[encoded(color=(1, 2, 3))]))
    write(tmp_path / "Train.tfrecord", fields("b.jpg"))
    data = read_tfrecord(tmp_path, **NO_DRAW)
    assert [e.id for e in data.splits["train"]] == ["a.jpg", "b.jpg"]
    assert "taken as train, files of images without a subset: 1 (default.tfrecord)" in data.notes


@pytest.mark.parametrize("largest", [1_000_000, 1_000_001, 3_000_000_001])
def test_ids_that_no_label_map_may_have_become_1_to_c(tmp_path, largest):
    """Those of V7 are checksums of the names."""
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 9]], np.float32)
    example = Example(tmp_path / "a.png", 60, 40, boxes, np.array([1, 2]), np.zeros(2, bool), "a.png")
    dataset = DetectionDataset("x", ("dog", "cat"), {"train": [example]}, category_ids=(7, largest))
    write_tfrecord(dataset, tmp_path / "records")
    data = read_tfrecord(tmp_path / "records", **NO_DRAW)
    assert (data.classes, data.splits["train"][0].classes.tolist()) == (("dog", "cat"), [1, 2])
    assert data.category_ids == ((7, largest) if largest == 1_000_000 else (1, 2))


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    splits = {}
    for split, names in {"train": ["a/1.jpg", "b/1.png"], "val": ["c.bmp"], "test": ["d.jpg"]}.items():
        splits[split] = []
        for name in names:
            boxes = np.sort(rng.uniform(0, 1, (4, 2, 2)), axis=1).reshape(4, 4) * [40, 60, 40, 60]
            path = noisy(tmp_path / "pictures" / name)
            splits[split].append(
                Example(path, 60, 40, boxes, [1, 3, 3, 2], [False, True, False, False], name, source_id=len(name))
            )
    dataset = DetectionDataset("x", ("dog", "it's", "Ünï"), splits, category_ids=(7, 2, 5))
    write_tfrecord(dataset, tmp_path / "records")
    assert sorted(p.name for p in (tmp_path / "records").iterdir()) == [
        "label_map.pbtxt", "test.record", "train.record", "val.record",
    ]  # fmt: skip
    found = read_tfrecord(tmp_path / "records")
    assert (found.classes, found.category_ids) == (("it's", "Ünï", "dog"), (2, 5, 7))
    for split, part in dataset.splits.items():
        for e, other in zip(part, found.splits[split], strict=True):
            assert (e.id, e.source_id, e.width, e.height) == (other.id, other.source_id, other.width, other.height)
            assert e.crowd.tolist() == other.crowd.tolist()
            assert [dataset.classes[c - 1] for c in e.classes] == [found.classes[c - 1] for c in other.classes]
            np.testing.assert_allclose(e.boxes, other.boxes, atol=1e-4)
            if e.path.suffix == ".bmp":
                np.testing.assert_array_equal(read_image(e.path), read_image(other.path))
            else:
                assert e.path.read_bytes() == other.path.read_bytes()
    with pytest.raises(DataError, match=r"records: it must be a new or an empty folder"):
        write_tfrecord(dataset, tmp_path / "records")


def test_a_turned_picture_is_written_as_it_is_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = noisy(tmp_path / "a.jpg", exif=exif)
    e = Example(path, 40, 60, [[5, 10, 50, 20]], [1], [False], "a.jpg")
    write_tfrecord(DetectionDataset("x", ("cat",), {"train": (e,)}), tmp_path / "records")
    (raw,) = tf.compat.v1.io.tf_record_iterator(str(tmp_path / "records" / "train.record"))
    feature = tf.train.Example.FromString(raw).features.feature
    pixels = tf.io.decode_image(feature["image/encoded"].bytes_list.value[0]).numpy()
    np.testing.assert_array_equal(pixels, read_image(path))
    assert feature["image/format"].bytes_list.value[0] == b"png"
    (other,) = read_tfrecord(tmp_path / "records", **NO_DRAW).splits["train"]
    np.testing.assert_allclose(other.boxes, e.boxes, atol=1e-4)


def test_damaged_records_are_refused_with_one_message(root):
    rng = random.Random(0)
    odd = [
        [],
        [0],
        [1, 2, 3],
        [-1],
        [2**62],
        [0.5],
        [float("inf")],
        [1e30],
        [b""],
        [b"x"],
        [b"\xff\x00"],
        [b"a", b"b"],
        None,
    ]
    refused = 0
    for k in range(100):
        values = fields("b.jpg")
        for key in rng.sample(sorted(values), rng.randint(1, 2)):
            values[key] = rng.choice(odd)
        values = {key: value for key, value in values.items() if value is not None}
        content = example(values)
        if k % 4 == 0:
            place = rng.randrange(len(content))
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + rng.randint(0, 3) :]
        write(root / "train.record", fields(), content)
        if k % 10 == 9:
            whole = bytearray((root / "train.record").read_bytes())
            whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            (root / "train.record").write_bytes(whole)
        try:
            read_tfrecord(root, **NO_DRAW)
        except UserError as error:
            assert len(str(error)) < 3000
            refused += 1
    assert 40 < refused < 100


def test_microcontrollers_come_back(shared, tmp_path):
    voc = read_voc(shared / "data" / "microcontrollers")
    few = {split: part[:6] for split, part in voc.splits.items()}
    write_tfrecord(replace(voc, splits=few), tmp_path / "records")
    found = read_tfrecord(tmp_path / "records")
    assert found.classes == voc.classes
    for split, part in few.items():
        assert [e.id for e in found.splits[split]] == [e.id for e in part]
        for e, other in zip(part, found.splits[split], strict=True):
            np.testing.assert_allclose(other.boxes, e.boxes, atol=1e-4)


@pytest.mark.parametrize("areas, expected", [([300.0], [300]), ([300], [300]), (None, None), ([], None)])
def test_areas_are_read_whatever_their_type(tmp_path, areas, expected):
    write(tmp_path / "train.record", fields(object_area=areas))
    found = read_tfrecord(tmp_path, **NO_DRAW).splits["train"][0].areas
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    "areas, note",
    [
        ([-1.0], "not used, areas that are no number of pixels: 1 (record 1 of train.record)"),
        ([float("nan")], "not used, areas that are no number of pixels: 1 (record 1 of train.record)"),
        ([3.0, 4.0], "not used, fields of TFRecord files: 1 (image/object/area of train.record in 1 records)"),
    ],
)
def test_areas_that_are_none_are_noted(tmp_path, areas, note):
    write(tmp_path / "train.record", fields(object_area=areas))
    data = read_tfrecord(tmp_path, **NO_DRAW)
    found = data.splits["train"][0].areas
    assert note in data.notes and (found is None or np.isnan(found).all())
