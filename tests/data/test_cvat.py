import math
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.formats.cvat import read_cvat, recognise
from detect.errors import DataError
from tests.mutations import ODD, count_refusals, damaged

NO_DRAW = {"val_fraction": 0, "test_fraction": 0}
LABELS = "".join(f"<label><name>{name}</name><attributes/></label>" for name in ("dog", "cat", "cow"))
META = f"<meta><task><name>t</name><subset>default</subset><labels>{LABELS}</labels></task></meta>"


def picture(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40)).save(path)


def image(name: str, *shapes: str, **attributes: str) -> str:
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<image id="0" name="{name}" width="60" height="40"{more}>{"".join(shapes)}</image>'


def box(label="cat", corners=(10, 5, 30, 25.5), inside="", **more: object) -> str:
    values = dict(zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)) | {"occluded": 0, "z_order": 0} | more
    return f'<box label="{label}"' + "".join(f' {k}="{v}"' for k, v in values.items()) + f">{inside}</box>"


def write(root: Path, *images: str, meta=META, name="annotations.xml"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
    (root / name).write_text(text + "\n".join(images) + "\n</annotations>\n")


@pytest.fixture
def root(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "images" / name)
    polygon = '<polygon label="dog" points="10.00,20.00;30.50,5.00;25.00,30.00" occluded="0"/>'
    write(tmp_path, image("a.jpg", box(), polygon), image("b.jpg"))
    return tmp_path


def test_boxes_and_background(root):
    data = read_cvat(root, **NO_DRAW)
    assert data.classes == ("dog", "cat")
    a, b = data.splits["train"]
    assert a.boxes.tolist() == [[5, 10, 25.5, 30], [5, 10, 30, 30.5]]
    assert (a.classes.tolist(), b.boxes.shape) == ([2, 1], (0, 4))
    assert (a.id, a.source, a.annotated_size) == ("images/a.jpg", root / "annotations.xml", (60, 40))
    assert data.notes[2:] == (
        "boxes made from polygons, ellipses, masks, cuboids and turned boxes: 1 (dog in a.jpg)",
        "left out, classes without a box: 1 (cow)",
    )
    assert read_cvat(root / "annotations.xml", **NO_DRAW).fingerprint() == data.fingerprint()
    assert recognise(root) == "XML with <annotations>, as CVAT writes it: annotations.xml"


@pytest.mark.parametrize("prefix", ["", "c:"])
def test_a_namespace_does_not_matter(root, prefix):
    expected, path = read_cvat(root, **NO_DRAW).fingerprint(), root / "annotations.xml"
    head, rest = path.read_text().split("\n", 1)
    text = rest.replace("<", f"<{prefix}").replace(f"<{prefix}/", f"</{prefix}")
    declared = f'<{prefix}annotations xmlns{":c" if prefix else ""}="http://a.org/cvat">'
    path.write_text(f"{head}\n{text.replace(f'<{prefix}annotations>', declared)}")
    assert recognise(root) and read_cvat(root, **NO_DRAW).fingerprint() == expected


def test_hulls(root):
    cuboid = " ".join(
        f'x{p}{f}="{x + 4 * f}" y{p}{f}="{y + f}"'
        for f in (1, 2)
        for p, x, y in (("tl", 1, 2), ("bl", 1, 9), ("tr", 7, 2), ("br", 7, 9))
    )
    shapes = [
        box(corners=(10, 10, 30, 20), rotation="90"),
        box(corners=(10, 10, 20, 20), rotation="45"),
        '<ellipse label="cat" cx="20" cy="15" rx="10" ry="5" rotation="90"/>',
        '<mask label="cat" rle="1, 2" left="3" top="4" width="5" height="6"/>',
        f'<cuboid label="cat" {cuboid}/>',
    ]
    write(root, image("a.jpg", *shapes), image("b.jpg"))
    half = 10 / math.sqrt(2)
    expected = [
        [5, 15, 25, 25],
        [15 - half, 15 - half, 15 + half, 15 + half],
        [5, 15, 25, 25],
        [4, 3, 10, 8],
        [3, 5, 11, 15],
    ]
    kept = expected[:2] + expected[3:]  # the ellipse has the box of the first, and a copy is removed
    np.testing.assert_allclose(read_cvat(root, **NO_DRAW).splits["train"][0].boxes, kept, atol=1e-5)


def test_the_hull_of_a_turned_ellipse_holds_its_points(root):
    write(root, image("a.jpg", '<ellipse label="cat" cx="30" cy="20" rx="12" ry="4" rotation="30"/>'), image("b.jpg"))
    t, turn = np.linspace(0, 2 * np.pi, 100_000), np.radians(30)
    x = 30 + 12 * np.cos(t) * np.cos(turn) - 4 * np.sin(t) * np.sin(turn)
    y = 20 + 12 * np.cos(t) * np.sin(turn) + 4 * np.sin(t) * np.cos(turn)
    (found,) = read_cvat(root, **NO_DRAW).splits["train"][0].boxes
    np.testing.assert_allclose(found, [y.min(), x.min(), y.max(), x.max()], atol=1e-4)


def test_an_independent_parse_gives_the_same(root):
    rng = np.random.default_rng(1)
    images = []
    for k in range(6):
        picture(root / "images" / f"{k}.jpg")
        corners = rng.uniform(0, 40, (3, 4)).round(2)
        images.append(image(f"{k}.jpg", *[box(("dog", "cat", "cow")[i], c) for i, c in enumerate(corners)]))
    write(root, *images)
    data = read_cvat(root, **NO_DRAW)
    tree = ElementTree.parse(root / "annotations.xml").getroot()
    assert data.classes == ("dog", "cat", "cow")
    for e, element in zip(data.splits["train"], tree.findall("image"), strict=True):
        assert e.path.name == element.get("name")
        expected = [[float(b.get(k)) for k in ("ytl", "xtl", "ybr", "xbr")] for b in element.findall("box")]
        np.testing.assert_array_equal(e.boxes, np.array(expected, np.float32))
        assert [data.classes[c - 1] for c in e.classes] == [b.get("label") for b in element.findall("box")]


def test_what_is_left_out_is_noted(root):
    more = '<attribute name="pose">left</attribute>'
    others = (
        '<polyline label="cat" points="1,2;3,4"/><points label="cat" points="1,2"/>'
        '<tag label="cow"/><skeleton label="dog"><points label="eye" points="1,2"/></skeleton><blob label="cat"/>'
    )
    write(root, image("a.jpg", box(occluded=1, inside=more), others), image("b.jpg"))
    data = read_cvat(root, **NO_DRAW)
    assert data.notes[2:] == (
        "not used, attributes of objects: 1 (pose of cat in a.jpg)",
        "not used, marks of occluded objects: 1 (cat in a.jpg)",
        "left out, <polyline>, which is no box: 1 (cat in a.jpg)",
        "left out, <points>, which is no box: 1 (cat in a.jpg)",
        "left out, <tag>, which is no box: 1 (cow in a.jpg)",
        "left out, <skeleton>, which is no box: 1 (dog in a.jpg)",
        "not used, elements <blob>: 1 (cat in a.jpg)",
        "left out, classes without a box: 2 (dog, cow)",
    )


def test_corners_that_are_shares_of_the_sides_are_refused(root):
    write(root, image("a.jpg", box(corners=(0, 0.25, 0.5, 1))), image("b.jpg"))
    with pytest.raises(DataError, match=r"annotations\.xml: all corners are from 0 to 1, such as 0\.25; they must be"):
        read_cvat(root)


def test_difficult_objects_are_crowd(root):
    shapes = [
        box(inside=f'<attribute name="difficult">{v}</attribute>', xtl=k) for k, v in enumerate(("false", "true"))
    ]
    write(root, image("a.jpg", *shapes), image("b.jpg"))
    assert read_cvat(root, **NO_DRAW).splits["train"][0].crowd.tolist() == [False, True]


@pytest.mark.parametrize("name", ["ignore", "is_group_of", "Difficult", "crowd"])
def test_other_flags_that_make_an_object_crowd(root, name):
    write(root, image("a.jpg", box(inside=f'<attribute name="{name}">true</attribute>')), image("b.jpg"))
    assert read_cvat(root, **NO_DRAW).splits["train"][0].crowd.tolist() == [True]


def test_subsets_are_splits(tmp_path):
    for name in ("Train/a.jpg", "Validation/a.jpg", "default/c.jpg"):
        picture(tmp_path / "images" / name)
    write(
        tmp_path,
        image("a.jpg", box(), subset="Train"),
        image("a.jpg", box(), subset="Validation"),
        image("c.jpg", box(), subset="default"),
    )
    data = read_cvat(tmp_path)
    assert [[e.id for e in part] for part in data.splits.values()] == [
        ["images/Train/a.jpg", "images/default/c.jpg"],
        ["images/Validation/a.jpg"],
        [],
    ]
    assert "taken as train, images without a subset: 1 (c.jpg)" in data.notes


@pytest.mark.parametrize(
    ("other", "expected"),
    [("batch_1", [2, 0, 0]), ("Validation", [1, 1, 0]), ("val", [1, 1, 0]), ("", [2, 0, 0]), ("val_images", [1, 1, 0])],
)
def test_a_subset_that_names_no_split_is_train(tmp_path, other, expected):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "images" / name)
    write(tmp_path, image("a.jpg", box(), subset="batch_1"), image("b.jpg", box(), subset=other))
    data = read_cvat(tmp_path, **NO_DRAW)
    assert list(map(len, data.splits.values())) == expected
    named = ["batch_1 of a.jpg", *(["batch_1 of b.jpg"] if other == "batch_1" else [])]
    assert f"taken as train, images of subsets that name no split: {len(named)} ({', '.join(named)})" in data.notes


