"""evaluate, predict, export, inspect and report on one small run, and the Python API beside them."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from detect.config.check import CONFIG_DIR
from detect.config.compose import compose
from detect.config.tree import plain
from detect.data.notes import Notes
from detect.errors import ConfigError, DataError, WeightsError
from detect.evaluation.coco import FIGURES
from detect.evaluation.coco_files import write_coco
from detect.evaluation.thresholds import Shipped
from detect.export import options, writer
from detect.runs.dataset import own_dataset
from detect.runs.folder import RunFolder
from tests.closeness import assert_same_detections
from tests.verbs import call


def parts(found):
    """(boxes, scores, classes) of what a detector finds in an image."""
    return found.boxes, found.scores, found.classes


def served(outputs, i: int):
    """The same of an image of what a SavedModel's signature gives."""
    count = int(outputs["num_detections"][i])
    return tuple(np.asarray(outputs[f"detection_{name}"])[i, :count] for name in ("boxes", "scores", "classes"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    from skimage import data

    folder = tmp_path_factory.mktemp("photographs")
    for name in ("chelsea", "coffee"):
        cv2.imwrite(str(folder / f"{name}.png"), getattr(data, name)()[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    call("export", f"run={small_run[0]}", f"output={folder}")
    return folder


@pytest.fixture(scope="module")
def detector(small_run):
    """The run, as the Python API loads it."""
    from detect.detector import Detector

    return Detector.load(small_run[0])


@pytest.fixture(scope="module")
def signature(exported):
    """The function that a server calls; it needs its module as long as it lives."""
    import tensorflow as tf

    module = tf.saved_model.load(str(exported))
    serve = module.signatures["serving_default"]
    serve.module = module
    return serve


def test_evaluate_repeats_the_scores_of_the_run(small_run, tmp_path):
    folder = small_run[0]
    before = json.loads((folder / "summary.json").read_text())["scores"]["test"]
    assert call("evaluate", f"run={folder}", f"output={tmp_path}") == pytest.approx(before["AP"], abs=1e-6)
    after = json.loads((tmp_path / "test_scores.json").read_text())
    assert after["AR100"] == pytest.approx(before["AR100"], abs=1e-6)
    assert (tmp_path / "test_predictions.png").exists()


def test_evaluate_refuses_a_split_without_images_and_an_unknown_run(small_run, tmp_path):
    with pytest.raises(ConfigError, match=r"split=dev.*train, val, test"):
        call("evaluate", f"run={small_run[0]}", "split=dev")
    with pytest.raises(ConfigError, match="run=RUN"):
        call("evaluate")
    with pytest.raises(ConfigError, match="needs a data set"):
        call("evaluate", f"model={tmp_path}")
    with pytest.raises(ConfigError, match=f"run={tmp_path}/no: there is no such file or folder"):
        call("evaluate", f"run={tmp_path}/no")


def test_scores_on_data_that_changed_come_with_a_warning(small_run, tmp_path, caplog):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "classes.json", "data.json"):
        shutil.copy(small_run[0] / name, run)
    own_dataset(RunFolder(run))
    assert "not what the run was trained on" not in caplog.text
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.dataset.images = {"train": 15, "val": 4, "test": 5}  # the drawn splits move
    OmegaConf.save(cfg, run / "config.yaml")
    own_dataset(RunFolder(run))
    assert f"{run}: the data set digits is not what the run was trained on" in caplog.text
    assert "images that are new: 1" in caplog.text


def test_the_run_has_a_page_a_split_of_errors_and_thresholds(small_run):
    folder, console = small_run
    scores = json.loads((folder / "summary.json").read_text())["scores"]["test"]
    assert (
        set(scores["errors"]["gains"]) == set(scores["errors"]["by_size"]["small"]) == set(scores["errors"]["counts"])
    )
    said = json.loads((folder / "thresholds.json").read_text())
    assert said["split"] == "val" and ("show detections from score" in console) == (said["shipped"] is not None)
    assert f"the page of the run is {folder}/report.html" in console
    page = (folder / "report.html").read_text()
    assert "<h2>Errors on test</h2>" in page and page.count("data:image/") >= 6
    for name in ("test_f1_curves.png", "test_errors.png"):
        assert (folder / name).exists()
    events = b"".join(path.read_bytes() for path in (folder / "detector" / "eval").iterdir())
    assert b"final/test_errors" in events and b"test_errors/missed" in events
    assert max(map(len, console.splitlines())) <= 200


@pytest.mark.slow
def test_the_threshold_goes_into_the_exported_file_and_its_suppression_stays(small_run, exported, tmp_path):
    from detect.detector import Detector

    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    shipped = {"score": 0.125, "per_class": [0.25] + [None] * 9, "split": "val", "calibration": None}
    (folder / "thresholds.json").write_text(json.dumps({"shipped": shipped}))
    call("export", f"run={folder}", "class_agnostic=true", "scored=0", "compared=2", "timings=1")
    call("export", f"run={folder}", "format=tflite", "scored=0", "compared=2", "timings=1", "class_agnostic=true")
    run = Detector.load(folder, class_agnostic=True)
    plain = Detector.load(folder)
    assert run.architecture.postprocess.class_agnostic and not plain.architecture.postprocess.class_agnostic
    for name in ("saved_model_class_agnostic", "tflite_class_agnostic"):
        file = Detector.load(folder / name)
        assert file.threshold == run.threshold and file.threshold.score == 0.125
        assert json.loads((folder / name / "export.json").read_text())["options"]["class_agnostic"] is True
    with pytest.raises(ConfigError, match="export the run again with class_agnostic=false"):
        call("predict", f"model={folder}/saved_model_class_agnostic", f"images={folder}", "class_agnostic=false")
    with pytest.raises(ConfigError, match="export the run again with class_agnostic=true"):
        Detector.load(exported, class_agnostic=True)
    assert Detector.load(folder / "tflite_class_agnostic", class_agnostic=False).threshold == run.threshold


def test_predict_draws_every_image_and_writes_coco_json(small_run, photographs, tmp_path):
    call("predict", f"run={small_run[0]}", f"images={photographs}/c*.png", f"output={tmp_path}", "score=0.01")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["chelsea.png", "coffee.png"]
    rows = json.loads((tmp_path / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2}
    for row in rows:
        x, y, width, height = row["bbox"]
        assert 0 <= x <= x + width <= 600.001 and 0 <= y <= y + height <= 400.001
        assert row["category"] == str(row["category_id"] - 1)  # class 1 is the digit "0"


def test_predict_without_images_says_so(small_run, tmp_path):
    with pytest.raises(DataError, match=r"images=.*nothing\.jpg: there is no image"):
        call("predict", f"run={small_run[0]}", f"images={tmp_path}/nothing.jpg")


def test_the_exported_model_equals_the_run(detector, exported, photographs):
    from detect.data.image_file import read_image
    from detect.detector import Detector
    from detect.geometry.frame import resize

    run, shipped = detector, Detector.load(exported)
    assert shipped.classes == run.classes and shipped.size == run.size == (96, 96)
    frames = [resize(read_image(path), (96, 96)) for path in sorted(photographs.iterdir())]
    for a, b in zip(run(frames), shipped(frames), strict=True):
        assert_same_detections(parts(b), parts(a), 96)
    (found,) = shipped(sorted(photographs.iterdir())[0])  # 300 x 451 pixels
    assert found.boxes[:, 2].max() <= 300.001 and 96 < found.boxes[:, 3].max() <= 451.001


@pytest.mark.parametrize("size", [(96, 96), (200, 300), (300, 300), (500, 500)])
def test_the_resize_inside_the_export_is_that_of_training(photographs, size):
    """To one level: OpenCV and TensorFlow round a pixel that lies halfway differently."""
    import tensorflow as tf

    from detect.data.image_file import read_image
    from detect.export.saved_model import fit_in_graph
    from detect.geometry.frame import Frame

    for path in photographs.iterdir():
        image = read_image(path)
        inside, _ = fit_in_graph(tf.constant(image[np.newaxis]), Frame(size))
        assert np.abs(inside.numpy()[0] - Frame(size).fit(image)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keep_aspect", "zoo"])
def test_evaluation_detector_and_export_agree_in_every_mode(small_run, photographs, tmp_path, mode):
    """The small run's weights behind another resize. The graph rounds some pixels of `keep_aspect` differently."""
    from detect.data.dataset import DetectionDataset
    from detect.data.examples import Example
    from detect.data.image_file import read_image
    from detect.detector import Detector
    from detect.evaluation.evaluators import DetectionEvaluator
    from detect.export import saved_model
    from detect.geometry.frame import Frame

    run = tmp_path / mode
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("last", "train", "eval", "classify"))
    cfg = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(cfg, "detector.resize", mode, force_add=True)
    OmegaConf.save(cfg, run / "config.yaml")
    detector = Detector.load(run)
    saved_model.save(detector.architecture, detector.classes, "test", tmp_path / "saved_model")
    shipped = Detector.load(tmp_path / "saved_model")
    paths = sorted(photographs.iterdir())
    examples = tuple(
        Example(path, width, height, [[10, 20, 90, 120]], [1], [False], path.stem)
        for path, (height, width) in zip(paths, [(300, 451), (400, 600)], strict=True)
    )
    dataset = DetectionDataset("photographs", detector.classes, {"train": (), "val": (), "test": examples})
    frame = Frame(detector.size, detector.architecture.resize)
    assert frame.mode == mode
    _, scored = DetectionEvaluator(detector.architecture.detect, frame, dataset, "test", batch_size=2, threads=2)()
    for path, found, exported in zip(paths, detector(paths), shipped(paths), strict=True):
        boxes, scores, classes = scored.detections[path.stem]
        side = max(read_image(path).shape)
        assert_same_detections(parts(found), (boxes, scores, classes), side)
        if mode == "zoo":
            assert_same_detections(parts(exported), (boxes, scores, classes), side, shown=20)
        else:  # a level of a pixel is more than float rounding
            np.testing.assert_allclose(exported.scores[:20], scores[:20], atol=1e-2)


def test_two_images_of_a_batch_equal_two_batches(signature, photographs):
    import tensorflow as tf

    from detect.data.image_file import read_image

    images = np.stack([read_image(path)[:300, :400] for path in sorted(photographs.iterdir())])
    together = signature(input_tensor=tf.constant(images))
    for i, image in enumerate(images):
        alone = signature(input_tensor=tf.constant(image[np.newaxis]))
        assert alone["num_detections"][0] == together["num_detections"][i] > 0
        assert_same_detections(served(together, i), served(alone, 0), 1.0, shown=20)


@pytest.mark.slow
def test_a_faster_rcnn_run_predicts_and_exports(photographs, small_overrides, tmp_path):
    """Untrained, with few proposals, in a frame that keeps the aspect; batches of the export equal singles."""
    import tensorflow as tf

    from detect.data.image_file import read_image
    from detect.detector import Detector
    from detect.training import build
    from detect.weights import checkpoint

    run, kept = tmp_path / "run", [o for o in small_overrides if "detector.neck" not in o]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", [*kept, "detector=faster_rcnn", "detector.resize=keep_aspect",
                                      "detector.anchors.base=64", "detector.proposals.count=12"])  # fmt: skip
    (run / "detector").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(plain(cfg)), run / "config.yaml")
    (run / "classes.json").write_text('["a", "b"]')
    variables = build.detector(cfg, 2).model.variables
    checkpoint.write(run / "detector" / "best", {v.name.removesuffix(":0"): v for v in variables})
    call("export", f"run={run}")
    with pytest.raises(ConfigError, match=r"FasterRCNN crops its feature map.*format=saved_model"):
        call("export", f"run={run}", "format=tflite")
    call("predict", f"run={run}", f"images={photographs}", "score=0.0")
    assert len(list((run / "predictions").glob("*.png"))) == 2
    shipped, detector = Detector.load(run / "saved_model"), Detector.load(run)
    frames = [read_image(path)[:96, :64] for path in sorted(photographs.iterdir())]  # as high as the frame: no resize
    for a, b in zip(detector(frames), shipped(frames), strict=True):
        assert len(a.boxes) == len(b.boxes) > 0 and (a.boxes <= [96.001, 64.001] * 2).all()
        assert_same_detections(parts(b), parts(a), 96)
    serve = tf.saved_model.load(str(run / "saved_model")).signatures["serving_default"]
    together = serve(tf.constant(np.stack(frames)))
    for i, frame in enumerate(frames):
        alone = serve(tf.constant(frame[np.newaxis]))
        assert_same_detections(served(together, i), served(alone, 0), 1.0)


def test_the_signature_is_the_object_detection_apis(signature):
    import tensorflow as tf

    outputs = signature(input_tensor=tf.zeros((2, 50, 70, 3), tf.uint8))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "detection_boxes": (2, 100, 4), "detection_scores": (2, 100), "detection_classes": (2, 100),
        "num_detections": (2,),
    }  # fmt: skip
    assert float(tf.reduce_max(outputs["detection_boxes"])) <= 1.0


