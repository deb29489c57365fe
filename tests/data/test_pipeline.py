"""Streams: the same batches whatever the threads and the restart, the right pixels, and errors that name the file."""

import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
from PIL import Image

from detect.data.augment import Augment
from detect.data.classification_stream import ClassificationStream
from detect.data.examples import CropExample, Example
from detect.data.image_file import image_size
from detect.data.pipeline import DetectionStream, read_image, to_tf
from detect.errors import DataError
from detect.geometry.frame import resize, resize_tf1

SIZE = (24, 32)


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[Example]:
    """Ten noisy PNGs of different size; example k has k % 4 boxes."""
    folder = tmp_path_factory.mktemp("images")
    made = []
    for k in range(10):
        rng = np.random.default_rng(k)
        height, width = 40 + 3 * k, 60 - 2 * k
        cv2.imwrite(str(folder / f"{k}.png"), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        boxes = np.array([[4 * j, 3 * j, 4 * j + 20, 3 * j + 25] for j in range(k % 4)], np.float32).reshape(-1, 4)
        classes, crowd = np.arange(1, k % 4 + 1), np.zeros(k % 4, bool)
        made.append(Example(folder / f"{k}.png", width, height, boxes, classes, crowd, str(k)))
    return made


def strong() -> Augment:
    geometry = {"flip": A.HorizontalFlip(p=0.5), "crop": A.BBoxSafeRandomCrop(p=0.7)}
    return Augment({**geometry, "light": A.RandomBrightnessContrast(p=0.7)})


def detection(examples, **changes) -> DetectionStream:
    settings = {"size": SIZE, "batch_size": 4, "augment": strong(), "seed": 7, "max_boxes": 5, "threads": 2} | changes
    return DetectionStream(examples, **settings)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_threads_do_not_change_a_pixel(examples):
    one = list(detection(examples, threads=1).iterate(0, 6))
    four = list(detection(examples, threads=4).iterate(0, 6))
    assert len(one) == len(four) == 6
    for a, b in zip(one, four, strict=True):
        assert_same(a, b)


def test_restart_goes_on_where_it_stopped(examples):
    whole = list(detection(examples).iterate(0, 7))
    for a, b in zip(whole[4:], islice(detection(examples).iterate(4), 3), strict=True):
        assert_same(a, b)
    assert_same(whole[5], detection(examples).batch(5))


def test_every_epoch_holds_every_image_once_in_another_order(examples):
    indices = np.concatenate([b["index"] for b in detection(examples).iterate(0, 5)])  # 20 draws: two epochs of 10
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10].tolist() != indices[10:].tolist() != list(range(10))
    again, other = (detection(examples, seed=s).batch(0) for s in (7, 8))
    assert_same(again, detection(examples).batch(0))
    assert again["index"].tolist() != other["index"].tolist()


def test_an_image_is_augmented_anew_in_each_epoch(examples):
    stream = detection(examples[:1], batch_size=6)
    assert len({image.tobytes() for image in stream.batch(0)["image"]}) > 2


def test_seeds_differ_by_image_and_epoch_and_are_those_of_a_restart(examples):
    batches = [detection(examples, batch_size=5).batch(step) for step in range(4)]  # two epochs of ten images
    seeds = np.concatenate([b["seed"] for b in batches])
    assert seeds.dtype == np.int32 and (seeds >= 0).all() and len(set(seeds.tolist())) == 20
    np.testing.assert_array_equal(detection(examples, batch_size=5).batch(2)["seed"], seeds[10:15])
    assert not np.isin(detection(examples, batch_size=5, seed=8).batch(0)["seed"], seeds).any()
    last = list(detection(examples, augment=Augment()).evaluate_batches())[-1]
    assert (last["seed"][:2] > 0).all() and last["seed"][2:].tolist() == [0, 0]
    assert "seed" not in classification(crops_of(examples, [0, 1])).batch(0)


def test_shards_make_up_the_whole(examples):
    whole = detection(examples, batch_size=6)
    parts = [detection(examples, batch_size=2, shard=(i, 3)) for i in range(3)]
    for step in range(3):
        batches = [part.batch(step) for part in parts]
        assert_same(whole.batch(step), {k: np.concatenate([b[k] for b in batches]) for k in batches[0]})
    seen = np.concatenate([b["index"] for part in parts for b in part.evaluate_batches()])
    assert seen[seen >= 0].tolist() == list(range(10))