@pytest.mark.parametrize("ending", [".png", ""])
def test_subsets_of_one_split_may_have_equal_names(tmp_path, ending):
    for subset in ("day", "night shift"):
        picture(tmp_path / f"images/{subset}/frame_000000.png")
    images = [image(f"frame_000000{ending}", box(), subset=subset) for subset in ("night shift", "day")]
    write(tmp_path, *images, image(f"gone{ending}", subset="day"))
    with pytest.raises(DataError, match=rf"annotations\.xml: 1 of 3 pictures are missing: gone{ending};"):
        read_cvat(tmp_path)
    write(tmp_path, *images)
    data = read_cvat(tmp_path, **NO_DRAW)
    names = ["images/day/frame_000000.png", "images/night shift/frame_000000.png"]
    assert sorted(e.id for e in data.splits["train"]) == names
    (tmp_path / names[0]).unlink()
    found = rf"'day/frame_000000{ending}' was found only at .*{names[1]}"
    with pytest.raises(DataError, match=rf"is that of image frame_000000{ending} in .*{found}"):
        read_cvat(tmp_path)


def test_the_name_of_the_file_tells_the_split_of_subsets_that_name_none(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "images" / f"{split}.png")
        write(tmp_path, image(f"{split}.png", box(), subset="batch_1"), name=f"{split}/annotations.xml")
    data = read_cvat(tmp_path)
    assert list(map(len, data.splits.values())) == [1, 1, 0]
    assert "taken as val, images of subsets that name no split: 1 (batch_1 of val.png)" in data.notes
    assert any(note.startswith("split: names of files and folders") for note in data.notes)