def test_export_does_not_overwrite_unasked(small_run, exported):
    with pytest.raises(ConfigError, match="overwrite=true"):
        call("export", f"run={small_run[0]}", f"output={exported}")


@pytest.mark.parametrize("output", ["file", "file/deeper"])
@pytest.mark.parametrize("words", [["export", "overwrite=true"], ["evaluate"], ["inspect", "only=quantize"]])
def test_an_output_that_is_a_file_is_refused_before_the_work(small_run, tmp_path, output, words):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=f"output={tmp_path}/{output}: {tmp_path}/file is not a folder"):
        call(words[0], f"run={small_run[0]}", *words[1:], f"output={tmp_path}/{output}")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_does_not_mix_with_a_run_or_another_format(small_run, exported):
    with pytest.raises(ConfigError, match=f"output={small_run[0]}: this is a run folder"):
        call("export", f"run={small_run[0]}", "overwrite=true", f"output={small_run[0]}")
    with pytest.raises(ConfigError, match=r"it holds saved_model\.pb, a model of another format"):
        call("export", f"run={small_run[0]}", "format=tflite", "overwrite=true", f"output={exported}")


def test_a_folder_below_the_users_own(small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(small_run[0].parent))
    monkeypatch.chdir(tmp_path)
    call("evaluate", f"run='~/{small_run[0].name}'", "output='~/scored'")
    assert (small_run[0].parent / "scored/test_scores.json").is_file() and not (tmp_path / "~").exists()
    cfg = compose([f"run='~/{small_run[0].name}'"], "export")
    assert options.destination(cfg) == small_run[0] / "saved_model"


