"""`detect predict` on a detector without training: names, bad files, what is never overwritten, and ids."""

import errno
import json
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from detect.cli import overrides, predict
from detect.detector import Detector
from detect.errors import ConfigError, DataError, Unfinished
from detect.evaluation.annotation_file import AnnotationFile
from detect.evaluation.calibration import Calibration
from detect.evaluation.thresholds import Shipped
from tests.cli.conftest import picture
from tests.verbs import call

FOUND = {1: [([4, 4, 20, 20], 0.9, 1)], 2: [([4, 4, 20, 20], 0.8, 2)], 3: [([4, 4, 20, 20], 0.7, 1)]}


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rows(folder):
    return json.loads((folder / "detections.json").read_text())


def test_a_bad_image_is_named_and_the_others_are_done(planted, tmp_path, caplog):
    run, photos, output = planted(FOUND), tmp_path / "photos", tmp_path / "out"
    picture(photos / "a.jpg", 1)
    (photos / "b.jpg").write_bytes(b"\xff\xd8 cut")
    (photos / "c.heic").write_bytes(b"a phone wrote this")
    picture(photos / "d.jpg", 3)
    reasons = r"2 of 4 images(.|\n)*b\.jpg: this is not an image file.*\n  c\.heic: HEIC is not read; save it"
    with caplog.at_level("INFO", "detect"), pytest.raises(Unfinished, match=reasons):
        call("predict", f"run={run}", f"images={photos}", f"output={output}")
    assert written(output) == ["a.jpg", "d.jpg", "detections.json"]
    assert {row["file_name"] for row in rows(output)} == {"a.jpg", "d.jpg"}
    assert any("c.heic" in line for line in caplog.messages) and "d.jpg: cat 0.70" in caplog.messages


def test_without_a_readable_image_the_results_are_empty_and_the_error_stays(planted, tmp_path):
    run, output = planted(FOUND), tmp_path / "out"
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(Unfinished, match=r"1 of 1 images(.|\n)*b\.jpg: the file is empty"):
        call("predict", f"run={run}", f"images={tmp_path}/b.jpg", f"output={output}")
    assert rows(output) == []