def test_several_files_and_frames_without_an_ending(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "images" / f"frame_{split}.png")
        write(tmp_path, image(f"frame_{split}", box()), name=f"{split}/annotations.xml")
    data = read_cvat(tmp_path)
    assert [[e.id for e in part] for part in data.splits.values()] == [
        ["train/images/frame_train.png"],
        ["val/images/frame_val.png"],
        [],
    ]


def test_without_labels_in_meta_classes_are_sorted_names(root):
    write(root, image("a.jpg", box("zebra"), box(" ant  hill ", xtl=2)), image("b.jpg"), meta="")
    assert read_cvat(root, **NO_DRAW).classes == ("ant hill", "zebra")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (box(xtl="x"), r": <box> 1 \(cat\): xtl is 'x'; it must be a finite number"),
        (box(ybr="inf"), r": <box> 1 \(cat\): ybr is 'inf'"),
        (box(rotation="left"), r": <box> 1 \(cat\): rotation is 'left'"),
        ('<box label="cat" xtl="1" ytl="2" xbr="3"/>', r": <box> 1 \(cat\) has no ybr"),
        (box("bird"), r": <box> 1: label is 'bird', which is not in <meta>; legal: dog, cat, cow"),
        (box(""), ": <box> 1 has no label"),
        ('<polygon label="cat"/>', r": <polygon> 1 \(cat\) has no points"),
        ('<polygon label="cat" points="1,2;3"/>', r": <polygon> 1 \(cat\): point 2 is '3'; it must be two finite"),
        ('<polygon label="cat" points="1,2;3,y"/>', r"point 2 is '3,y'"),
        ('<mask label="cat" rle="1" left="1" top="2" width="w" height="3"/>', "width is 'w'"),
        (box(inside='<attribute name="difficult">hm</attribute>'), "difficult is 'hm'; it must be true or false"),
    ],
)
def test_bad_values_are_named_with_file_and_image(root, shape, message):
    write(root, image("a.jpg", shape), image("b.jpg"))
    with pytest.raises(DataError, match=r"annotations\.xml: image a\.jpg.*" + message):
        read_cvat(root)


