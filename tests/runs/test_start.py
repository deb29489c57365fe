"""Bad data stops a run before TensorFlow is imported, in one message that names it."""

import json
import logging
import shutil
import subprocess
import sys
from logging.handlers import MemoryHandler

import cv2
import numpy as np
import pytest

from detect.data.subset import limit
from detect.errors import ConfigError, DataError, InUse
from detect.runs.dataset import check_ground_truth, open_dataset, own_dataset, own_pictures, selection_split
from detect.runs.folder import RunFolder
from detect.runs.log import LogFile, Memory, keep_log
from detect.runs.start import described, finished, start_run
from tests import program
from tests.verbs import composed

XML = """<annotation><size><width>64</width><height>48</height></size>{}</annotation>"""
OBJECT = "<object><name>{}</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>"


@pytest.fixture
def folder(tmp_path):
    """Ten pictures with a box each but the last, which is background; lists for train, val and test."""
    generator = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"JPEGImages/{i}.jpg"), generator.integers(0, 255, (48, 64, 3), np.uint8))
        (tmp_path / f"Annotations/{i}.xml").write_text(XML.format(OBJECT.format("cat") if i < 9 else ""))
    for split, ids in (("train", "0123459"), ("val", "6"), ("test", "78")):
        (tmp_path / f"ImageSets/Main/{split}.txt").write_text("\n".join(ids))
    return tmp_path


def compose(folder, *overrides):
    return composed("train", "dataset=voc", f"dataset.root={folder}", *overrides)


def test_a_name_that_is_a_number_is_text_for_loggers(tmp_path):
    assert described(RunFolder(tmp_path), compose(tmp_path, "name=300")).name == "300"