def test_an_export_that_is_replaced_takes_its_scores_along(tmp_path):
    cfg = OmegaConf.create({"run": str(tmp_path)})
    writer.write_beside(cfg, tmp_path, ["a"], {})
    for name, about in (("evaluation", {}), ("evaluation_b", {"file": "b.tflite"}), ("elsewhere", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_scores.json").write_text(json.dumps(about))
    (tmp_path / "evaluation_link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "evaluation_notes").mkdir()
    (tmp_path / "evaluation_notes" / "mine.txt").write_text("the user's own")
    writer.write_beside(cfg, tmp_path, ["a"], {})
    kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept == ["elsewhere", "evaluation_b", "evaluation_notes"]


def test_what_an_export_leaves(small_run, exported):
    report = json.loads((exported / "export.json").read_text())
    assert report["parity"]["limit"] == {"partners": 0.95, "sqnr_db": 60.0, "relative": 1e-3}
    decibels, relative = report["parity"]["sqnr_db"], report["parity"]["relative"]
    assert report["parity"]["partners"] >= 0.95
    assert relative == 0 if decibels is None else decibels >= 60  # None: infinite, as on some processors
    assert report["parity"]["largest_score_difference"] >= 0 and relative <= 1e-3
    assert report["parity"]["frames"] == 4 and report["parity"]["source"] == "val of digits"
    assert report["bytes"] > 1e5 and report["latency_ms"] > 0 and report["steps"] == 12
    assert report["operators"]["DepthwiseConv2dNative"] == {"float32": 13}
    assert report["scores"]["images"] == 4 and set(report["scores"]["file"]) == set(FIGURES)
    assert (
        report["scores"]["run"]["AP"] == json.loads((small_run[0] / "summary.json").read_text())["scores"]["test"]["AP"]
    )
    assert (exported / "labels.txt").read_text().split() == [str(n) for n in range(10)]
    assert report["settings"]["size"] == [96, 96] and report["settings"]["suppression"]["total"] == 100


@pytest.fixture(scope="module")
def tflite(small_run, tmp_path_factory):
    """{name: folder} of a float file with raw heads, and of an int8 file with the custom operation behind it."""
    root = tmp_path_factory.mktemp("tflite")
    kinds = {
        "float32": ["strict=true"],
        "int8": ["quantization=ptq", "nms=tflite_op", "representative=4"],
    }
    for name, overrides in kinds.items():
        folder = f"output={root / name}"
        more = ["timings=10", "compared=2", "scored=3", folder, *overrides]
        call("export", f"run={small_run[0]}", "format=tflite", *more)
    return {name: root / name for name in kinds}


def test_a_tflite_file_detects_what_the_run_does(detector, tflite, photographs):
    from detect.detector import Detector

    run, shipped = detector, Detector.load(tflite["float32"] / "model.tflite")
    assert (shipped.classes, shipped.size) == (run.classes, run.size)
    assert Detector.load(tflite["float32"]).name == shipped.name  # the folder will do
    paths = sorted(photographs.iterdir())
    for a, b in zip(run(paths), shipped(paths), strict=True):
        assert_same_detections(parts(b), parts(a), b.boxes.max(), shown=20)
        assert b.classes.dtype == a.classes.dtype and b.boxes.max() > 100


def test_what_a_tflite_export_leaves(tflite):
    report = json.loads((tflite["int8"] / "export.json").read_text())
    assert report["representative"] == 4 and report["parity"]["source"] == "val of digits"
    assert report["operators"]["TFLite_Detection_PostProcess"] == {"float32": 1}
    assert set(report["operators"]["CONV_2D"]) == set(report["operators"]["DEPTHWISE_CONV_2D"]) == {"int8"}
    assert report["bytes"] == (tflite["int8"] / "model.tflite").stat().st_size < report["float32_bytes"] / 2
    assert sum(report["parity"]["codes"]["quanta"]) == 2 * 204 * 4
    assert report["parity"]["detections"]["largest_score_difference"] < 1e-5
    assert set(report["latency_ms"]) == {"1", "2"} and report["latency_ms"]["1"]["float32"] > 0
    assert report["layers"][0]["sqnr_db"] <= report["layers"][-1]["sqnr_db"] and report["host"]["cores"]
    plain = json.loads((tflite["float32"] / "export.json").read_text())
    assert plain["parity"]["within"] and plain["parity"]["limit"] == {"sqnr_db": 60.0, "relative": 1e-3}
    for scores in (report["scores"], plain["scores"]):
        assert scores["split"] == "test" and scores["images"] == 3
        assert scores["difference"] == scores["file"]["AP"] - scores["run"]["AP"]
        assert set(scores["run"]) == set(scores["file"]) == set(FIGURES)
    assert plain["scores"]["file"] == pytest.approx(plain["scores"]["run"], abs=2e-3)
    labels = (tflite["float32"] / "labels.txt").read_text().split()
    anchors = np.loadtxt(tflite["float32"] / "anchors.csv", delimiter=",", skiprows=1)
    assert labels == [str(n) for n in range(10)] and anchors.shape == (204, 4)


def test_evaluate_scores_the_tflite_file_itself(small_run, tflite, tmp_path, capsys):
    cfg = OmegaConf.load(small_run[0] / "config.yaml")
    counts = f"dataset.images={{train:{cfg.dataset.images.train},val:4,test:4}}"
    expected = json.loads((small_run[0] / "summary.json").read_text())["scores"]["test"]
    data = ["dataset=digits", counts]
    ap = call("evaluate", f"model={tflite['float32']}/model.tflite", *data, f"output={tmp_path}")
    assert ap == pytest.approx(expected["AP"], abs=2e-3)
    found = json.loads((tmp_path / "test_scores.json").read_text())
    assert found["AR100"] == pytest.approx(expected["AR100"], abs=2e-2) and "4/4" in capsys.readouterr().out
    call("evaluate", f"model={tflite['int8']}/model.tflite", *data)
    assert (tflite["int8"] / "evaluation" / "test_predictions.png").exists()


def test_evaluate_scores_a_test_set_of_fewer_classes(small_run, tmp_path):
    """Images of test alone, with boxes of two classes: AP of these is that of the run."""
    from detect.data.dataset import DetectionDataset
    from detect.runs.dataset import dataset_of
    from detect.runs.folder import RunFolder

    whole = dataset_of(RunFolder(small_run[0]).saved_config(), decode=False)
    kept = sorted({int(k) for e in whole.splits["test"] for k in e.classes})[:2][::-1]
    test = []
    for example in whole.splits["test"]:
        rows = np.flatnonzero(np.isin(example.classes, kept))
        classes = [kept.index(k) + 1 for k in example.classes[rows]]
        chosen = {key: getattr(example, key)[rows] for key in ("boxes", "crowd", "areas")}
        test.append(replace(example, classes=classes, **chosen))
    splits = {"train": (), "val": (), "test": tuple(test)}
    names = tuple(whole.classes[k - 1] for k in kept)
    (tmp_path / "data").mkdir()
    write_coco(DetectionDataset("two", names, splits), tmp_path / "data", Notes())
    data = ["dataset=auto", f"dataset.root={tmp_path / 'data'}", f"output={tmp_path / 'out'}"]
    call("evaluate", f"run={small_run[0]}", *data)
    expected = json.loads((small_run[0] / "summary.json").read_text())["scores"]["test"]["per_class"]
    found = json.loads((tmp_path / "out" / "test_scores.json").read_text())["per_class"]
    assert {name for name, row in found.items() if row["AP"] is not None} == set(names)
    for name in names:
        assert found[name]["AP"] == pytest.approx(expected[name]["AP"], abs=1e-6)
    told = r"does not know x.*dataset\.rename=\{x: 0\}.*dataset\.classes=\[.*leaves the others out"
    with pytest.raises(DataError, match=told):
        call("evaluate", f"run={small_run[0]}", *data, f"dataset.rename={{{names[0]}: x}}")


def test_evaluate_finds_the_run_that_an_export_lies_in(small_run, tflite, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("last", "train", "eval", "classify", "detector"))
    shutil.copytree(tflite["float32"], run / "tflite")
    call("evaluate", f"model={run}/tflite/model.tflite", "split=val")
    assert (run / "tflite" / "evaluation" / "val_scores.json").exists()


def test_predict_draws_with_the_tflite_file(tflite, photographs, tmp_path):
    call("predict", f"model={tflite['int8']}/model.tflite", f"images={photographs}", f"output={tmp_path}", "score=0.01")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["chelsea.png", "coffee.png"]
    rows = json.loads((tmp_path / "detections.json").read_text())
    assert rows and all(row["category"] == str(row["category_id"] - 1) for row in rows)


def test_a_file_that_is_no_export_is_refused(photographs, tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"not at all")
    for verb, more in (("predict", [f"images={photographs}"]), ("evaluate", ["dataset=digits"])):
        with pytest.raises(WeightsError, match=r"x\.tflite: not a TFLite file"):
            call(verb, f"model={tmp_path}/x.tflite", *more)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["quantization=qat", "format=tflite"],
            r"never trained with fake quantisation.* quantize=int8 init=.*detector",
        ),
        (["quantization=qat"], "never trained with fake quantisation"),
        (["format=tflite", "batch=null", "nms=in_graph"], "batch=null nms=in_graph: legal are 1, and null"),
        (["format=tflite", "batch=4"], "batch=4 nms=none: legal are 1"),
        (["format=tflite", "input=int8"], "input=int8 quantize=none: .* int8 needs quantize=ptq or qat"),
        (["format=tflite", "weights=per_tensor"], "weights=per_tensor is for quantize=dynamic and ptq"),
        (["weights=per_tensor", "batch=null"], "weights=per_tensor, batch=null is for format=tflite"),
        (["quantization=ptq"], "quantize=ptq is for format=tflite"),
        (["nms=tflite_op", "input=int8"], "nms=tflite_op, input=int8 is for format=tflite"),
        (["format=tflite", "output=x.tflite"], "name a folder"),
    ],
)
def test_export_refuses_what_does_not_go_together(small_run, overrides, message):
    with pytest.raises(ConfigError, match=message):
        call("export", f"run={small_run[0]}", *overrides)


