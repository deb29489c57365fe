"""A random data set is written in every format and read back equal."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.cli.convert import WRITERS, write
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats.auto import FORMATS, read_auto
from detect.data.formats.join import read_join
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.data.text import one_name
from detect.evaluation.coco import CocoEvaluator

NAMES = st.lists(
    st.text("aZ0 .-_'\"&<>:#[]{}é猫😀=%/\\", min_size=1, max_size=8).map(one_name).filter(bool),
    min_size=1,
    max_size=4,
    unique=True,
)


KINDS = [pytest.param(kind, marks=pytest.mark.slow if kind == "tfrecord" else ()) for kind in sorted(WRITERS)]


@st.composite
def datasets(draw):
    """Sizes, boxes, classes and crowd flags of up to six images; each class has a box in train."""
    names = [n for n in draw(NAMES) if n.casefold() != "background"] or ["cat"]
    images = []
    for number in range(draw(st.integers(2, 6))):
        width, height = draw(st.integers(2, 60)), draw(st.integers(2, 60))
        boxes = [(1, False, (0, 0, height, width))] if number == 0 else []  # a format may list no class without a box
        for label in (
            range(1, len(names) + 1) if number == 0 else draw(st.lists(st.integers(1, len(names)), max_size=3))
        ):
            x0, x1 = sorted(draw(st.lists(st.floats(0, width, width=32), min_size=2, max_size=2)))
            y0, y1 = sorted(draw(st.lists(st.floats(0, height, width=32), min_size=2, max_size=2)))
            boxes.append((label, draw(st.booleans()) and number > 0, (y0, x0, y1, x1)))
        images.append((width, height, boxes))
    splits = ["train", *draw(st.lists(st.sampled_from(SPLITS), min_size=len(images) - 1, max_size=len(images) - 1))]
    return names, images, splits, draw(st.lists(st.integers(1, 10**6), min_size=9, max_size=9, unique=True))


def made(folder: Path, names, images, splits, numbers) -> DetectionDataset:
    parts: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for k, ((width, height, boxes), split) in enumerate(zip(images, splits, strict=True)):
        path = folder / f"{k}.png"
        cv2.imwrite(str(path), np.full((height, width, 3), 20 * k, np.uint8))
        rows = {
            (label, crowd, np.round(np.float32(box), 3).tobytes()): (label, crowd, box) for label, crowd, box in boxes
        }
        kept = [r for r in rows.values() if r[2][0] + 0.01 < r[2][2] and r[2][1] + 0.01 < r[2][3]]
        parts[split].append(
            Example(
                path, width, height, np.array([b for *_, b in kept]), np.array([n for n, *_ in kept]),
                np.array([c for _, c, _ in kept], bool), f"sub/{k}.png", source_id=numbers[k],
            )
        )  # fmt: skip
    ids = tuple(sorted(numbers)[: len(names)])
    return DetectionDataset("made", tuple(names), parts, (), ids)


def content(dataset: DetectionDataset, kind: str) -> dict:
    """By split and name of the image: size, and boxes by class name; ids where the format has them."""
    found = {}
    for split in SPLITS:
        for e in dataset.splits[split]:
            keep = ~e.crowd if kind == "yolo" else np.ones(len(e.boxes), bool)
            boxes = [
                (dataset.classes[c - 1], bool(crowd), *box)
                for c, crowd, box in zip(e.classes[keep], e.crowd[keep], e.boxes[keep].tolist(), strict=True)
            ]
            found[split, Path(e.id).stem] = (e.width, e.height, boxes, e.source_id if kind == "coco" else None)
    return found


@pytest.mark.parametrize("kind", sorted(WRITERS.keys() - {"tfrecord"}))  # tests/data/test_tfrecord.py has its own
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_set=datasets())
def test_what_is_written_is_read_back(tmp_path_factory, kind, given_set):
    round_trip(tmp_path_factory, kind, given_set)


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_without_images_is_not_drawn_again(tmp_path_factory, kind):
    images = [(30, 20, [(1, False, (1, 2, 10, 12.5))])] * 6
    round_trip(tmp_path_factory, kind, (["cat"], images, ["train"] * 4 + ["test"] * 2, list(range(7, 16))))


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_pictures_that_are_no_utf_8_are_written_as_latin_1(tmp_path, kind):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "a.png").rename(path)
    example = Example(path, 30, 20, np.array([[1, 2, 10, 12.5]]), np.array([1]), np.array([False]), path.name)
    data = DetectionDataset("made", ("cat",), {"train": [example], "val": [], "test": []}, ())
    write(data, kind, tmp_path / "out", Notes())
    (found,) = read_auto(tmp_path / "out", val_fraction=0, test_fraction=0).splits["train"]
    assert found.boxes.tolist() == [[1, 2, 10, 12.5]]
    assert kind == "arrayrecord" or found.path.name == "caf\u00e9.png"  # its own id stays as it is


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_set_alone_is_read(tmp_path_factory, kind):
    images = [(30, 20, [(1, False, (1, 2, 10, 12.5))])] * 3
    round_trip(tmp_path_factory, kind, (["cat"], images, ["test"] * 3, list(range(7, 16))))


def labelme(picture: Path) -> str:
    shape = {"label": "cat", "points": [[2, 1], [12, 10]], "shape_type": "rectangle"}
    return json.dumps({"imagePath": picture.name, "imageWidth": 30, "imageHeight": 20, "shapes": [shape]})


def voc(picture: Path) -> str:
    box = "<xmin>2</xmin><ymin>1</ymin><xmax>12</xmax><ymax>10</ymax>"
    size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
    named = f"<filename>{picture.name}</filename>"
    return f"<annotation>{named}{size}<object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"


def coco(picture: Path) -> str:
    image = {"id": 1, "file_name": picture.name, "width": 30, "height": 20}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 1, 10, 9], "area": 90, "iscrowd": 0}
    return json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]})


def csv(picture: Path) -> str:
    return f"filename,width,height,class,xmin,ymin,xmax,ymax\n{picture.name},30,20,cat,2,1,12,10\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [("a.json", labelme), ("a.xml", voc), ("_annotations.coco.json", coco), ("_annotations.csv", csv)],
)
@pytest.mark.parametrize("name", ["test", "valid"])
def test_the_only_folder_tells_its_split(tmp_path, name, file, text):
    """What a labelling tool exports for a test set alone is not divided, and nothing of it is trained on."""
    picture = tmp_path / "data" / name / "a.png"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((20, 30, 3), np.uint8))
    (picture.parent / file).write_text(text(picture))
    dataset = read_auto(tmp_path / "data")
    assert {split: len(examples) for split, examples in dataset.splits.items() if examples} == {
        "test" if name == "test" else "val": 1
    }
    assert any(note.startswith("split:") and "no training images" in note for note in dataset.notes)


def round_trip(tmp_path_factory, kind, given_set):
    folder = tmp_path_factory.mktemp(kind)
    dataset = made(folder, *given_set)
    before = content(dataset, kind)
    trained = {name for (split, _), (_, _, boxes, _) in before.items() for name, *_ in boxes}
    write(dataset, kind, folder / "written", Notes())
    read = read_auto(folder / "written")
    assert read.notes[0].startswith(f"format: {kind} (")
    after = content(read, kind)
    assert before.keys() == after.keys()
    for key, (width, height, boxes, number) in before.items():
        assert after[key][:2] == (width, height) and after[key][3] == number
        assert [b[:2] for b in after[key][2]] == [b[:2] for b in boxes]
        np.testing.assert_allclose(
            [b[2:] for b in after[key][2]] or np.zeros((0, 4)), [b[2:] for b in boxes] or np.zeros((0, 4)), atol=1e-4
        )
    assert trained <= set(read.classes) <= set(dataset.classes)
    if kind == "coco":
        number = dict(zip(dataset.classes, dataset.category_ids, strict=True))
        assert read.category_ids == tuple(number[name] for name in read.classes)


def with_areas(folder: Path) -> DetectionDataset:
    """Four images of one box of 100x100 px each, whose objects cover a tenth or all of it; one area is not told."""
    box, parts = np.array([[10, 10, 110, 110]], np.float32), []
    for k, area in enumerate(([1000.0], [10_000.0], [9000.0], None)):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((120, 130, 3), 20 * k, np.uint8))
        parts.append(
            Example(folder / f"{k}.png", 130, 120, box, np.array([1]), np.array([False]), f"{k}.png", areas=area)
        )
    return DetectionDataset("areas", ("cat",), {"test": parts})


def figures(dataset: DetectionDataset) -> dict[str, float]:
    """COCO's twelve figures of detections that miss more from image to image."""
    evaluator = CocoEvaluator(dataset.splits["test"], dataset.classes)
    for k, id in enumerate(sorted(evaluator.examples.ids)):
        evaluator.add(id, [[10, 10, 110, 110 - 12 * k]], [0.9 - 0.1 * k], [1])
    return evaluator.result().summary


@pytest.mark.parametrize("kind", ["arrayrecord", "coco", "tfrecord", "join"])
def test_the_twelve_figures_stay(tmp_path, kind):
    dataset = with_areas(tmp_path)
    expected = figures(dataset)
    assert expected["APs"] not in (None, expected["APl"])
    write(dataset, "coco" if kind == "join" else kind, tmp_path / "new", Notes())
    again = read_join([tmp_path / "new"]) if kind == "join" else read_auto(tmp_path / "new")
    assert figures(again) == expected


def test_every_writer_has_a_reader():
    assert WRITERS.keys() <= FORMATS.keys()
