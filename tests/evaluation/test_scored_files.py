"""What scoring writes is read again, to the last bit."""

import json

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.evaluation.coco_json import results_file, truth_file
from detect.evaluation.scored_files import Scored, place_of
from detect.files import write_json
from tests.evaluation.test_coco import random_case


def test_results_never_have_the_folder_of_a_run(tmp_path):
    for name in ("model.tflite", "model.json", "board.onnx"):
        (tmp_path / name).write_text("")
    folders = [place_of(tmp_path / name).name for name in ("", "model.tflite", "model.json", "board.onnx")]
    assert folders == ["evaluation", "evaluation", "evaluation_model", "evaluation_board"]


def test_boxes_scores_and_classes_come_back(tmp_path):
    examples, classes, detections = random_case(4)
    detections = {k: (b.astype(np.float32), s.astype(np.float32), c) for k, (b, s, c) in detections.items()}
    dataset = DetectionDataset("drawn", classes, {"train": (), "val": (), "test": tuple(examples)}, (), None)
    write_json(tmp_path / "test_ground_truth.json", truth_file(dataset, "test"))
    write_json(tmp_path / "test_detections.json", results_file(dataset, "test", detections))
    found = Scored.read(tmp_path, "test")
    assert found.classes == classes and len(found.examples) == len(examples)
    for mine, theirs in zip(found.examples, examples, strict=True):
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
        np.testing.assert_array_equal(mine.crowd, theirs.crowd)
        assert mine.classes.tolist() == theirs.classes.tolist() and mine.path.name == theirs.path.name
        for a, b in zip(found.detections[mine.id], detections[theirs.id], strict=True):
            np.testing.assert_array_equal(a, b)
    assert json.loads((tmp_path / "test_ground_truth.json").read_text())["images"][0]["width"] == 640
