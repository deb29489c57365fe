"""Results of `detect evaluate` and `detect predict` load into COCO's own evaluation of the user's file."""

import contextlib
import io
import json

import pytest

from detect.data.dataset import DetectionDataset
from detect.detector import Detector
from detect.runs.folder import RunFolder
from tests.cli.conftest import picture
from tests.verbs import call

CATEGORIES = ((3, "car"), (90, "brush"))


def box(x, y, width, height):
    """A planted box yxyx from COCO's [x, y, width, height]."""
    return [y, x, y + height, x + width]


FOUND = {
    3: [(box(5, 6, 20, 24), 0.9, 1), (box(30, 6, 20, 20), 0.5, 2), (box(2, 2, 9, 9), 0.5, 1)],
    4: [(box(10, 10, 18, 20), 0.5, 1), (box(11, 30, 20, 10), 0.5, 2), (box(40, 20, 10, 10), 0.4, 2)],
}
"""By number of the picture. Scores are tied across the images, so that the order of the images counts."""


@pytest.fixture
def users(tmp_path):
    """A COCO data set: `test.json` has the images 285 and 139, in this order, and the categories 90 and 3."""
    folder = tmp_path / "users"
    names = {1: "images/train/1.png", 2: "images/train/2.png", 3: "images/test/x/9.png", 4: "images/test/y/9.png"}
    for number, name in names.items():
        picture(folder / name, number)
    categories = [{"id": number, "name": name} for number, name in reversed(CATEGORIES)]

    def write(split, ids, boxes):
        annotations = [
            {"id": k, "image_id": image, "category_id": kind, "bbox": xywh, "area": xywh[2] * xywh[3], "iscrowd": 0}
            for k, (image, kind, xywh) in enumerate(boxes, 1)
        ]
        images = [{"id": i, "file_name": names[n], "width": 64, "height": 48} for i, n in ids]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))

    write("train", [(11, 1), (12, 2)], [(11, 3, [4, 4, 20, 20]), (12, 90, [4, 4, 20, 20])])
    boxes = [
        (285, 3, [5, 5, 20, 25]),
        (285, 90, [30, 5, 20, 22]),
        (139, 3, [10, 10, 20, 20]),
        (139, 90, [30, 30, 9, 9]),
    ]
    write("test", [(285, 3), (139, 4)], boxes)
    return folder


def official(truth, results):
    """COCO's twelve figures by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(str(truth))
        evaluator = COCOeval(ground, ground.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def test_results_of_evaluate_score_against_the_users_file(planted, users):
    run = planted(FOUND, CATEGORIES)
    files = ["dataset.train=train.json", "dataset.test=test.json", "dataset.val=null"]
    output = run / f"evaluation_{users.name}"  # apart from those on the run's own data, which its page shows
    ap = call("evaluate", f"run={run}", "dataset=coco", f"dataset.root={users}", *files)
    results = json.loads((output / "test_detections.json").read_text())
    assert {row["image_id"] for row in results} == {139, 285} and {row["category_id"] for row in results} == {3, 90}
    assert {row["file_name"] for row in results} == {"x/9.png", "y/9.png"}
    assert 0 < ap < 1 and official(users / "test.json", output / "test_detections.json")[0] == pytest.approx(
        ap, abs=1e-6
    )
    ground = output / "test_ground_truth.json"
    assert official(ground, output / "test_detections.json")[0] == pytest.approx(ap, abs=1e-6)
    truth = json.loads(ground.read_text())
    assert [(image["id"], image["file_name"]) for image in truth["images"]] == [(285, "x/9.png"), (139, "y/9.png")]
    assert truth["categories"] == [{"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]


def test_results_of_predict_score_against_the_users_file(planted, users, tmp_path):
    run = planted(FOUND, CATEGORIES)
    files = ["dataset.train=train.json", "dataset.test=test.json", "dataset.val=null"]
    evaluated, output = tmp_path / "evaluated", tmp_path / "out"
    ap = call("evaluate", f"run={run}", "dataset=coco", f"dataset.root={users}", *files, f"output={evaluated}")
    ours = json.loads((evaluated / "test_scores.json").read_text())
    call("predict", f"run={run}", f"images={users}/images/test", f"annotations={users}/test.json", f"output={output}")
    figures = official(users / "test.json", output / "detections.json")
    assert figures[0] == pytest.approx(ap, abs=1e-6)
    assert figures[1:3] == pytest.approx([ours["AP50"], ours["AP75"]], abs=1e-6)
    rows = [json.loads((folder / name).read_text()) for folder, name in
            ((evaluated, "test_detections.json"), (output, "detections.json"))]  # fmt: skip
    assert sorted(map(str, rows[0])) == sorted(map(str, rows[1]))  # one dialect


def test_ids_that_are_text_stay_text(planted, users, tmp_path):
    text = (users / "test.json").read_text().replace("285", '"b 2"').replace("139", '"a-1"')
    (users / "test.json").write_text(text)
    run, output = planted(FOUND, CATEGORIES), tmp_path / "out"
    files = ["dataset.train=train.json", "dataset.test=test.json", "dataset.val=null"]
    ap = call("evaluate", f"run={run}", "dataset=coco", f"dataset.root={users}", *files, f"output={output}")
    results = output / "test_detections.json"
    assert {row["image_id"] for row in json.loads(results.read_text())} == {"a-1", "b 2"}
    assert 0 < ap < 1 and official(output / "test_ground_truth.json", results)[0] == pytest.approx(ap, abs=0.05)  # ties


def test_a_run_and_its_exports_keep_the_numbers_of_the_categories(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "classes.json").write_text('["car", "brush"]')  # a run of an earlier version
    assert run.class_names() == ("car", "brush") and run.category_ids() == (1, 2)
    from omegaconf import OmegaConf

    run.save(OmegaConf.create({"seed": 0}), DetectionDataset("mine", ("car", "brush"), {}, (), (3, 90)))
    assert json.loads(run.classes.read_text()) == [{"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]
    assert run.class_names() == ("car", "brush") and run.category_ids() == (3, 90)


def test_a_detector_without_numbers_counts_from_1():
    assert Detector(lambda images: [], ("a", "b"), (8, 8), "x").category_ids == (1, 2)
