import io
import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.formats import coco
from detect.data.formats.labelme import read_labelme, recognise
from detect.errors import DataError
from tests.mutations import count_refusals, damaged, with_odd_value

NO_DRAW = {"val_fraction": 0, "test_fraction": 0}


def shape(label="cat", points=((10, 5), (30, 25.5)), kind="rectangle", **more):
    return {
        "label": label,
        "points": [list(p) for p in points],
        "group_id": None,
        "shape_type": kind,
        "flags": {},
        **more,
    }


def write(root: Path, name: str, *shapes, picture=True, **more):
    """A picture of 60x40, and its json; `more` replaces keys of the json."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture:
        Image.new("RGB", (60, 40)).save(path)
    content = {
        "version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": path.name, "imageData": "AAAA",
        "imageHeight": 40, "imageWidth": 60, **more,
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(content))
    return content


@pytest.fixture
def root(tmp_path):
    triangle = shape("dog", [(10, 20), (30, 5), (25.5, 30)], "polygon")
    write(
        tmp_path, "a.jpg", shape(points=[(30, 25.5), (10, 5)]), triangle, shape("dog", [(20, 20), (23, 24)], "circle")
    )
    write(tmp_path, "b.jpg")
    return tmp_path


def test_boxes_and_background(root):
    data = read_labelme(root, **NO_DRAW)
    assert data.classes == ("cat", "dog")
    a, b = data.splits["train"]
    assert a.boxes.tolist() == [[5, 10, 25.5, 30], [5, 10, 30, 30], [15, 15, 25, 25]]
    assert (a.classes.tolist(), b.boxes.shape) == ([1, 2, 2], (0, 4))
    assert (a.id, a.source, a.annotated_size) == ("a.jpg", root / "a.json", (60, 40))
    assert "boxes made from polygons, circles, masks and turned boxes: 2 (dog in a.json, dog in a.json)" in data.notes
    assert recognise(root) == "json with shapes and imagePath: a.json"


def test_the_hulls_are_those_of_an_independent_parse(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(5):
        shapes = [
            shape(f"c{i % 3}", rng.uniform(0, 40, (rng.integers(3, 9), 2)).round(3).tolist(), "polygon")
            for i in range(4)
        ]
        write(tmp_path, f"{k}.jpg", *shapes)
    for e in read_labelme(tmp_path, **NO_DRAW).splits["train"]:
        expected = []
        for entry in json.loads(e.path.with_suffix(".json").read_text())["shapes"]:
            x, y = zip(*entry["points"], strict=True)
            expected.append([min(y), min(x), max(y), max(x)])
        np.testing.assert_array_equal(e.boxes, np.array(expected, np.float32))


def test_a_mask_ends_after_its_last_pixel_and_a_polygon_is_the_kind_of_old_files(tmp_path):
    old = {"label": "cat", "line_color": None, "fill_color": None, "points": [[1, 2], [3, 2], [3, 9]]}
    write(tmp_path, "a.jpg", shape(kind="mask", mask="AAAA"), old)
    (e,) = read_labelme(tmp_path, **NO_DRAW).splits["train"]
    assert e.boxes.tolist() == [[5, 10, 26.5, 31], [2, 1, 9, 3]]


def test_what_is_left_out_is_noted(tmp_path):
    write(
        tmp_path, "a.jpg", shape(), shape(points=[(1, 1)], kind="point"), shape(points=[(1, 1), (2, 2)], kind="line"),
        shape(points=[(1, 1), (2, 2), (5, 6)], kind="linestrip"), shape(points=[(3, 4), (3, 9)]),
        shape("dog", group_id=7, flags={"occluded": True, "seen": False}, description="old"), flags={"night": True},
    )  # fmt: skip
    Image.new("RGB", (9, 9)).save(tmp_path / "unlabelled.png")
    data = read_labelme(tmp_path, **NO_DRAW)
    assert len(data.splits["train"][0].boxes) == 2
    assert data.notes[2:] == (
        "not used, flags of pictures: 1 (night of a.json)",
        "left out, shapes without area: point: 1 (cat in a.json)",
        "left out, shapes without area: line: 1 (cat in a.json)",
        "left out, shapes without area: linestrip: 1 (cat in a.json)",
        "left out, shapes without area: rectangle: 1 (cat in a.json)",
        "not used, keys of shapes: 1 (description of dog in a.json)",
        "shapes with a group_id, each stays a box of its own: 1 (dog in a.json)",
        "not used, flags of shapes: 1 (occluded of dog in a.json)",
        "not used, pictures: 1 (unlabelled.png)",
    )


def test_corners_that_are_shares_of_the_sides_are_refused(tmp_path):
    write(tmp_path, "a.jpg", shape(points=[(0, 0.25), (0.5, 1)]))
    with pytest.raises(DataError, match=r"a\.json: all corners are from 0 to 1, such as 0\.25; they must be pixels"):
        read_labelme(tmp_path)


def test_difficult_shapes_are_crowd(tmp_path):
    write(tmp_path, "a.jpg", shape(), shape("dog", flags={"difficult": True}), shape("cow", difficult=True))
    write(tmp_path, "b.jpg", shape("dog", flags={"Ignore": True}), shape("cow", flags={"crowd": False}))
    (a, b) = read_labelme(tmp_path, **NO_DRAW).splits["train"]
    assert (a.crowd.tolist(), b.crowd.tolist()) == ([False, True, True], [True, False])


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rotation", "quadrilateral", "cuboid", None])
def test_hulls_of_the_shapes_of_other_versions_and_tools(tmp_path, kind):
    write(tmp_path, "a.jpg", shape(points=[(20, 5), (30, 15), (20, 25), (10, 15)], kind=kind))
    data = read_labelme(tmp_path, **NO_DRAW)
    assert data.splits["train"][0].boxes.tolist() == [[5, 10, 25, 30]]
    assert "boxes made from polygons, circles, masks and turned boxes: 1 (cat in a.json)" in data.notes


@pytest.mark.parametrize(("kind", "points"), [("rectangle", []), ("polygon", []), (None, []), ("polygon", [(1, 2)])])
def test_an_empty_shape_is_left_out_and_noted(tmp_path, kind, points):
    write(tmp_path, "a.jpg", shape(), shape("dog", points=points, kind=kind))
    data = read_labelme(tmp_path, **NO_DRAW)
    assert len(data.splits["train"][0].boxes) == 1
    assert f"left out, shapes without area: {kind or 'polygon'}: 1 (dog in a.json)" in data.notes


def test_a_file_as_x_anylabeling_writes_it(tmp_path):
    more = {"score": 0.5, "description": "", "difficult": True, "attributes": {}, "kie_linking": [], "direction": 0.8}
    turned = shape(points=[(20, 5), (30, 15), (20, 25), (10, 15)], kind="rotation", **more)
    write(tmp_path, "a.jpg", shape(points=[(1, 2), (9, 2), (9, 8), (1, 8)]), turned, imageData=None, description="")
    (e,) = read_labelme(tmp_path, **NO_DRAW).splits["train"]
    assert e.boxes.tolist() == [[2, 1, 8, 9], [5, 10, 25, 30]] and e.crowd.tolist() == [False, True]


def test_pictures_inside_the_files_do_not_stay_in_memory(tmp_path):
    for k in range(20):
        write(tmp_path, f"{k}.jpg", shape(), imageData="A" * 3_000_000)
    tracemalloc.start()
    try:
        read_labelme(tmp_path, **NO_DRAW)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 30_000_000, "ten of the twenty files; a file that is being parsed takes up to three times its size"


@pytest.mark.parametrize(
    "path", ["..\\images\\a.jpg", "../images/a.jpg", "C:\\Users\\me\\images\\A.JPG", "old name.jpg"]
)
def test_pictures_elsewhere(tmp_path, path):
    write(tmp_path / "json", "a.jpg", shape(), picture=False, imagePath=path)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "a.jpg")
    assert [e.id for e in read_labelme(tmp_path, **NO_DRAW).splits["train"]] == ["images/a.jpg"]


@pytest.mark.parametrize("namesake", [False, True])
def test_behind_a_link_the_picture_is_the_one_that_the_system_finds(tmp_path, namesake):
    """`..` of a linked folder is the folder around its target, not the one around the link."""
    write(tmp_path / "far/json", "0.jpg", shape(), picture=False, imagePath="../images/0.jpg")
    (tmp_path / "far/images").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "far/images/0.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/json").symlink_to(tmp_path / "far/json")
    if namesake:
        (tmp_path / "root/images").mkdir()
        Image.new("RGB", (60, 40)).save(tmp_path / "root/images/0.jpg")
    data = read_labelme(tmp_path / "root", **NO_DRAW)
    assert [e.path.resolve() for e in data.splits["train"]] == [tmp_path.resolve() / "far/images/0.jpg"]
    assert any(note.startswith("read, although they are outside") for note in data.notes)
    assert ("not used, pictures: 1 (images/0.jpg)" in data.notes) == namesake


@pytest.mark.parametrize("around", ["dev", "test"])
def test_pictures_outside_of_the_root_tell_no_split_and_have_relative_ids(tmp_path, around):
    for name in ("0", "1"):
        write(
            tmp_path / around / "set/json", f"{name}.jpg", shape(), picture=False, imagePath=f"..\\images\\{name}.jpg"
        )
        (tmp_path / around / "set/images").mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / around / f"set/images/{name}.jpg")
    data = read_labelme(tmp_path / around / "set/json", **NO_DRAW)
    assert [e.id for e in data.splits["train"]] == ["../images/0.jpg", "../images/1.jpg"]
    (tmp_path / around).rename(tmp_path / "moved")
    assert read_labelme(tmp_path / "moved/set/json", **NO_DRAW).fingerprint() == data.fingerprint()


def test_folders_of_splits_outside_of_the_root_count_if_each_picture_lies_in_one(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / "dev/json", f"{split}.jpg", shape(), picture=False, imagePath=f"../{split}/{split}.jpg")
        (tmp_path / "dev" / split).mkdir()
        Image.new("RGB", (60, 40)).save(tmp_path / "dev" / split / f"{split}.jpg")
    data = read_labelme(tmp_path / "dev/json")
    assert [[e.path.stem for e in data.splits[s]] for s in ("train", "val")] == [["train"], ["val"]]
    write(tmp_path / "dev/json", "x.jpg", shape(), picture=False, imagePath="../images/x.jpg")
    (tmp_path / "dev/images").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "dev/images/x.jpg")
    assert len(read_labelme(tmp_path / "dev/json", **NO_DRAW).splits["train"]) == 3


def test_another_picture_than_that_of_the_name_is_noted(tmp_path):
    write(tmp_path, "a.jpg", shape(), imagePath="b.jpg")
    write(tmp_path, "c.jpg", shape())
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    data = read_labelme(tmp_path, **NO_DRAW)
    assert sorted(e.id for e in data.splits["train"]) == ["b.jpg", "c.jpg"]
    kind = "imagePath names another picture than the one with the name of the json, which is there, too"
    assert f"{kind}: 1 (a.json names b.jpg)" in data.notes


def test_folders_of_splits_with_other_words(tmp_path):
    for name in ("train_json", "val_json"):
        write(tmp_path / name, f"{name}.jpg", shape())
    data = read_labelme(tmp_path)
    assert [[e.id for e in data.splits[s]] for s in ("train", "val")] == [
        ["train_json/train_json.jpg"],
        ["val_json/val_json.jpg"],
    ]


def test_a_class_that_is_called_train(tmp_path):
    for name in ("bus", "train"):
        write(tmp_path, f"{name}/a.jpg", shape(name))
    data = read_labelme(tmp_path, **NO_DRAW)
    assert [e.id for e in data.splits["train"]] == ["bus/a.jpg", "train/a.jpg"]


def test_a_folder_of_val_alone_tells_the_split(tmp_path):
    write(tmp_path, "val/a.jpg", shape())
    data = read_labelme(tmp_path)
    assert (
        "split: the folders' names; no training images; no test images" in data.notes and len(data.splits["val"]) == 1
    )


def test_folders_of_splits(tmp_path):
    for name in ("train/a.jpg", "train/b.jpg", "valid/a.jpg", "other/c.jpg"):
        write(tmp_path, name, shape())
    data = read_labelme(tmp_path, test_fraction=0)
    assert [[e.id for e in part] for part in data.splits.values()] == [
        ["train/a.jpg", "train/b.jpg"],
        ["valid/a.jpg"],
        [],
    ]
    assert "left out, files outside the folders of the splits: 1 (other/c.json)" in data.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": None}, "shapes is None; it must be a list"),
        ({"shapes": [1]}, r"shapes\[0\] is 1; it must be an object"),
        ({"imagePath": 3}, "imagePath is 3; it must be the name of the picture"),
        ({"imageWidth": "wide"}, "imageWidth is 'wide'; it must be a number of pixels"),
        ({"flags": 1}, "flags is 1; it must be an object of flags"),
        ({"shapes": [shape(label=None)]}, r"shapes\[0\]: label is None; it must be the name of a class"),
        ({"shapes": [shape(label=" ")]}, r"shapes\[0\]: label is ' '"),
        (
            {"shapes": [shape(kind="star")]},
            r"shapes\[0\] \(cat\): shape_type is 'star'; legal: rectangle, polygon, .*point",
        ),
        ({"shapes": [shape(points=[(1, 2)])]}, r"shapes\[0\] \(cat\): 1 points; a rectangle has 2 or more"),
        ({"shapes": [shape(points=[(1, 2), (3, 4), (5, 6)], kind="circle")]}, "3 points; a circle has 2"),
        ({"shapes": [shape() | {"points": None}]}, "points is None; it must be a list of points"),
        ({"shapes": [shape(points=[(1, 2), (3, "x")])]}, r"points\[1\] is \[3, 'x'\]; it must be two finite numbers"),
        ({"shapes": [shape(points=[(1, 2), (3, float("nan"))])]}, r"points\[1\] is \[3, nan\]"),
        ({"shapes": [shape(difficult="perhaps")]}, "difficult is 'perhaps'; it must be true or false"),
        ({"shapes": [shape(flags={"difficult": -7})]}, "flags: difficult is -7; it must be true or false"),
    ],
)
def test_bad_values_are_named_with_file_and_shape(tmp_path, change, message):
    write(tmp_path, "a.jpg", **change)
    with pytest.raises(DataError, match=r"a\.json: (shapes\[0\] \(cat\): )?" + message):
        read_labelme(tmp_path)


def test_messages_for_files(root):
    (root / "b.json").write_text('{\n"shapes": [}')
    with pytest.raises(DataError, match=r"b\.json, line 2: malformed json"):
        read_labelme(root)
    write(root, "b.jpg", imagePath="a.jpg")
    with pytest.raises(DataError, match=r"b\.json: two files are about the picture .*a\.jpg: a\.json and b\.json"):
        read_labelme(root)
    write(root, "b.jpg")
    (root / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.json: there is no picture 'b\.jpg' \(imagePath\), .*labelme_export_json"):
        read_labelme(root)
    for name in ("a.json", "b.json"):
        (root / name).write_text('{"images": []}')
    with pytest.raises(DataError, match=r"no json below it has the keys 'shapes' and 'imagePath'; .*a\.json, b\.json"):
        read_labelme(root)
    assert recognise(root) is None


def test_a_missing_picture_that_another_folder_has_is_named(tmp_path):
    write(tmp_path, "a/1.jpg", shape(), picture=False)
    write(tmp_path, "b/1.jpg", shape())
    found = r"a/1\.json: 'a/1\.jpg' was found only at .*b/1\.jpg; is its own missing"
    with pytest.raises(DataError, match=rf"the picture .*b/1\.jpg: a/1\.json and b/1\.json.*{found}"):
        read_labelme(tmp_path)


def test_the_pictures_inside_the_files_are_not_read_to_recognise_the_format(tmp_path, monkeypatch):
    for k in range(30):
        write(tmp_path, f"{k}.jpg", shape(), imageData="A" * 300_000)
    (tmp_path / "sorted.json").write_text(json.dumps(write(tmp_path, "x.jpg", imageData="A" * 300_000), sort_keys=True))
    read, real = [], io.BufferedReader.read
    opened = Path.open

    class Counted(io.BufferedReader):
        def read(self, size=-1):
            read.append(len(text := real(self, size)))
            return text

    monkeypatch.setattr(Path, "open", lambda path, mode="r": Counted(io.FileIO(path)) if mode == "rb" else opened(path))
    assert coco.recognise(tmp_path) is None and 0 < sum(read) < 200_000


@pytest.mark.parametrize("first", [False, True])
def test_long_shapes_beside_the_picture_inside(tmp_path, first):
    """The key imagePath lies far from both ends of the file."""
    ring = [(10 + k / 1000, 20 - k / 1000) for k in range(5000)]
    content = write(tmp_path, "a.jpg", shape(points=ring, kind="polygon"), imageData="A" * 100_000)
    order = ["imageData", "imagePath", "shapes"] if first else ["shapes", "imagePath", "imageData"]
    (tmp_path / "a.json").write_text(json.dumps({key: content[key] for key in order}))
    assert recognise(tmp_path) and read_labelme(tmp_path, **NO_DRAW).classes == ("cat",)
    (tmp_path / "a.json").write_text(json.dumps({key: content[key] for key in order if key != "imagePath"}))
    assert recognise(tmp_path) is None


def test_damaged_files_are_refused_with_one_message(root):
    write(root, "c.jpg", shape())
    rng = random.Random(0)
    content = (root / "a.json").read_bytes()
    contents = [damaged(content, rng) for _ in range(120)]
    contents += [json.dumps(with_odd_value(json.loads(content), rng)).encode() for _ in range(120)]
    assert 80 < count_refusals(lambda: read_labelme(root, **NO_DRAW), root / "a.json", contents) < 240