def test_export_of_a_run_that_never_trained(small_run, tmp_path):
    for name in ("config.yaml", "classes.json"):
        shutil.copy(small_run[0] / name, tmp_path / name)
    with pytest.raises(WeightsError, match="no such stage, or has not reached its first evaluation"):
        call("export", f"run={tmp_path}", "format=tflite")


@pytest.mark.slow
def test_an_export_without_its_data_set(small_run, tmp_path, caplog):
    """ptq needs training images; any other file is compared on photographs."""
    run = tmp_path / "run"
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("last", "train", "eval", "classify"))
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.dataset = {"_target_": "detect.data.formats.voc.read_voc", "root": str(tmp_path / "gone")}
    OmegaConf.save(cfg, run / "config.yaml")
    with pytest.raises(DataError, match="gone: no such folder"):
        call("export", f"run={run}", "format=tflite", "quantization=ptq")
    call("export", f"run={run}", "format=tflite", "quantization=float16", "timings=10", "strict=false")
    report = json.loads((run / "tflite_float16" / "export.json").read_text())
    assert report["parity"]["source"] == "photographs of scikit-image" and report["parity"]["limit"] == {
        "sqnr_db": 40.0,
        "relative": 1e-2,
    }
    assert "photographs are compared" in caplog.text and report["scores"] is None