def test_messages_for_files(root):
    write(root, '<track id="0" label="cat"><box frame="0"/></track>')
    with pytest.raises(
        DataError, match=r"annotations\.xml: it has <track>, .*legal is the export 'CVAT for images 1\.1'"
    ):
        read_cvat(root)
    write(root, image("a.jpg"), image("a.jpg"))
    with pytest.raises(DataError, match=r"image a\.jpg: the picture .*images/a\.jpg is that of image a\.jpg in "):
        read_cvat(root)
    write(root, image("a.jpg"), image("z.jpg"))
    with pytest.raises(DataError, match=r"annotations\.xml: 1 of 2 pictures are missing: z\.jpg; searched below"):
        read_cvat(root)
    write(root, image(""))
    with pytest.raises(DataError, match=r"annotations\.xml: element 3, <image>, has no name"):
        read_cvat(root)
    write(root)
    with pytest.raises(DataError, match=r"annotations\.xml: it has no <image>"):
        read_cvat(root)
    (root / "annotations.xml").write_text("<annotations>\n<image>")
    with pytest.raises(DataError, match=r"annotations\.xml, line 2: malformed XML"):
        read_cvat(root)
    (root / "annotations.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"no XML below it has the root element <annotations>; .*annotations\.xml"):
        read_cvat(root)
    with pytest.raises(DataError, match=r"annotations\.xml: the root element is <annotation>; .*<annotations>"):
        read_cvat(root / "annotations.xml")
    assert recognise(root) is None


def test_damaged_files_are_refused_with_one_message(root):
    write(
        root,
        image("a.jpg", box(), box("dog", rotation=10), '<polygon label="cow" points="1,2;3,4;5,9"/>'),
        image("b.jpg"),
    )
    rng = random.Random(0)
    content = (root / "annotations.xml").read_bytes()
    contents = [damaged(content, rng) for _ in range(120)]
    for _ in range(120):
        tree = ElementTree.fromstring(content)
        element = rng.choice([e for e in tree.iter() if e.attrib])
        element.set(rng.choice(list(element.attrib)), rng.choice(ODD).replace("\0", ""))
        contents.append(ElementTree.tostring(tree))
    assert 80 < count_refusals(lambda: read_cvat(root, **NO_DRAW), root / "annotations.xml", contents) < 240


@pytest.mark.parametrize("name", ["task_1_test project", "task_3_dev-kit", "eval_board"])
def test_folders_whose_names_hold_a_word_of_a_split_are_no_splits(tmp_path, name):
    for folder in (name, "task_2"):
        for k in range(8):
            picture(tmp_path / folder / f"{folder}{k}.jpg")
        write(tmp_path / folder, *(image(f"{folder}{k}.jpg", box()) for k in range(8)))
    data = read_cvat(tmp_path, **NO_DRAW)
    assert [len(data.splits[s]) for s in ("train", "val", "test")] == [16, 0, 0]


def test_folders_that_name_train_and_test_are_splits_and_the_note_names_them(tmp_path):
    for folder in ("wagons_train", "wagons_test"):
        picture(tmp_path / folder / f"{folder}.jpg")
        write(tmp_path / folder, image(f"{folder}.jpg", box()))
    data = read_cvat(tmp_path, **NO_DRAW)
    assert [len(data.splits[s]) for s in ("train", "val", "test")] == [1, 0, 1]
    (note,) = (note for note in data.notes if note.startswith("split"))
    assert "test: wagons_test/annotations.xml" in note