def test_the_exit_code_after_a_bad_image_is_1():
    script = """
from detect.cli import main
from detect.cli import overrides, predict
from detect.errors import Unfinished

def job(cfg):
    raise Unfinished("1 of 3 images could not be done: b.jpg")

raise SystemExit(main.run("predict", job, ["run=x", "images=y"]))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 1 and "detect predict: 1 of 3 images" in ended.stderr and "Trace" not in ended.stderr


@pytest.mark.parametrize("name", ["IMG[1].jpg", "what?.jpg", "a*.jpg", "[0-9].jpg"])
def test_a_path_that_exists_comes_before_a_pattern(planted, tmp_path, name):
    run = planted(FOUND)
    picture(tmp_path / "photos" / name, 1)
    picture(tmp_path / "photos" / "5.jpg", 2)
    call("predict", f"run={run}", f"images='{tmp_path}/photos/{name}'", f"output={tmp_path}/out")
    assert [row["file_name"] for row in rows(tmp_path / "out")] == [name]


def test_a_path_on_the_command_line_needs_no_quotes(tmp_path):
    photo = picture(tmp_path / "IMG[1], it's.jpg", 1)
    for images in (str(photo), f"{tmp_path}/b[12]*.jpg"):  # a file, and a pattern that Hydra's grammar does not read
        command = overrides.prepare(overrides.read(["run=x", f"images={images}"], "predict"))
        assert overrides.first_job(command).images == images
    command = overrides.read(["images=4", "output=a,b"], "inspect")
    assert command.overrides == ("images=4", "output=a,b")


def test_a_variant_that_is_a_baseline_needs_no_quotes():
    command = overrides.prepare(overrides.read(["mine", "baseline=crop=17"], "report"))
    assert overrides.first_job(command).baseline == "crop=17"


@pytest.mark.parametrize("name", ["results (1).json", "found[1].json", "a,b.json"])
def test_a_file_of_detections_needs_no_quotes(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("[]")
    command = overrides.prepare(overrides.read([f"detections={name}", "dataset.root=x"], "evaluate"))
    assert overrides.first_job(command).detections == name


def test_images_is_one_path(planted):
    with pytest.raises(ConfigError, match=r"images=\['a.jpg', 'b.jpg'\]: legal is one path"):
        call("predict", f"run={planted(FOUND)}", "images=[a.jpg,b.jpg]")


def test_a_folder_with_brackets_in_its_name(planted, tmp_path):
    run, photos = planted(FOUND), tmp_path / "trip [2024]"
    picture(photos / "IMG[1].png", 1)
    call("predict", f"run={run}", f"images='{photos}'", f"output={tmp_path}/out")
    assert written(tmp_path / "out") == ["IMG[1].png", "detections.json"]


def test_pictures_keep_folder_name_and_type(planted, tmp_path):
    run, photos, output = planted(FOUND), tmp_path / "photos", tmp_path / "out"
    for number, name in enumerate(("one/a.jpg", "two/a.jpg", "two/a.png", "B.JPG", "c.webp", "d.bmp", "e.tif"), 1):
        picture(photos / name, number)
    shutil.copy(photos / "d.bmp", photos / "d.dib")
    call("predict", f"run={run}", f"images={photos}", f"output={output}")
    names = ["B.JPG", "c.webp", "d.bmp", "d.dib.png", "detections.json", "e.tif", "one/a.jpg", "two/a.jpg", "two/a.png"]
    assert written(output) == names
    assert (output / "B.JPG").read_bytes()[:2] == b"\xff\xd8" and cv2.imread(str(output / "e.tif")) is not None
    call("predict", f"run={run}", f"images={photos}/*/a.*", f"output={tmp_path}/glob")
    assert written(tmp_path / "glob") == ["detections.json", "one/a.jpg", "two/a.jpg", "two/a.png"]


def test_an_input_is_never_overwritten(planted, tmp_path):
    run, photos = planted(FOUND), tmp_path / "photos"
    before = picture(photos / "a.jpg", 1).read_bytes()
    (tmp_path / "link").symlink_to(photos)
    for output in (photos, tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"output=.*would overwrite the input .*a\.jpg"):
            call("predict", f"run={run}", f"images={photos}", f"output={output}", "overwrite=true")
    truth = tmp_path / "out" / "detections.json"
    truth.parent.mkdir()
    truth.write_text(
        json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "cat"}]})
    )
    with pytest.raises(ConfigError, match=r"would overwrite the input .*detections\.json"):
        call("predict", f"run={run}", f"images={photos}", f"output={truth.parent}", f"annotations={truth}")
    assert (photos / "a.jpg").read_bytes() == before and written(photos) == ["a.jpg"]


def test_results_of_an_earlier_prediction_are_replaced_on_demand_alone(planted, tmp_path):
    run = planted(FOUND)
    one, two = (picture(tmp_path / folder / "a.jpg", number).parent for number, folder in enumerate(("one", "two"), 1))
    other = picture(tmp_path / "three" / "b.jpg", 3)
    call("predict", f"run={run}", f"images={one}")
    before = {name: (run / "predictions" / name).read_bytes() for name in ("a.jpg", "detections.json")}
    for images, name in ((two, r"a\.jpg"), (other, r"detections\.json")):
        with pytest.raises(ConfigError, match=rf"output={run}/predictions: {name} exists; .*overwrite=true"):
            call("predict", f"run={run}", f"images={images}")
    assert {name: (run / "predictions" / name).read_bytes() for name in before} == before
    call("predict", f"run={run}", f"images={two}", "overwrite=true")
    assert [row["category"] for row in rows(run / "predictions")] == ["dog"]


def test_an_earlier_output_inside_the_folder_is_no_input(planted, tmp_path):
    run, photos = planted(FOUND), tmp_path / "photos"
    picture(photos / "a.jpg", 1)
    for overwrite in ("false", "true"):
        call("predict", f"run={run}", f"images={photos}", f"output={photos}/found", f"overwrite={overwrite}")
    assert written(photos) == ["a.jpg", "found/a.jpg", "found/detections.json"]


def test_nothing_to_predict_is_an_error_that_tells_what_is_there(planted, tmp_path):
    run = planted(FOUND)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("x")
    for images in (f"{tmp_path}/photos", f"{tmp_path}/photos/*"):
        with pytest.raises(DataError, match=r"there is no image; 1 files of other kinds are there: notes\.txt"):
            call("predict", f"run={run}", f"images={images}")
    with pytest.raises(ConfigError, match=r"output=.*notes\.txt is not a folder"):
        call("predict", f"run={run}", f"images={tmp_path}", f"output={tmp_path}/photos/notes.txt")


def annotations(path, images, categories=((3, "cat"), (90, "dog"))):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [],
    }
    path.write_text(json.dumps(content))
    return path


def test_ids_come_from_the_users_annotations(planted, tmp_path):
    run, photos = planted(FOUND), tmp_path / "photos"
    for number, name in enumerate(("one/a.jpg", "two/a.jpg", "b.jpg"), 1):
        picture(photos / name, number)
    images = [(7, "a.jpg"), (139, "data/one/a.jpg"), (285, "two\\a.jpg"), ("x", "elsewhere/B.jpg")]
    file = annotations(tmp_path / "file.json", images[1:])
    call("predict", f"run={run}", f"images={photos}", f"output={tmp_path}/out", f"annotations={file}")
    found = {row["file_name"]: (row["image_id"], row["category_id"]) for row in rows(tmp_path / "out")}
    assert found == {"one/a.jpg": (139, 3), "two/a.jpg": (285, 90), "b.jpg": ("x", 3)}


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        ([(1, "a.jpg"), (2, "b.jpg")], [(3, "cat"), (90, "dog")], r"c\.jpg: none of its images has this file name"),
        ([(1, "x/a.jpg"), (2, "y/a.jpg"), (4, "c.jpg")], [(3, "cat"), (90, "dog")], r"a\.jpg: 2 of its images fit"),
        ([(1, "a.jpg"), (4, "c.jpg")], [(3, "car")], r"none of the classes cat, dog, but car"),
        ([(1, "a.jpg"), (4, "c.jpg")], [(2, "cat")], r"no category dog"),
        ([(1, "a.jpg"), (4, "c.jpg")], [(2, "cat"), (3, "cat")], r"category cat has the ids \[2, 3\]"),
        ([(None, "a.jpg")], [(2, "cat")], r"images\[0\] must have an id and a file_name"),
    ],
)
def test_annotations_that_do_not_fit(planted, tmp_path, images, categories, message):
    run, photos = planted(FOUND), tmp_path / "photos"
    picture(photos / "a.jpg", 1)
    picture(photos / "c.jpg", 2)
    file = annotations(tmp_path / "file.json", images, categories)
    with pytest.raises(DataError, match=message):
        call("predict", f"run={run}", f"images={photos}", f"output={tmp_path}/out", f"annotations={file}")
    assert not (tmp_path / "out").exists()


def test_annotations_of_any_depth_are_refused_by_name(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"annotations=.*deep\.json: malformed json"):
        AnnotationFile(tmp_path / "deep.json")


def test_annotations_are_read_as_the_reader_of_coco_does(tmp_path):
    roboflow = annotations(
        tmp_path / "file.json", [(1.0, "a%20b.jpg"), ("7", "c.jpg")], [(0, "cat"), ("1", "cat"), (2.0, "dog")]
    )
    file = AnnotationFile(roboflow)
    assert [repr(number) for number in file.image_ids(["a b.jpg", "c.jpg"])] == ["1", "'7'"]
    assert file.categories(["cat", "dog"], [1, 5]) == [{"id": "1", "name": "cat"}, {"id": 2, "name": "dog"}]
    content = json.loads(roboflow.read_text())
    roboflow.write_text(json.dumps(content | {"annotations": [{"category_id": "0"}]}))
    assert AnnotationFile(roboflow).categories(["cat"], [1]) == [{"id": 0, "name": "cat"}]
    roboflow.write_text(json.dumps(content | {"annotations": [{"category_id": 0}, {"category_id": 1}]}))
    with pytest.raises(DataError, match=r"category cat has the ids \[0, .1.\]"):
        AnnotationFile(roboflow).categories(["cat"], [1])


def test_annotations_with_addresses_and_supercategories(tmp_path):
    """As `read_coco` names the images of LVIS, and categories of one name."""
    file = annotations(tmp_path / "file.json", [])
    others = [{"id": k, "name": "other", "supercategory": above} for k, above in ((4, "animal"), (5, "plant"))]
    images = [{"id": 7, "coco_url": "http://images.cocodataset.org/train2017/a.jpg"}]
    rows = [{"category_id": 4}, {"category_id": 5}]
    file.write_text(json.dumps({"images": images, "categories": others, "annotations": rows}))
    found = AnnotationFile(file)
    assert found.image_ids(["a.jpg"]) == [7]
    kinds = ["plant/other", "animal/other"]
    assert found.categories(kinds, [1, 2]) == [{"id": k, "name": n} for k, n in zip((5, 4), kinds, strict=True)]


def test_two_pictures_of_one_entry_are_refused(planted, tmp_path):
    run, photos = planted(FOUND), tmp_path / "photos"
    picture(photos / "one/a.jpg", 1)
    picture(photos / "two/a.jpg", 2)
    file = annotations(tmp_path / "file.json", [(139, "a.jpg")])
    with pytest.raises(DataError, match=r"one/a\.jpg and two/a\.jpg both fit its image 139"):
        call("predict", f"run={run}", f"images={photos}", f"output={tmp_path}/out", f"annotations={file}")


CALIBRATION = Calibration(1.0, -1.0, 0.2, 0.1)  # a score of .5 becomes 1 / (1 + e) = .269


@pytest.mark.parametrize(
    ("words", "told", "drawn"),
    [
        ([], "a score of 0.450 or more: highest F1 on val", "cat 0.50"),
        (["score=per_class"], "a score of its class or more: cat 0.600, dog 0.450; highest", "nothing"),
        (["score=0.3"], "a score of 0.3 or more", "cat 0.50, dog 0.40"),
        (["calibrated=true"], "a score of 0.231 or more: highest F1 on val", "cat 0.27"),
    ],
)
def test_the_stored_threshold_decides_what_is_drawn(planted, tmp_path, caplog, words, told, drawn):
    found = {1: [([4, 4, 20, 20], 0.5, 1), ([30, 4, 40, 20], 0.4, 2)]}
    run = planted(found, threshold=Shipped(0.45, (0.6, None), "val", CALIBRATION))
    picture(tmp_path / "a.jpg", 1)
    with caplog.at_level("INFO", "detect"):
        call("predict", f"run={run}", f"images={tmp_path}/a.jpg", f"output={tmp_path}/out", *words)
    assert any(told in line for line in caplog.messages) and f"a.jpg: {drawn}" in caplog.messages
    assert len(rows(tmp_path / "out")) == 2  # the json has all


def test_a_detector_without_a_threshold_says_what_it_takes(planted, tmp_path, caplog):
    run = planted({1: [([4, 4, 20, 20], 0.31, 1), ([30, 4, 40, 20], 0.29, 2)]})
    picture(tmp_path / "a.jpg", 1)
    with caplog.at_level("INFO", "detect"):
        call("predict", f"run={run}", f"images={tmp_path}/a.jpg", f"output={tmp_path}/out")
    assert "drawn are detections with a score of 0.3 or more: no threshold was stored with planted" in caplog.messages
    assert "a.jpg: cat 0.31" in caplog.messages
    with pytest.raises(ConfigError, match="calibrated=true: no calibration was stored"):
        call("predict", f"run={run}", f"images={tmp_path}/a.jpg", "calibrated=true")


@pytest.mark.parametrize("value", ["2", "best", "null"])
def test_a_score_is_a_share_or_a_word(value):
    with pytest.raises(ConfigError, match=r"score=.* expected a number from 0 to 1 or auto or per_class"):
        overrides.prepare(overrides.read(["run=x", "images=y", f"score={value}"], "predict"))


def test_what_was_done_before_ctrl_c_is_written(planted, tmp_path, monkeypatch):
    run = planted({n: [([4, 4, 20, 20], 0.9, 1)] for n in range(4)})
    for number in range(4):
        picture(tmp_path / "photos" / f"{number}.png", number)
    find = Detector.load(run)._find

    def interrupted(images):
        if images[0][..., 0].mean() > 19:  # of image 2
            raise KeyboardInterrupt
        return find(images)

    monkeypatch.setattr(Detector.load(run), "_find", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call("predict", f"run={run}", f"images={tmp_path}/photos", f"output={tmp_path}/out")
    assert written(tmp_path / "out") == ["0.png", "1.png", "detections.json"]
    assert [row["file_name"] for row in json.loads((tmp_path / "out/detections.json").read_text())] == [
        "0.png",
        "1.png",
    ]


def test_a_folder_of_many_files_is_searched_at_once(tmp_path, monkeypatch):
    names = [tmp_path / f"{number}.{'jpg' if number % 2 else 'txt'}" for number in range(20_000)]
    monkeypatch.setattr(predict, "find_files", lambda _: names)
    began = time.process_time()
    assert len(predict.find_photographs(str(tmp_path)).paths) == 10_000
    assert time.process_time() - began < 2  # a set for each file took a minute


@pytest.mark.parametrize("words", [["images=a.png"], ["images=photos/*.png"], ["watch=photos"]])
def test_every_is_for_videos(planted, words):
    with pytest.raises(ConfigError, match="every=5 is for a video, a camera or a stream"):
        call("predict", f"run={planted(FOUND)}", "every=5", *words)


def test_a_path_that_is_too_long_is_one_message(planted):
    for key in ("run", "model", "images", "output", "watch"):
        words = {"run": planted(FOUND), "images": "a.png"} | {key: "x" * 300}
        words = {k: v for k, v in words.items() if (k, key) not in (("run", "model"), ("images", "watch"))}
        with pytest.raises(ConfigError, match="this name is too long"):
            call("predict", *(f"{k}={v}" for k, v in words.items()))


def test_a_picture_that_cannot_be_written_keeps_its_detections(planted, tmp_path):
    run, long = planted(FOUND), f"{'a' * 250}.gif"  # with .png, the name is too long
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name, 1)
    (tmp_path / "in/a.png").rename(tmp_path / "in" / long)
    wide = np.full((2, 70_000, 3), (90, 120, 10), np.uint8)  # a JPEG has at most 65,535 columns
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    (tmp_path / "wide.png").rename(tmp_path / "in/wide.jpg")
    reasons = rf"2 of 3 images(.|\n)*{long}: its detections are in (.|\n)*wide.jpg: its detections are in"
    with pytest.raises(Unfinished, match=reasons):
        call("predict", f"run={run}", f"images={tmp_path}/in", f"output={tmp_path}/out")
    assert written(tmp_path / "out") == ["b.png", "detections.json"]
    assert [row["file_name"] for row in rows(tmp_path / "out")] == [long, "b.png", "wide.jpg"]


def test_a_full_disk_ends_the_prediction_and_keeps_what_was_found(planted, tmp_path, monkeypatch, caplog):
    from detect.reporting import pictures

    run, save = planted(FOUND), pictures.save
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name, 1)

    def full(path, image):
        if path.name == "b.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(path, image)

    monkeypatch.setattr(pictures, "save", full)
    with caplog.at_level("INFO", "detect"), pytest.raises(OSError, match=r"No space left on device.*b\.png"):
        call("predict", f"run={run}", f"images={tmp_path}/in", f"output={tmp_path}/out")
    assert written(tmp_path / "out") == ["a.png", "detections.json"]
    assert [row["file_name"] for row in rows(tmp_path / "out")] == ["a.png", "b.png"]
    assert "stopped: 1 of 3 images are done; detections.json has these" in caplog.messages
