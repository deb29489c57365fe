"""The page of a run from its files: what it says, what it leaves out, and that it needs nothing else."""

import json
import os
import re
import time

import cv2
import numpy as np
import pytest

from detect.errors import DataError
from detect.studies import run_page
from tests.studies.test_html import Checked

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "<b>dog"}]


def scored(folder, split, images=6):
    """A cat in each image, found in all but the last, and a dog where there is none in the first."""
    truth = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(images)],
        "categories": CATEGORIES,
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": 1, "bbox": [4, 4, 40, 40], "iscrowd": 0} for n in range(images)
        ],
    }
    results = [
        {"image_id": n, "category_id": 1, "bbox": [4, 4, 40, 40], "score": 0.9 - n / 10} for n in range(images - 1)
    ]
    results.append({"image_id": 0, "category_id": 2, "bbox": [50, 2, 10, 10], "score": 0.8})
    (folder / f"{split}_ground_truth.json").write_text(json.dumps(truth))
    (folder / f"{split}_detections.json").write_text(json.dumps(results))


@pytest.fixture
def run(tmp_path, make_run):
    folder = make_run(tmp_path / "run", study=None, network="SSD MobileNetV1")
    for split in ("val", "test"):
        scored(folder, split)
    (folder / "config.yaml").write_text("detector: {size: [96, 128]}\n")
    kinds = ("loaded", "skipped", "missing", "unexpected", "mismatched")
    totals = {kind: {"variables": k, "parameters": 1000 * k} for k, kind in enumerate(kinds)}
    (folder / "detector" / "transfer.json").write_text(json.dumps({"source": "a file", "totals": totals}))
    for name in ("results", "test_worst"):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((30, 1600, 3), np.uint8))
    return folder


def cells(folder):
    text = run_page.write_page(folder).read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|src=\"(?!data:)|href=|<script", text)
    return text, Checked(text).cells


def test_what_the_page_says(run):
    export = {"bytes": 2_500_000, "format": "tflite", "options": {"quantize": "ptq", "class_agnostic": True}}
    export |= {"scores": {"split": "test", "images": 6, "file": {"AP": 0.5}, "run": {"AP": 0.625}}}
    (run / "tflite_ptq").mkdir()
    (run / "tflite_ptq" / "export.json").write_text(json.dumps(export | {"latency_ms": {"1": {"file": 12.34}}}))
    text, found = cells(run)
    for caption in ("Model card", "Data", "Start of the weights", "Scores", "Classes on test", "Errors on test",
                    "Suspected labels", "Exported files", "Command", "Where it ran"):  # fmt: skip
        assert f"<h2>{caption}</h2>" in text, caption
    assert found.count("to be filled in") == 5 and "SSD MobileNetV1, frame of 96 x 128 pixels" in found
    # Of the split `test`, AP of the summary is .3; the files say that 5 of 6 cats are found and nothing before them.
    assert any(re.fullmatch(r"0\.832 \[0\.\d{3}, [01]\.\d{3}\]", cell) for cell in found)
    row = found[found.index("cat") :][:9]
    assert row[3:7] == ["0.250", "0.909", "1.000", "0.833"]  # score, F1, precision, recall
    row = found[found.index("background") :][:3]
    assert row == ["background", "1", "0.000"]
    assert found[found.index("missed") + 1] == "1"
    row = found[found.index("tflite_ptq") :][:7]
    assert row == ["tflite_ptq", "ptq, class-agnostic", "0.500", "0.625", "6", "2.50", "12.3"]
    row = found[found.index("a file") - 1 :][:4]
    assert row == ["detector", "a file", "0 (0)", "1 (1,000)"]
    assert "<b>dog" in found and "0.jpg" in found  # a dog without a box is a suspected label
    assert text.count("data:image/png") == 1 and text.count("data:image/jpeg") == 1


def test_a_file_that_was_exported_before_the_run_was_extended_says_so(run):
    steps = json.loads((run / "summary.json").read_text())["steps"]
    for name, of in (("new", steps), ("old", steps - 1), ("older version", None)):
        (run / name).mkdir()
        (run / name / "export.json").write_text(
            json.dumps({"bytes": 1, "format": "tflite", "options": {}, "steps": of})
        )
    _, found = cells(run)
    assert "new" in found and f"old (after {steps - 1} steps)" in found and "older version" in found


def test_a_list_of_evaluate_is_taken(run):
    (run / "evaluation").mkdir()
    lines = "rank,file,image_id,reason,score,label,found\n1,far.jpg,3,never found,0.75,cat,\n"
    (run / "evaluation" / "suspected_labels.csv").write_text(lines)
    text, found = cells(run)
    assert "far.jpg" in found and "The first of 1 in evaluation/suspected_labels.csv." in text


def test_a_run_without_these_files_has_a_page_of_its_summary(tmp_path, make_run):
    text, found = cells(make_run(tmp_path / "run", study=None))
    assert "0.300" in found and "Errors on test" not in text and "Score to show from" not in text


def test_what_is_no_finished_run_is_refused(run):
    with pytest.raises(DataError, match="no finished run"):
        run_page.write_page(run / "detector")
    (run / "test_detections.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"test_ground_truth\.json"):
        run_page.write_page(run)


def test_the_page_of_a_small_run_takes_less_than_two_seconds(run):
    run_page.write_page(run)
    before = time.process_time()
    run_page.write_page(run)
    assert time.process_time() - before < 2


def test_a_page_that_can_not_be_written_is_a_warning(monkeypatch, caplog, tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(run_page, "write_page", full)
    run_page.leave(tmp_path)
    assert caplog.text.count("the run has no page: [Errno 28] No space left") == 1


def test_what_people_write_is_kept(run):
    run_page.write_page(run)
    card = run / "card.yaml"
    assert card.read_text().count("to be filled in") == 5
    card.write_text("Intended use: count <b>cats\nContact: 'yes'\n")
    _, found = cells(run)
    assert found[found.index("Intended use") + 1] == "count <b>cats" and found[found.index("Contact") + 1] == "yes"
    assert found.count("to be filled in") == 4 and card.read_text().startswith("Intended use: count")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "malformed yaml"),
        ("a: [b]\n", "a is .*legal is text"),
        ("b\n", "mapping"),
        ("a: &a [*a]\n", "aliases"),
    ],
)
def test_a_damaged_card_is_named(run, text, said):
    (run / "card.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"card\.yaml: .*{said}"):
        run_page.write_page(run)


def test_the_page_follows_what_is_made_in_the_folder(run):
    page = run_page.write_page(run)
    page.write_text("old")
    run_page.refresh(run.parent / "elsewhere" / "tflite")
    assert page.read_text() == "old"
    run_page.refresh(run / "tflite_ptq")
    assert "Model card" in page.read_text()
    page.unlink()
    run_page.refresh(run / "tflite_ptq")
    assert not page.exists()


def test_a_list_from_before_the_run_was_extended_is_not_taken(run):
    (run / "evaluation").mkdir()
    listed = run / "evaluation" / "suspected_labels.csv"
    listed.write_text("rank,file,image_id,reason,score,label,found\n1,far.jpg,3,never found,0.75,cat,\n")
    os.utime(listed, ns=(0, (run / "summary.json").stat().st_mtime_ns - 10**9))
    _, found = cells(run)
    assert "far.jpg" not in found
