"""What another program has found is scored as the own detections of a detector are."""

import json
import shutil

import pytest

from detect.errors import ConfigError, DataError
from tests.verbs import call

DATA = ("dataset=digits", "dataset.images={train:16,val:4,test:4}")


@pytest.fixture
def found(small_run, tmp_path):
    """The detections of a small run in a file elsewhere, and the scores that it has for them."""
    path = tmp_path / "other.json"
    shutil.copy(small_run[0] / "test_detections.json", path)
    return path, json.loads((small_run[0] / "summary.json").read_text())["scores"]["test"]


def test_detections_of_another_program_have_the_scores_of_the_detector(small_run, found, tmp_path):
    path, scores = found
    assert call("evaluate", f"detections={path}", *DATA) == pytest.approx(scores["AP"], abs=1e-6)
    folder = tmp_path / "evaluation_other"
    after = json.loads((folder / "test_scores.json").read_text())
    assert after["per_class"].keys() == scores["per_class"].keys()
    assert after["AR100"] == pytest.approx(scores["AR100"], abs=1e-6)
    call("compare", f"runs=[{small_run[0]},{folder}]", f"output={tmp_path / 'comparison'}")
    rows = json.loads((tmp_path / "comparison" / "comparison.json").read_text())["figures"]
    assert [row[f"{folder} difference"] for row in rows if row["class"] == "all classes"] == [0, 0]


def test_a_file_in_the_folder_of_a_run_is_scored_on_its_data(small_run, found, tmp_path):
    path = small_run[0] / "test_detections.json"
    assert call("evaluate", f"detections={path}", f"output={tmp_path}") == pytest.approx(found[1]["AP"], abs=1e-6)


def test_what_needs_a_detector_is_refused_for_detections(found):
    with pytest.raises(ConfigError, match=r"tile=auto needs a detector; with detections=FILE leave it out"):
        call("evaluate", f"detections={found[0]}", "tile=auto")
    with pytest.raises(ConfigError, match=r"is not in the folder of a run, so it needs a data set"):
        call("evaluate", f"detections={found[0]}")
    with pytest.raises(ConfigError, match=r"name one of run=RUN"):
        call("evaluate", f"detections={found[0]}", "run=RUN")


def test_an_image_of_another_split_is_named(found):
    rows = json.loads(found[0].read_text())
    found[0].write_text(json.dumps([*rows, rows[0] | {"image_id": "x", "file_name": "x.png"}]))
    with pytest.raises(DataError, match=rf"row {len(rows)}: image 'x.png' is none of the split"):
        call("evaluate", f"detections={found[0]}", *DATA)
