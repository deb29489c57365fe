"""`detect evaluate` and `detect benchmark` on the data set of a run, with a planted detector."""

import json

import pytest
from omegaconf import OmegaConf

from detect.cli import benchmark
from detect.config.tree import plain
from detect.errors import DataError
from tests.verbs import call, composed

DIGITS = tuple((number + 1, str(number)) for number in range(10))


def limited(run, *overrides):
    """The run gets the configuration of one that was trained on digits with limits."""
    cfg = composed("train", "dataset=digits", "dataset.images={train:4,val:2,test:4}", *overrides)
    OmegaConf.save(OmegaConf.create(plain(cfg)), run / "config.yaml")
    return run


def test_the_limits_of_a_run_hold_for_its_scores_and_are_told(planted, caplog):
    run = limited(planted({}, DIGITS), "limit.test=3", "limit.val=2")
    with caplog.at_level("INFO", "detect"):
        call("evaluate", f"run={run}")
    assert "limit.test=3: 3 of 4 test images, at even distances" in caplog.messages
    assert not any("limit.val" in line for line in caplog.messages)
    assert len(json.loads((run / "evaluation" / "test_ground_truth.json").read_text())["images"]) == 3
    cfg = composed("benchmark", f"run={run}")
    assert len(benchmark._dataset(cfg, run).splits["test"]) == 3


@pytest.mark.parametrize("key", ["run", "model"])
def test_scores_on_another_data_set_replace_no_others(planted, key):
    """Neither those on the run's own data nor those on a further data set of the same name."""
    run = limited(planted({}, DIGITS))
    source = run if key == "run" else run / "tflite"
    source.mkdir(exist_ok=True)
    call("evaluate", f"{key}={source}")
    own = (source / "evaluation" / "test_scores.json").read_bytes()
    others = ["dataset=digits", "dataset.images={train:4,val:2,test:2}"]
    for seed in (7, 8, 7):
        call("evaluate", f"{key}={source}", *others, f"dataset.seed={seed}")
    assert (source / "evaluation" / "test_scores.json").read_bytes() == own
    assert {place.name for place in source.glob("evaluation*")} == {
        "evaluation", "evaluation_digits", "evaluation_digits_2"
    }  # fmt: skip


def test_a_run_that_overfits_is_scored_on_its_training_images(planted, caplog):
    run = limited(planted({}, DIGITS), "limit.train=2", "limit.overfit=true")
    with caplog.at_level("INFO", "detect"):
        call("evaluate", f"run={run}", "split=val")
    assert "limit.overfit=true: val are the training images, and test has none" in caplog.messages
    assert len(json.loads((run / "evaluation" / "val_ground_truth.json").read_text())["images"]) == 2


def test_scores_with_other_boxes_have_a_folder_of_their_own(planted):
    run = limited(planted({}, DIGITS))
    for given in ([], ["tile=auto"], ["class_agnostic=true"], ["tile=96", "class_agnostic=false"]):
        call("evaluate", f"run={run}", *given)
    said = {
        folder.name: {
            key: value
            for key, value in json.loads((folder / "test_scores.json").read_text()).items()
            if key in ("tile", "class_agnostic", "stage")
        }
        for folder in run.glob("evaluation*")
    }
    assert said == {
        "evaluation": {},
        "evaluation_tile_auto": {"tile": "auto"},
        "evaluation_class_agnostic_true": {"class_agnostic": "true"},
        "evaluation_tile_96_class_agnostic_false": {"tile": 96, "class_agnostic": "false"},
    }


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_other_classes_than_those_of_the_run_are_refused(planted, verb):
    run = limited(planted({}))
    with pytest.raises(DataError, match=r"was trained on \['cat', 'dog'\]; its data set now has \['0', '1'"):
        call(verb, f"run={run}")


@pytest.mark.parametrize("images", [0, 2])
def test_a_run_without_a_model_is_refused(planted, images):
    with pytest.raises(DataError, match=r"run=.*: it has neither a trained detector nor an export"):
        call("benchmark", f"run={limited(planted({}, DIGITS))}", f"images={images}")


def test_a_run_that_is_still_trained_gets_no_threshold(planted):
    run = limited(planted({}, DIGITS))
    (run / "thresholds.json").unlink(missing_ok=True)
    call("evaluate", f"run={run}", "split=val")
    assert not (run / "thresholds.json").exists() and (run / "evaluation" / "val_scores.json").is_file()
    (run / "summary.json").write_text('{"scores": {"val": {"AP": 0.0}}}')
    call("evaluate", f"run={run}", "split=val")
    assert (run / "thresholds.json").exists()


def test_another_data_set_is_described(planted, caplog):
    with caplog.at_level("INFO", "detect"):
        call("evaluate", f"run={planted({}, DIGITS)}", "dataset=digits", "dataset.images={train:4,val:2,test:4}")
    assert any(line.startswith("data set digits: 10 classes") for line in caplog.messages)