@pytest.mark.slow
def test_a_file_beyond_its_limit_is_not_written(small_run, tmp_path, monkeypatch):
    from detect.evaluation.sqnr import Limit
    from detect.tflite import parity

    monkeypatch.setitem(parity.LIMITS, "none", Limit(1000.0, -1.0))
    told = (
        r"not written: the file's codes have .* dB and .*, logits have .* legal are an SQNR of at least 1000 dB and a "
        r"difference of at most -1; strict=false"
    )
    with pytest.raises(ConfigError, match=told):
        call("export", f"run={small_run[0]}", "format=tflite", "timings=10", "scored=0", f"output={tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_quantize_is_the_word_on_the_command_line():
    from detect.cli import overrides

    command = overrides.prepare(overrides.read(["run=x", "format=tflite", "quantize=ptq"], "export"))
    assert overrides.first_job(command).quantization == "ptq"
    with pytest.raises(ConfigError, match="quantize=int3 is not legal: expected one of none, float16"):
        overrides.prepare(overrides.read(["run=x", "quantize=int3"], "export"))


def test_detector_batches_equal_singles_and_scores_are_filtered(detector, photographs):
    paths = sorted(photographs.iterdir())
    together, alone = detector(paths, score=0.02), [detector(path, score=0.02)[0] for path in paths]
    for a, b in zip(together, alone, strict=True):
        assert_same_detections(parts(a), parts(b), a.boxes.max())
        assert len(a.names) == len(a.scores) and (a.scores >= 0.02).all() and (b.scores >= 0.02).all()


@pytest.mark.parametrize("given", [{"score": 50}, {"score": "0.5"}, {"score": None}, {"tile": 0}, {"tile": True}])
def test_scores_and_tiles_that_are_not_legal(detector, given):
    ((key, value),) = given.items()
    with pytest.raises(ConfigError, match=f"{key}={value!r}"):
        detector(np.zeros((8, 8, 3), np.uint8), **given)


def test_scores_in_words_are_those_that_were_stored(detector, photographs, monkeypatch):
    path = sorted(photographs.iterdir())[0]
    (every,) = detector(path)
    threshold = Shipped(float(every.scores[2]), (None,) * len(detector.classes), "val")
    monkeypatch.setattr(detector, "threshold", threshold)
    (best,) = detector(path, score="auto")
    assert len(best.names) == len(best.boxes) == (every.scores >= every.scores[2]).sum() < len(every.names)


def test_detector_refuses_what_is_neither(tmp_path):
    from detect.detector import Detector

    with pytest.raises(WeightsError, match="neither a run folder"):
        Detector.load(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(WeightsError, match="not reached its first evaluation"):
        Detector.load(tmp_path)


@pytest.mark.parametrize("name", ["a.tflite", "a.onnx", "a.xml", "folder/saved_model.pb"])
def test_an_export_has_no_stages(tmp_path, name):
    from detect.detector import Detector

    (tmp_path / "folder").mkdir()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"stage=detector: .* is an exported model, which has one stage"):
        Detector.load(tmp_path / name.removesuffix("/saved_model.pb"), stage="detector")


def test_inspect_writes_contact_sheets(tmp_path, caplog):
    with caplog.at_level("INFO", "detect"):
        small = ["dataset.images={train:8,val:2,test:2}", "detector.size=[96,96]", "backbone.depth_multiplier=0.25"]
        call("inspect", "dataset=digits", *small, f"output={tmp_path}", "images=4")
    assert {path.name for path in tmp_path.iterdir()} == {
        "raw_train.png", "raw_val.png", "raw_test.png", "augmented.png",
    }  # fmt: skip
    assert "match no anchor at IoU 0.5" in caplog.text and "synthetic placement" in caplog.text
    assert "SSD on MobileNetV1, frames of 96x96 px, 10 classes" in caplog.text
    assert max(len(line) for line in caplog.messages if line.startswith("  ")) <= 80


def test_inspect_of_the_network_alone(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "detect"):
        call("inspect", "only=network", "detector=ssdlite", "backbone.depth_multiplier=0.25")
    first, *messages = caplog.messages
    rows = [message.split() for message in messages]
    assert first == "no dataset.root is given: the network has 10 classes"
    assert messages[0] == "SSD on MobileNetV1, frames of 300x300 px, 10 classes"
    assert rows[1] == ["part", "from", "size", "depth", "boxes", "MACs", "params"]
    assert rows[2][:6] == ["Conv2d_11_pointwise", "the", "backbone", "19x19", "128", "3"]
    assert rows[4][:7] == [".._2_Conv2d_2_3x3_s2_512", "separable", "3x3", "/2", "5x5", "512", "6"]
    assert [row[:2] for row in rows if row[0] == "total"] == [["total", "1917"]]
    assert max(map(len, caplog.messages)) <= 80 and not list(tmp_path.iterdir())


def test_inspect_of_the_data_alone_builds_no_network(tmp_path, caplog):
    with caplog.at_level("INFO", "detect"):
        call(
            "inspect",
            "only=data",
            "dataset=digits",
            "dataset.images={train:8,val:2,test:2}",
            f"output={tmp_path}",
            "images=2",
        )
    assert "image width, pixels" in caplog.text and (tmp_path / "augmented.png").exists()
    assert "frames of" not in caplog.text and "match no anchor" not in caplog.text


def test_inspect_finds_bccds_two_zero_area_boxes(shared, tmp_path, caplog):
    with caplog.at_level("INFO", "detect"):
        call("inspect", "dataset=voc", f"dataset.root={shared}/data/bccd", f"output={tmp_path}", "images=2",
             "backbone.depth_multiplier=0.25")  # fmt: skip
    found = [line for line in caplog.messages if "zero-area" in line and "BloodImage" in line]
    assert len(found) == 2 and any("00338" in line for line in found) and any("00343" in line for line in found)


def test_report_writes_table_csv_and_curves(small_run, tmp_path):
    folder = small_run[0]
    (tmp_path / "README.md").write_text("# Study\n<!-- table -->\nold\n<!-- end of table -->\nverdict\n")
    call("report", f"runs={folder.parent}", f"output={tmp_path}")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["split"] for row in rows] == ["test", "val"]
    assert float(rows[0]["AP"]) == round(summary["scores"]["test"]["AP"], 4)
    assert rows[0]["arm"] == "train" and rows[0]["seed"] == "0" and float(rows[0]["minutes"]) > 0
    text = (tmp_path / "README.md").read_text()
    assert "old" not in text and "| test | train | uninterrupted | 0 |" in text and text.endswith("verdict\n")
    assert (tmp_path / "curves.png").exists()


def test_report_without_runs_says_so(tmp_path):
    with pytest.raises(DataError, match="no finished run"):
        call("report", f"runs={tmp_path}", f"output={tmp_path}")
    with pytest.raises(ConfigError, match="no such folder"):
        call("report", f"runs={tmp_path}/none", f"output={tmp_path}")