def test_background_images_are_kept_and_the_truth_scores_one(folder):
    dataset = open_dataset(compose(folder))
    assert [len(dataset.splits[s]) for s in ("train", "val", "test")] == [7, 1, 2]
    assert sum(len(e.boxes) == 0 for e in dataset.splits["train"]) == 1
    check_ground_truth(dataset)
    assert selection_split(dataset) == "val"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "JPEGImages/3.jpg").write_bytes((f / "JPEGImages/3.jpg").read_bytes()[:400]), r"3\.jpg"),
        (lambda f: (f / "JPEGImages/3.jpg").write_bytes(b""), r"3\.jpg"),
        (lambda f: (f / "Annotations/3.xml").write_text("<annotation><size>"), r"3\.xml"),
        (lambda f: (f / "ImageSets/Main/val.txt").write_text("6\n3"), r"(train|val).*: 3"),
        (lambda f: (f / "Annotations/3.xml").write_text(XML.replace("64", "640").format("")), r"3\.(jpg|xml)"),
    ],
    ids=["truncated", "empty file", "malformed XML", "overlapping splits", "another size"],
)
def test_damage_is_an_error_that_names_the_file(folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_dataset(compose(folder))


def test_a_class_that_is_not_listed_is_refused_with_the_legal_ones(folder):
    with pytest.raises(DataError, match=r"dataset\.classes: .*'cow'.*classes: cat"):
        open_dataset(compose(folder, "dataset.classes=[cow,dog]"))


def test_limit_spreads_evenly_and_overfit_scores_the_training_images(folder):
    dataset = open_dataset(compose(folder))
    small = limit(dataset, {"train": 2, "overfit": True}, 0)
    assert [e.path.stem for e in small.splits["train"]] == ["0", "3"]
    assert [e.path.stem for e in small.splits["val"]] == ["0", "3"] and not small.splits["test"]


def test_the_command_line_says_it_in_one_message_without_tensorflow(folder, tmp_path_factory):
    (folder / "JPEGImages/3.jpg").write_bytes(b"no image")
    told = [sys.executable, "-X", "importtime", "-m", "detect.cli", "train"]
    place = f"hydra.run.dir={tmp_path_factory.mktemp('run')}"
    done = subprocess.run([*told, "dataset=voc", f"dataset.root={folder}", place], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "3.jpg" in done.stderr and "Traceback" not in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "detect.data.validate" in imported and "tensorflow" not in imported


def test_a_limit_reaches_the_pictures_of_stage_1(tmp_path):
    """Those that are left out are not decoded."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.full((8, 8, 3), i, np.uint8))
    (tmp_path / "dog/9.png").write_bytes(b"damaged")
    words = ["dataset=digits", "classify=image_folder", f"classify.dataset.root={tmp_path}"]
    words += ["classify.dataset.val_fraction=0", "classify.dataset.test_fraction=0"]
    pictures = own_pictures(composed("train", *words, "limit.train=6"))
    assert [example.label for example in pictures.splits["train"]] == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match=r"9\.png"):
        own_pictures(composed("train", *words))


def test_a_test_set_alone_is_not_trained_on(folder, tmp_path_factory):
    for split in ("train", "val"):
        (folder / f"ImageSets/Main/{split}.txt").unlink()
    place = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(
        DataError, match=r"it has no training images \(split: .*test: test\); no training images; no val"
    ):
        start_run(compose(folder), place)
    assert not place.exists()


def test_the_folder_that_told_the_split_is_named(folder, tmp_path_factory):
    (folder / "Annotations").rename(folder / "validation")
    shutil.rmtree(folder / "ImageSets")
    told = r"no training images \(split: .*\); val: .*/validation/0\.xml\. .* names of files and folders"
    with pytest.raises(DataError, match=told):
        start_run(compose(folder), tmp_path_factory.mktemp("run"))


def test_nothing_is_written_below_the_data(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    for verb, root in (("train", "."), ("train", str(folder)), ("inspect", "."), ("advise", str(folder.parent))):
        done = program.run(verb, f"dataset.root={root}")
        assert done.returncode == 2 and "below dataset.root=" in done.stderr, done.stderr + done.stdout
    assert sorted(folder.rglob("*")) == before
    done = program.run("train", "dataset=digits", f"dataset.root={folder}")
    assert done.returncode == 2 and "unknown key dataset.root" in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_a_resume_on_other_data_is_refused_and_names_what_changed(folder, tmp_path_factory):
    place = RunFolder(tmp_path_factory.mktemp("run"))
    cfg = compose(folder, "dataset.splits=null", "dataset.val_fraction=0.3")
    with start_run(cfg, place.path):
        claimed = place.claimed_by()
        with pytest.raises(InUse, match="another process"):
            start_run(cfg, place.path)
        assert claimed and place.claimed_by() == claimed, "a refused process leaves the lock as it is"
    gone = sorted((folder / "Annotations").iterdir())[0]
    text = gone.read_text()
    gone.unlink()
    gone_picture = (folder / "JPEGImages" / gone.stem).with_suffix(".jpg")
    content = gone_picture.read_bytes()
    gone_picture.unlink()
    with pytest.raises(DataError, match=rf"begun on\n  images that are gone: 1 \({gone.stem}\)") as caught:
        start_run(cfg, place.path)
    assert "Restore the data" in str(caught.value)
    gone.write_text(text.replace("<xmax>", "<xmax>1"))
    gone_picture.write_bytes(content)
    with pytest.raises(DataError, match=rf"images with other boxes, .*: 1 \({gone.stem}\)"):
        start_run(cfg, place.path)
    gone.write_text(text)
    with start_run(cfg, place.path):
        pass
    with pytest.raises(DataError, match=r"images in another split: .* -> "):
        start_run(
            compose(folder, "dataset.splits=null", "dataset.val_fraction=0.3", "dataset.split_seed=3"),
            place.path,
        )


def test_a_log_on_a_full_disk_prints_no_traceback(capsys):
    """The line is on the console, and what needs the disk ends the run with one message."""
    full = LogFile("/dev/full", encoding="utf-8")
    full.emit(logging.makeLogRecord({"msg": "a line"}))
    assert capsys.readouterr().err == ""
    full.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "Logging error" in capsys.readouterr().err, "a bug is shown"
    full.stream = None


def test_the_log_of_a_run_leaves_the_handlers_of_a_program(tmp_path):
    root, own, theirs = logging.getLogger(), Memory(10), MemoryHandler(10)
    before = root.handlers[:]
    try:
        root.handlers += [own, theirs]
        root.warning("a line")
        keep_log(tmp_path / "train.log")
        assert theirs in root.handlers and theirs.target is None and own not in root.handlers
    finally:
        root.handlers[-1].close()
        root.handlers[:] = before
    assert (tmp_path / "train.log").read_text() == "a line\n"


def test_an_extension_is_written_into_the_history(folder, tmp_path_factory):
    place = RunFolder(tmp_path_factory.mktemp("run"))
    with start_run(compose(folder, "schedule.steps=10"), place.path):
        pass
    place.summary.write_text('{"scores": {"val": {"AP": 0.5}}}')
    longer = compose(folder, "schedule.steps=20")
    with pytest.raises(ConfigError, match=r"schedule\.steps: the run has 10, this command has 20"):
        place.extensions(longer)
    asked = compose(folder, "schedule.steps=20", f"resume={place.path}")
    assert finished(asked, place.path) is None and finished(compose(folder, "schedule.steps=10"), place.path) == 0.5
    with start_run(asked, place.path) as run:  # what could still refuse the extension comes between the two
        assert place.summary.exists() and not place.history.exists() and place.saved_config().schedule.steps == 10
        run.keep()
    (entry,) = json.loads(place.history.read_text())
    assert entry["changed"] == {"schedule.steps": [10, 20]} and entry["scores"] == {"val": {"AP": 0.5}}
    assert not place.summary.exists() and place.saved_config().schedule.steps == 20
    with pytest.raises(ConfigError, match="a run can only become longer"):
        place.extensions(compose(folder, "schedule.steps=15", f"resume={place.path}"))


def test_pictures_of_stage_1_are_checked_and_compared_as_those_with_boxes(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(4):
            shutil.copy(folder / f"JPEGImages/{i}.jpg", root / name / f"{i}.jpg")
    place = RunFolder(tmp_path_factory.mktemp("run"))
    cfg = compose(folder, "classify=image_folder", f"classify.dataset.root={root}")
    with start_run(cfg, place.path) as run:
        assert run.pictures.classes == ("cat", "dog")
    shutil.copy(folder / "JPEGImages/5.jpg", root / "dog/5.jpg")
    with pytest.raises(DataError, match=r"pictures\d+ is not what .*\n  images that are new: 1 \(dog/5\.jpg\)"):
        start_run(cfg, place.path)
    (root / "dog/5.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5\.jpg"):
        start_run(cfg, place.path)
    summary = place.stage("classify").summary
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text('{"scores": {}}')
    shutil.rmtree(root)  # a finished stage 1 needs them no longer
    with start_run(cfg, place.path) as run:
        assert run.pictures is None
    kept = json.loads(place.data.read_text())["classify"]["splits"]
    assert "dog/0.jpg" in {name for split in kept.values() for name in split}


@pytest.mark.parametrize("test", [True, False])
def test_a_val_split_without_boxes_chooses_no_checkpoint(folder, caplog, test):
    for name in "678" if not test else "6":
        (folder / f"Annotations/{name}.xml").write_text(XML.format(""))
    assert selection_split(open_dataset(compose(folder))) == ("test" if test else "train")
    assert any("its val images have no boxes" in line for line in caplog.messages)


def test_pictures_that_train_and_test_share_are_told_before_training(folder, caplog):
    (folder / "JPEGImages/7.jpg").write_bytes((folder / "JPEGImages/0.jpg").read_bytes())
    open_dataset(compose(folder))
    (line,) = (line for line in caplog.messages if line.startswith("duplicate"))
    assert "0" in line and "7.jpg" in line


def test_scored_images_that_a_run_was_trained_on(folder, tmp_path_factory):
    """The lists of train and test are exchanged."""
    place = RunFolder(tmp_path_factory.mktemp("run"))
    with start_run(compose(folder), place.path):
        pass
    assert place.trained_images(open_dataset(compose(folder)), "test") == []
    other = compose(folder, "dataset.splits={train:test,val:val,test:train}")
    drawn = open_dataset(other)
    assert sorted(place.trained_images(drawn, "test")) == list("0123459")
    (folder / "Annotations/3.xml").write_text(XML.format(""))
    assert "3" not in place.trained_images(open_dataset(other), "test")
    place.data.unlink()
    assert place.trained_images(drawn, "test") == []


def test_a_run_goes_on_where_its_data_moved_to(folder, tmp_path_factory):
    place, moved = RunFolder(tmp_path_factory.mktemp("run")), tmp_path_factory.mktemp("moved") / "data"
    with start_run(compose(folder), place.path):
        pass
    shutil.move(folder, moved)
    with pytest.raises(DataError, match=r"no such folder .*config\.yaml names this folder; if the data moved"):
        own_dataset(place)
    with pytest.raises(ConfigError, match=r"dataset\.root: the run has .*, this command has"):
        place.extensions(compose(moved))
    asked = compose(moved, f"resume={place.path}")
    assert place.extensions(asked) == {}
    with start_run(asked, place.path):
        pass
    assert not place.history.exists() and len(own_dataset(place).splits["train"]) == 7
    (moved / "Annotations/3.xml").write_text(XML.format(""))
    with pytest.raises(DataError, match="images with other boxes"):
        start_run(asked, place.path)


def test_a_copy_of_a_stage_is_no_stage(tmp_path):
    for name in ("detector", "quantized", "detector.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    assert RunFolder(tmp_path).last_stage() == "quantized"
    (tmp_path / "quantized").rename(tmp_path / "another")
    assert RunFolder(tmp_path).last_stage() == "detector"
