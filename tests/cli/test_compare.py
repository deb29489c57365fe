"""Two detectors on the same images, from the files that scoring leaves; and what is refused."""

import copy
import csv
import functools
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from detect.cli import compare as verb
from detect.config.compose import compose
from detect.config.shorthand import written_out
from detect.data.examples import Example
from detect.errors import ConfigError, DataError
from detect.evaluation.comparison import Contender, differing
from detect.evaluation.scored_files import Scored
from tests.cli.conftest import picture
from tests.evaluation.test_results_file import Compared
from tests.verbs import call

TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in (1, 2, 3)],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [4, 4, 20, 20], "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [30, 10, 20, 30], "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 3, "bbox": [10, 10, 30, 30], "iscrowd": 0},
    ],
}


@functools.cache
def missing_data() -> str:
    """The configuration of a run whose data set is gone."""
    return OmegaConf.to_yaml(compose(["dataset=voc", "dataset.root=/none"], "train"))


def result(box, score=0.9):
    return {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": score}


ALL = [result(box) for box in TRUTH["annotations"]]


def run(folder: Path, results, truth=TRUTH, threshold=None) -> Path:
    """A folder with the files that `compare` reads."""
    folder.mkdir(parents=True)
    (folder / "test_ground_truth.json").write_text(json.dumps(truth))
    (folder / "test_detections.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text(missing_data())
    if threshold is not None:
        (folder / "classes.json").write_text(json.dumps(TRUTH["categories"]))
        shipped = {"score": threshold, "split": "val", "per_class": [None, None]}
        (folder / "thresholds.json").write_text(json.dumps({"shipped": shipped}))
    return folder


def test_the_words_are_the_runs():
    assert written_out(["a", "b c", "split=val"], "compare", {}, []) == ["split=val", "runs=['a','b c']"]
    assert written_out(["runs=[a,b]"], "compare", {}, []) == ["runs=[a,b]"]
    assert written_out(["runs=2024"], "compare", {}, []) == ["runs='2024'"]


def test_tables_and_images_of_two_detectors(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    a = run(tmp_path / "a", [*ALL[:2], result(TRUTH["annotations"][2], 0.2)], threshold=0.15)
    b = run(tmp_path / "b", [*ALL[:2], result(TRUTH["annotations"][0] | {"bbox": [40, 30, 9, 9]}, 0.95)])
    files = {f"{n}.png": picture(tmp_path / f"{n}.png", n) for n in (1, 2, 3)}
    monkeypatch.setattr("detect.cli.compare.image_files", lambda *_: files)
    call("compare", f"runs=[{a},{b}]", f"output={tmp_path}/out")
    rows = {(r["figure"], r["class"]): r for r in csv.DictReader((tmp_path / "out" / "comparison.csv").open())}
    whole = rows["AP", "all classes"]
    assert float(whole[str(a)]) == 1.0
    # Of the cats, one of two is found, after a false one: precision .5 up to recall .5. All dogs are found.
    assert float(whole[str(b)]) == pytest.approx((51 / 101 / 2 + 1) / 2)
    assert float(whole[f"{b} difference"]) == pytest.approx(float(whole[str(b)]) - 1)
    assert float(rows["AP50", "dog"][f"{b} difference"]) == 0.0
    images = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    assert [(row["file"], row["difference"]) for row in images] == [("1.png", "1"), ("3.png", "1")]
    assert images[0][f"{b} without a box"] == "1" and images[1][f"{b} missed"] == "1"
    levels = json.loads((tmp_path / "out" / "comparison.json").read_text())["levels"]
    assert levels == {str(a): 0.15, str(b): 0.3}
    assert cv2.imread(str(tmp_path / "out" / "differences.png")) is not None
    console = "\n".join(record.getMessage() for record in caplog.records)
    assert re.search(r"AP +all classes +1\.000 +0\.626 +-0\.374 \[", console)
    assert [line for line in console.splitlines() if len(line) > 80 and "pytest" not in line] == []


def test_without_the_images_there_is_no_sheet(tmp_path):
    a, b = run(tmp_path / "a", ALL), run(tmp_path / "b", ALL[:1])
    call("compare", f"runs=[{a},{b}]")
    assert sorted(p.name for p in (a / "comparison").iterdir()) == ["comparison.csv", "comparison.json", "images.csv"]


@pytest.mark.parametrize("error", [PermissionError("no"), InstantiationException("no")])
def test_data_that_may_not_be_read_cost_only_the_sheet(tmp_path, monkeypatch, error):
    def refused(*_, **__):
        raise error

    a, b = run(tmp_path / "a", ALL), run(tmp_path / "b", ALL[:1])
    monkeypatch.setattr("detect.runs.dataset.dataset_of", refused)
    call("compare", f"runs=[{a},{b}]")
    assert (a / "comparison" / "comparison.csv").exists()


def test_images_are_the_same_by_name_in_any_order_and_with_any_ids(tmp_path):
    other = copy.deepcopy(TRUTH)
    other["images"] = [image | {"id": 10 * image["id"]} for image in other["images"]][::-1]
    other["annotations"] = [box | {"image_id": 10 * box["image_id"]} for box in other["annotations"]]
    a = run(tmp_path / "a", ALL)
    b = run(tmp_path / "b", [row | {"image_id": 10 * row["image_id"]} for row in ALL], other)
    call("compare", f"runs=[{a},{b}]")
    rows = list(csv.DictReader((a / "comparison" / "comparison.csv").open()))
    assert all(float(row[str(b)]) == 1.0 for row in rows)


def changed(**parts):
    return copy.deepcopy(TRUTH) | parts


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (
            changed(images=TRUTH["images"][:2], annotations=TRUTH["annotations"][:2]),
            r"1 images are only in .*a: 3\.png",
        ),
        (changed(categories=[{"id": 3, "name": "cat"}, {"id": 5, "name": "cow"}]), r"dog only in .*a; cow only in .*b"),
        (changed(images=[TRUTH["images"][0] | {"width": 65}, *TRUTH["images"][1:]]), r"another size .*: 1\.png"),
        (changed(annotations=TRUTH["annotations"][1:]), r"1 images have other boxes .*: 1\.png"),
        (
            changed(annotations=[TRUTH["annotations"][0] | {"bbox": [4, 4, 20, 21]}, *TRUTH["annotations"][1:]]),
            r"1 images have other boxes .*: 1\.png",
        ),
    ],
)
def test_other_test_data_are_refused_and_named(tmp_path, truth, message):
    found = [row for row in ALL if row["image_id"] in {image["id"] for image in truth["images"]}]
    a, b = run(tmp_path / "a", ALL), run(tmp_path / "b", found, truth)
    with pytest.raises(DataError, match=message):
        call("compare", f"runs=[{a},{b}]")


def test_what_is_no_pair_of_scored_detectors_is_refused(tmp_path):
    a = run(tmp_path / "a", ALL)
    with pytest.raises(ConfigError, match="two or more run folders"):
        call("compare", f"runs=[{a}]")
    for single in (a, 2024, "null", "[]"):
        with pytest.raises(ConfigError, match="two or more run folders"):
            call("compare", f"runs={single}")
    with pytest.raises(ConfigError, match=rf"^{a} is given twice"):
        call("compare", f"runs=[{a},{a}/]")
    b = run(tmp_path / "b", ALL)
    with pytest.raises(ConfigError, match=rf"^{b} is given twice"):
        call("compare", f"runs=[{a},{b},{b}]")
    (tmp_path / "latest").symlink_to(a)
    with pytest.raises(ConfigError, match=rf"^{a} is given twice"):
        call("compare", f"runs=[{a},{tmp_path}/latest]")
    with pytest.raises(ConfigError, match="does not exist"):
        call("compare", f"runs=[{a},{tmp_path}/none]")
    with pytest.raises(DataError, match=r"no scores on val: make them with detect evaluate run=.*split=val"):
        call("compare", f"runs=[{a},{b}]", "split=val")


@pytest.mark.parametrize("text", ["[]", "{", '{"images": 3}', '{"images":[],"categories":[{}],"annotations":[]}'])
def test_damaged_files_are_refused(tmp_path, text):
    a, b = run(tmp_path / "a", ALL), run(tmp_path / "b", ALL)
    (b / "test_ground_truth.json").write_text(text)
    with pytest.raises(DataError, match=r"test_ground_truth\.json"):
        call("compare", f"runs=[{a},{b}]")


def test_three_detectors_are_compared_with_the_first(tmp_path):
    folders = [run(tmp_path / name, ALL[:count]) for name, count in (("a", 2), ("b", 3), ("c", 1))]
    call("compare", f"runs=[{','.join(map(str, folders))}]", f"output={tmp_path}/out")
    row = next(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    values = [float(row[str(folder)]) for folder in folders]
    differences = [float(row[f"{folder} difference"]) for folder in folders[1:]]
    np.testing.assert_allclose(differences, [values[1] - values[0], values[2] - values[0]])


def test_files_side_by_side_have_scores_of_their_own(tmp_path):
    """The scores of a.tflite are never taken for those of b.tflite."""
    run(tmp_path / "ship" / "evaluation_a", ALL)
    run(tmp_path / "ship" / "evaluation", ALL[:1])
    for name in ("a.tflite", "b.tflite", "model.tflite"):
        (tmp_path / "ship" / name).write_bytes(b"")
    assert verb.place(tmp_path / "ship" / "a.tflite", "test") == tmp_path / "ship" / "evaluation_a"
    assert verb.place(tmp_path / "ship" / "model.tflite", "test") == tmp_path / "ship" / "evaluation"
    with pytest.raises(DataError, match=r"b\.tflite has no scores on test: make them with detect evaluate model="):
        verb.place(tmp_path / "ship" / "b.tflite", "test")
    (tmp_path / "peers.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    for name, given in (("peers.json", r"detections=.*peers\.json"), ("empty", "detections=FILE"), ("ship", "model=")):
        with pytest.raises(DataError, match=f"no scores on val: make them with detect evaluate {given}"):
            verb.place(tmp_path / name, "val")


@pytest.mark.parametrize("newer", ["", "evaluation"])
def test_the_newer_of_two_scored_data_sets_is_compared(tmp_path, caplog, newer):
    caplog.set_level("INFO")
    folder = run(tmp_path / "a", ALL)
    run(folder / "evaluation", ALL)
    assert verb.place(folder, "test") == folder and not caplog.text
    truth = folder / "evaluation" / "test_ground_truth.json"
    truth.write_text(json.dumps(TRUTH | {"images": TRUTH["images"][:2]}))
    for name in ("", "evaluation"):
        os.utime(folder / name / "test_ground_truth.json", (0, 9 if name == newer else 5))
    assert verb.place(folder, "test") == folder / newer
    assert f"those of {folder / newer} are newer" in caplog.text


def test_long_names_of_classes_are_cut_with_a_mark(tmp_path, caplog):
    caplog.set_level("INFO")
    names = ("zebra crossing, far away", "zebra crossing, nearby")
    truth = TRUTH | {"categories": [{"id": k, "name": name} for k, name in zip((3, 5), names, strict=True)]}
    call("compare", f"runs=[{run(tmp_path / 'a', ALL, truth)},{run(tmp_path / 'b', ALL, truth)}]")
    lines = [line for record in caplog.records for line in record.getMessage().splitlines()]
    assert any(line.startswith("  AP    zebra crossing, fa..  1.000") for line in lines)
    assert any(line.startswith("  AP    zebra crossing, ne..  1.000") for line in lines)
    assert max(len(line) for line in lines if line.startswith("  AP")) <= 80


def test_the_threshold_is_that_of_the_detector_that_was_scored(tmp_path):
    folder = run(tmp_path / "a", ALL, threshold=0.45)
    elsewhere = run(tmp_path / "elsewhere", ALL)
    exported = run(folder / "tflite" / "evaluation", ALL)
    without = run(folder / "onnx" / "evaluation", ALL)
    for place, threshold in ((elsewhere, 0.45), (exported, 0.6), (without, None)):
        (place / "test_scores.json").write_text(json.dumps({"threshold": threshold}))
    assert [verb.level(place, "test") for place in (folder, elsewhere, exported, without)] == [0.45, 0.45, 0.6, 0.3]


def test_the_float_stage_of_a_quantised_run_has_its_own_threshold(tmp_path):
    folder = run(tmp_path / "a", ALL, threshold=0.25)
    (folder / "quantized").mkdir()
    stage = run(folder / "detector", ALL, threshold=0.7)
    (stage / "config.yaml").unlink()
    assert [verb.level(place, "test") for place in (folder, stage)] == [0.25, 0.7]


def test_images_of_another_data_set_are_not_drawn(tmp_path, monkeypatch):
    """They may have the same names."""
    splits = {"test": [SimpleNamespace(path=tmp_path / "1.png")]}
    dataset = SimpleNamespace(splits=splits, fingerprint=lambda: "own")
    folder = run(tmp_path / "a", ALL)
    monkeypatch.setattr("detect.runs.dataset.dataset_of", lambda *_, **__: dataset)
    inside = [run(folder / f"evaluation_{data}", ALL) for data in ("own", "other")]
    for place in inside:
        (place / "config.yaml").unlink()
        (place / "test_scores.json").write_text(json.dumps({"data": place.name.removeprefix("evaluation_")}))
    assert verb.image_files([folder], "test") == verb.image_files(inside[:1], "test") == {"1.png": tmp_path / "1.png"}
    assert verb.image_files(inside[1:], "test") == {}


def test_many_images_of_another_size_take_no_longer_each():
    paths = [SimpleNamespace(as_posix=lambda n=n: Compared(f"{n:05d}.png")) for n in range(400)]
    boxes, kinds, crowds = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)

    def contender(side):
        examples = [Example(path, side, side, boxes, kinds, crowds, str(n)) for n, path in enumerate(paths)]
        return Contender(str(side), Scored(tuple(examples), ("cat",), {}, (1,)), 0.5)

    Compared.times = 0
    (line,) = differing(contender(8), contender(9))
    assert line.startswith("400 images have another size") and Compared.times < 20 * len(paths)
