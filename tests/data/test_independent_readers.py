"""The same files, read by the project and by other readers: globox, pycocotools, and a fresh parse."""

import contextlib
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import globox
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.cli.convert import write
from detect.data.dataset import DetectionDataset
from detect.data.digits import make_digits
from detect.data.formats.auto import read_auto
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.files import cache_folder

Rows = dict[str, list[tuple]]


@pytest.fixture(scope="module")
def digits() -> DetectionDataset:
    return make_digits(cache_folder(), {"train": 16, "val": 4, "test": 4})


@pytest.fixture(scope="module")
def written(digits, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("written")
    for kind in ("voc", "coco", "yolo"):
        write(digits, kind, root / kind, Notes())
    return root


def rows_of(dataset: DetectionDataset, splits) -> Rows:
    """Class name and xmin, ymin, xmax, ymax of each box, by the stem of its image."""
    examples = [e for split in splits for e in dataset.splits[split]]
    return {
        Path(e.id).stem: sorted(
            (dataset.classes[c - 1], *np.round(b[[1, 0, 3, 2]].astype(float), 2))
            for c, b in zip(e.classes, e.boxes, strict=False)
        )
        for e in examples
    }


def rows_of_globox(annotations: globox.AnnotationSet, names=None, shift: float = 0) -> Rows:
    """shift: added to xmin and ymin, for readers that take inclusive corners as they are."""
    found = {}
    for a in annotations:
        found[Path(a.image_id).stem] = sorted(
            (names[int(b.label)] if names else b.label, *np.round((b.xmin + shift, b.ymin + shift, b.xmax, b.ymax), 2))
            for b in a.boxes
        )
    return found


def equal(first: Rows, second: Rows) -> None:
    assert first.keys() == second.keys()
    for key in first:
        assert [row[0] for row in first[key]] == [row[0] for row in second[key]]
        np.testing.assert_allclose([row[1:] for row in first[key]], [row[1:] for row in second[key]], atol=0.02)


@pytest.mark.parametrize("split", SPLITS)
def test_voc(written, split):
    """globox takes the inclusive corners of VOC, which count from 1, as they are: its boxes begin one pixel later."""
    ours, folder = rows_of(read_auto(written / "voc"), [split]), written / "voc/Annotations" / split
    equal(ours, rows_of_globox(globox.AnnotationSet.from_pascal_voc(folder), shift=-1))
    fresh = {}
    for path in folder.glob("*.xml"):
        rows = []
        for item in ElementTree.parse(path).getroot().findall("object"):
            xmin, ymin, xmax, ymax = (float(item.findtext(f"bndbox/{t}")) for t in ("xmin", "ymin", "xmax", "ymax"))
            rows.append((item.findtext("name"), *np.round((xmin - 1, ymin - 1, xmax, ymax), 2)))
        fresh[path.stem] = sorted(rows)
    equal(ours, fresh)


@pytest.mark.parametrize("split", SPLITS)
def test_coco(written, split):
    ours = rows_of(read_auto(written / "coco"), [split])
    path = written / f"coco/annotations/{split}.json"
    equal(ours, rows_of_globox(globox.AnnotationSet.from_coco(path)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
    names = {c["id"]: c["name"] for c in truth.loadCats(truth.getCatIds())}
    theirs: Rows = {Path(image["file_name"]).stem: [] for image in truth.loadImgs(truth.getImgIds())}
    for a in truth.loadAnns(truth.getAnnIds()):
        x, y, width, height = a["bbox"]
        stem = Path(truth.loadImgs(a["image_id"])[0]["file_name"]).stem
        theirs[stem].append((names[a["category_id"]], *np.round((x, y, x + width, y + height), 2)))
    equal(ours, {stem: sorted(rows) for stem, rows in theirs.items()})


@pytest.mark.parametrize("split", SPLITS)
def test_yolo(written, digits, split):
    ours = read_auto(written / "yolo")
    suffix = digits.splits[split][0].path.suffix
    theirs = globox.AnnotationSet.from_yolo_v5(
        written / f"yolo/labels/{split}", image_folder=written / f"yolo/images/{split}", image_extension=suffix
    )
    equal(rows_of(ours, [split]), rows_of_globox(theirs, names=dict(enumerate(ours.classes))))


def test_data_in_another_format_scores_the_same(written, digits, tmp_path):
    """Boxes with noise, scored by pycocotools against what `convert` wrote and against the original: equal figures."""
    generator = np.random.default_rng(0)
    original = digits.splits["val"]
    found = {Path(e.id).stem: e.boxes + generator.normal(0, 4, e.boxes.shape) for e in original}
    figures = []
    for kind in ("voc", "coco", "yolo"):
        dataset = read_auto(written / kind)
        target = tmp_path / kind
        write(dataset, "coco", target, Notes())
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(target / "annotations/val.json"))
            results = []
            for image in truth.loadImgs(truth.getImgIds()):
                example = next(e for e in dataset.splits["val"] if Path(e.id).stem == Path(image["file_name"]).stem)
                for k, (ymin, xmin, ymax, xmax) in enumerate(found[Path(image["file_name"]).stem].tolist()):
                    label = dataset.category_ids[example.classes[k] - 1]
                    results.append(
                        {"image_id": image["id"], "category_id": label, "score": 0.9 - 0.01 * k,
                         "bbox": [xmin, ymin, xmax - xmin, ymax - ymin]}
                    )  # fmt: skip
            evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        figures.append(evaluation.stats)
    np.testing.assert_allclose(figures[1], figures[0], atol=1e-6)
    np.testing.assert_allclose(figures[2], figures[0], atol=1e-6)
    assert 0.2 < figures[0][0] < 0.95