def test_evaluation_is_once_in_order_with_padding(examples):
    batches = list(detection(examples, augment=Augment()).evaluate_batches())
    assert [b["index"].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
    third = batches[0]["boxes"][3] * (np.array([49, 54, 49, 54]) / (24, 32, 24, 32))  # back to the file's pixels
    np.testing.assert_allclose(third[:3], examples[3].boxes, atol=1e-4)
    assert batches[0]["classes"][3].tolist() == [1, 2, 3, -1, -1] and np.all(batches[0]["boxes"][3, 3:] == -1)
    assert np.all(batches[0]["classes"][0] == -1)  # a background image is there, without boxes
    np.testing.assert_array_equal(batches[0]["image"][0], resize(read_image(examples[0].path), SIZE))
    assert not batches[2]["image"][3].any()


def test_keep_aspect_stretches_nothing(examples):
    """Example 3 has 49x54 px: in a 24x32 frame it fills 24x26."""
    stream = detection(examples, augment=Augment(), resize="keep_aspect", shuffle=False)
    image, boxes = stream.batch(0)["image"][3], stream.batch(0)["boxes"][3, :3]
    np.testing.assert_array_equal(image[:, :26], resize(read_image(examples[3].path), (24, 26)))
    assert not image[:, 26:].any()
    np.testing.assert_allclose(stream.frame.to_image(boxes, 49, 54), examples[3].boxes, atol=1e-4)


def test_zoo_is_exact_in_evaluation_only(examples):
    expected = resize_tf1(read_image(examples[0].path), SIZE)
    exact = next(detection(examples, augment=Augment(), resize="zoo", exact=True).evaluate_batches())["image"]
    np.testing.assert_array_equal(exact[0], expected)
    rounded = next(detection(examples, augment=Augment(), resize="zoo").evaluate_batches())["image"]
    assert exact.dtype == np.float32 and rounded.dtype == np.uint8
    np.testing.assert_array_equal(rounded[0], np.rint(expected))
    assert detection(examples, resize="zoo").batch(0)["image"].dtype == np.uint8
    assert detection(examples, augment=Augment(), exact=True).batch(0)["image"].dtype == np.uint8  # stretch has none
    with pytest.raises(ValueError, match="exact=True"):
        detection(examples, resize="zoo", exact=True)


def test_crowd_and_surplus_boxes(examples, caplog):
    e = examples[3]
    crowd = Example(e.path, e.width, e.height, e.boxes, e.classes, np.array([False, True, False]), "c")
    assert detection([crowd], augment=Augment(), batch_size=1).batch(0)["classes"].tolist() == [[1, 3, -1, -1, -1]]
    stream = detection(examples, augment=Augment(), max_boxes=2)
    assert "2 images have more than max_boxes=2 boxes (up to 3)" in caplog.text
    assert max((b["classes"] > 0).sum(1).max() for b in stream.iterate(0, 3)) == 2
    assert detection(examples, max_boxes=None).max_boxes == 3


def named_threads() -> int:
    return sum(t.name.startswith("detect-input") for t in threading.enumerate())


def test_closing_stops_the_threads(examples):
    batches = detection(examples, threads=3).iterate(0)
    next(batches)
    assert named_threads() > 0
    batches.close()
    assert named_threads() == 0


def test_bad_files_are_named(examples, tmp_path):
    photo = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    content = cv2.imencode(".jpg", photo)[1].tobytes()
    for name, data in [("cut.jpg", content[: len(content) // 3]), ("empty.jpg", b""), ("text.jpg", b"hello")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: .*\d+ bytes"):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match=r"none.jpg: can't read the image \(No such file"):
        read_image(tmp_path / "none.jpg")
    bad = Example(tmp_path / "text.jpg", 9, 9, np.zeros((0, 4)), np.zeros(0), np.zeros(0), "bad")
    stream = detection([*examples, bad])
    with pytest.raises(DataError, match=r"text\.jpg: .*`detect inspect` lists all such files"):
        list(stream.iterate(0, 4))
    assert isinstance(stream.failure, DataError) and named_threads() == 0
    wrong = Example(examples[0].path, 99, 40, np.zeros((0, 4)), np.zeros(0), np.zeros(0), "wrong")
    with pytest.raises(DataError, match=r"0\.png: .*60x40 px.*99x40 px"):
        detection([wrong]).batch(0)
    with pytest.raises(DataError, match=r"0.png: the transforms \(big\) fail"):
        detection(examples[:1], augment=Augment({"big": A.RandomCrop(500, 500)})).batch(0)
    with pytest.raises(DataError, match="no images to draw batches from"):
        detection([])


def test_rotated_photograph_is_upright_as_in_the_annotations(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to display
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(path, exif=exif)
    assert read_image(path).shape == (50, 30, 3) and image_size(path) == (30, 50)


def test_rgb_grey_and_transparent(tmp_path):
    Image.new("RGB", (8, 8), (250, 10, 60)).save(tmp_path / "c.png")
    Image.new("RGBA", (8, 8), (250, 10, 60, 0)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "g.png")
    assert [read_image(tmp_path / f"{n}.png")[0, 0].tolist() for n in "cag"] == [[250, 10, 60]] * 2 + [[77] * 3]


def test_reduced_decode_moves_no_box(tmp_path):
    """A 403x601 JPEG for a 48x64 frame is decoded at 1/4 (101x151, still twice the frame); white stays in its box."""
    photo = np.zeros((403, 601, 3), np.uint8)
    photo[100:260, 200:440] = 255
    cv2.imwrite(str(tmp_path / "p.jpg"), photo)
    e = Example(tmp_path / "p.jpg", 601, 403, np.array([[100, 200, 260, 440]]), np.array([1]), np.zeros(1), "p")
    plain = {"size": (48, 64), "augment": Augment(), "batch_size": 1}
    full, small = (detection([e], **plain, reduced_decode=reduced) for reduced in (False, True))
    assert full._reduction(403, 601) == 1 and small._reduction(403, 601) == 4 and small._reduction(191, 601) == 1
    full, small = full.batch(0), small.batch(0)
    np.testing.assert_allclose(full["boxes"], small["boxes"], atol=0.02)
    rows, columns = np.nonzero(small["image"][0, ..., 0] > 127)
    np.testing.assert_allclose(
        small["boxes"][0, 0], [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], atol=0.6
    )
    assert np.abs(full["image"].astype(int) - small["image"]).mean() < 2


def crops_of(examples, labels, box=None) -> list[CropExample]:
    return [CropExample(examples[k % 10].path, label, box, str(k)) for k, label in enumerate(labels)]


def classification(pictures, **changes) -> ClassificationStream:
    settings = {"num_classes": 3, "size": SIZE, "batch_size": 6, "augment": strong(), "seed": 1} | changes
    return ClassificationStream(pictures, **settings)


def test_crop_is_cut_before_anything_else(examples):
    box = np.array([3.4, -2, 20.2, 1000], np.float32)
    batch = classification(crops_of(examples, [2], box), augment=Augment(), batch_size=1).batch(0)
    np.testing.assert_array_equal(batch["image"][0], resize(read_image(examples[0].path)[3:21, 0:], SIZE))
    assert batch["label"].tolist() == [2]
    whole = classification(crops_of(examples, [1]), augment=Augment(), batch_size=1).batch(0)
    np.testing.assert_array_equal(whole["image"][0], resize(read_image(examples[0].path), SIZE))


def test_balanced_epochs(examples):
    """8, 1 and 3 pictures: an epoch of 12 has 4 of each class; the lone one comes 4 times, each time augmented anew."""
    pictures = crops_of(examples, [0] * 8 + [1] + [2] * 3)
    stream = classification(pictures, balanced=True, batch_size=12)
    for epoch in range(3):
        batch = stream.batch(epoch)
        assert Counter(batch["label"].tolist()) == {0: 4, 1: 4, 2: 4}
        assert len(set(batch["index"][batch["label"] == 0])) == 4
        assert Counter(Counter(batch["index"][batch["label"] == 2].tolist()).values()) == {1: 2, 2: 1}
        assert len({i.tobytes() for i in batch["image"][batch["label"] == 1]}) > 1
    for a, b in zip(stream.iterate(1, 2), [stream.batch(1), stream.batch(2)], strict=True):
        assert_same(a, b)
    plain = classification(pictures, batch_size=12).batch(0)
    assert sorted(plain["index"]) == list(range(12))
    only_two = classification(crops_of(examples, [0] * 5 + [2]), balanced=True, batch_size=6).batch(0)
    assert Counter(only_two["label"].tolist()) == {0: 3, 2: 3}  # class 1 has no pictures
    labels = [b["label"].tolist() for b in stream.evaluate_batches()]
    assert labels == [[0] * 8 + [1] + [2] * 3]


def test_classification_messages(examples):
    with pytest.raises(DataError, match=r"0\.png: label 3 of 0 .*legal: 0\.\.2"):
        classification(crops_of(examples, [3]))
    outside = crops_of(examples, [1], np.array([500, 0, 520, 20]))
    with pytest.raises(DataError, match=r"0.png: the crop 0 at \[500.*outside the image of 60x40 px"):
        classification(outside).batch(0)


def test_tf_dataset_equals_the_stream_and_stops_its_threads(examples):
    tf = pytest.importorskip("tensorflow")
    stream = detection(examples)
    dataset = to_tf(stream, start_step=2)
    assert dataset.element_spec["boxes"].shape == (4, 5, 4) and dataset.element_spec["image"].dtype == tf.uint8
    assert dataset.options().autotune.enabled is False
    iterator = iter(dataset)

    @tf.function
    def step(it):
        batch = next(it)
        return batch["index"], tf.reduce_sum(tf.cast(batch["image"], tf.int64))

    for k in (2, 3):
        index, total = step(iterator)
        expected = stream.batch(k)
        assert index.numpy().tolist() == expected["index"].tolist() and total == expected["image"].sum(dtype=np.int64)
    del iterator
    for _ in range(100):
        if not named_threads():
            break
        time.sleep(0.05)
    assert named_threads() == 0

    broken = detection([Example(Path("gone.jpg"), 9, 9, np.zeros((0, 4)), np.zeros(0), np.zeros(0), "g")])
    with pytest.raises(tf.errors.OpError, match=r"gone\.jpg"):
        next(iter(to_tf(broken)))
    assert "gone.jpg: can't read the image" in str(broken.failure)
