"""A frozen graph of the TF Object Detection API (SSDLite MobileNet v2, 300 px, one class; MIT) as the oracle of SSD's
geometry: anchors, box code, suppression; of reading such graphs; and of a whole detector, from pixels to boxes.

tests/fixtures/ssdlite_pedestrian.npz holds its answers to random codes and logits, so that the tests of `anchors`,
`box_coder` and `postprocess` need no graph. `python tests/weights/test_zoo_graph.py GRAPH` writes that file.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import program
from tests.closeness import assert_same_detections
from tests.verbs import composed

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ssdlite_pedestrian.npz"
GRAPH = "weights/ssdlite_mobilenet_v2_pedestrian/frozen_inference_graph.pb"


def inputs():
    """Codes in eighths, float32 [1917, 4], and logits of background and pedestrian without ties, float32 [1917, 2]."""
    random = np.random.default_rng(0)
    codes = np.round(random.normal(0, 1.5, (1917, 4)) * 8).clip(-127, 127) / 8
    logits = np.stack([np.zeros(1917), (random.permutation(1917) - 1600) / 300], axis=1)
    return codes.astype(np.float32), logits.astype(np.float32)


def session(graph_file: Path):
    """The graph, ready to run."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graph_file.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return tf.compat.v1.Session(graph=graph)


def run(graph_file: Path) -> dict[str, np.ndarray]:
    """The graph's anchors, decoded boxes (both normalised) and detections for `inputs()`."""
    codes, logits = inputs()
    feed = {
        "image_tensor:0": np.zeros((1, 300, 300, 3), np.uint8),
        "Squeeze:0": codes[np.newaxis],
        "concat_1:0": logits[np.newaxis],
    }
    fetches = {
        "anchors": "Concatenate/concat:0",
        "decoded": "Postprocessor/raw_box_locations:0",
        "detection_boxes": "detection_boxes:0",
        "detection_scores": "detection_scores:0",
    }
    with session(graph_file) as running:
        result = running.run(fetches, feed)
    return {name: value.reshape(value.shape[-2:]) if value.ndim == 3 else value for name, value in result.items()}


@pytest.fixture(scope="module")
def answers(shared):
    return run(shared / GRAPH)


def test_the_fixture_holds_the_graphs_answers(answers):
    codes, logits = inputs()
    with np.load(FIXTURE) as kept:
        np.testing.assert_array_equal(kept["codes"] / np.float32(8), codes)
        np.testing.assert_allclose(kept["logits"], logits[:, 1], rtol=0, atol=1e-7)
        for name, value in answers.items():
            np.testing.assert_allclose(kept[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_anchors_decoding_and_suppression_equal_the_graph(answers):
    import tensorflow as tf

    from detect.geometry.anchors import SSDAnchors
    from detect.geometry.box_coder import BoxCoder
    from detect.modeling.nms import NonMaxSuppression

    codes, logits = inputs()
    anchors = SSDAnchors()([(n, n) for n in (19, 10, 5, 3, 2, 1)], (300, 300))
    decoded = BoxCoder().decode(codes, anchors)
    found = NonMaxSuppression()(decoded[np.newaxis], tf.sigmoid(logits[np.newaxis, :, 1:]), (300, 300))
    np.testing.assert_allclose(anchors / 300, answers["anchors"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(decoded / 300, answers["decoded"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["scores"], answers["detection_scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["boxes"][0] / 300, answers["detection_boxes"], rtol=0, atol=1e-5)


def compose(*overrides):

    return composed("train", "detector=ssdlite", "detector.resize=zoo", "backbone=mobilenet_v2", *overrides)


def build(graph_file: Path, num_classes: int, scope: str):
    """Our detector with the graph's weights, and the ledger."""
    from detect.training import build
    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    cfg = compose()
    detector, source = build.detector(cfg, num_classes), FromFile(str(graph_file), scope)
    arrays = source.read(build.instantiate(cfg.backbone))
    layers = detector.backbone_layers
    return detector, transfer(detector.model, arrays, source=source.describe(), layers=layers, scope=scope)


@pytest.fixture(scope="module")
def ours(shared):
    return build(shared / GRAPH, 1, "detector")


def test_the_whole_graph_is_loaded(ours):
    detector, ledger = ours
    assert len(ledger.loaded) == len(detector.model.variables) == 404
    assert ledger.totals()["loaded"][1] == detector.model.count_params() == 3_095_878
    assert not ledger.skipped


@pytest.mark.slow
def test_the_backbone_alone_or_other_classes(shared):
    _, ledger = build(shared / GRAPH, 1, "backbone")
    assert ledger.totals()["loaded"] == (260, 2_257_984) and len(ledger.skipped) == 144
    _, ledger = build(shared / GRAPH.rpartition("/")[0], 9, "detector")
    assert len(ledger.loaded) == 392
    assert set(ledger.skipped) == {
        f"BoxPredictor_{i}/ClassPredictor/{kind}" for i in range(6) for kind in ("kernel", "bias")
    }


@pytest.mark.parametrize(("interpolated", "warnings"), [("last", 0), ("second", 1)])
def test_heads_of_other_anchors_are_warned_of(shared, ours, tmp_path, caplog, monkeypatch, interpolated, warnings):
    from detect.geometry.anchors import SSDAnchors
    from detect.runs.folder import RunFolder
    from detect.training.stages import initialise
    from detect.weights.sources import FromFile

    monkeypatch.setattr(ours[0], "anchor_generator", SSDAnchors(interpolated=interpolated))
    source = FromFile(str(shared / GRAPH), "detector")
    assert initialise(ours[0], source, compose(), RunFolder(tmp_path).stage("detector"))
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == warnings and all("detector.anchors.interpolated=last" in message for message in found)


def photographs(shared):
    from skimage import data

    from detect.data.image_file import read_image

    person = data.astronaut()
    yield from (person, person[:, 100:350], person[40:300], np.tile(person, (2, 1, 1)))
    yield from (data.chelsea(), data.coffee(), data.rocket())
    for folder in ("microcontrollers", "grocery10", "bccd"):
        files = sorted((shared / "data" / folder).rglob("*.jpg")) + sorted((shared / "data" / folder).rglob("*.png"))
        yield from map(read_image, files[:2])


def test_real_photographs_give_the_same_detections_from_pixels_to_boxes(shared, ours):
    import tensorflow as tf

    from detect.geometry.frame import Frame

    detector, frame, compared = ours[0], Frame((300, 300), "zoo", exact=True), []
    detect = tf.function(detector.detect)
    with contextlib.closing(session(shared / GRAPH)) as running:  # entering it would end eager execution
        for image in photographs(shared):
            feed = {"image_tensor:0": image[np.newaxis]}
            names = [f"detection_{name}:0" for name in ("boxes", "scores", "classes")]
            boxes, scores, classes = (values[0] for values in running.run(names, feed))
            found = {name: value.numpy()[0] for name, value in detect(frame.fit(image)[np.newaxis]).items()}
            kept = scores > 0.05
            theirs = boxes[kept], scores[kept], classes[kept]
            height, width = image.shape[:2]
            mine = frame.to_image(found["boxes"], height, width) / [height, width, height, width]
            here = found["scores"] > 0.05
            assert_same_detections((mine[here], *(found[n][here] for n in ("scores", "classes"))), theirs, 1.0)
            compared += scores[kept].tolist()
    assert len(compared) > 100 and compared[0] == pytest.approx(0.9024, abs=1e-4)


@pytest.mark.slow
def test_a_zoo_users_whole_way(shared, tmp_path):
    """Train from the graph on other classes, export, evaluate the export: all from the command line."""
    import json

    def detect(*arguments):
        done = program.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run_folder, images = tmp_path / "run", "dataset.images={train:8,val:4,test:4}"
    steps = ["schedule.steps=3", "schedule.warmup=0", "schedule.batch_size=4", "schedule.evaluate_every=3"]
    network = ["dataset=digits", "detector=ssdlite", "detector.resize=zoo", "backbone=mobilenet_v2"]
    init = [f"init={shared / GRAPH}", "init.scope=detector"]
    console = detect("train", *network, *init, images, *steps, "threads=2", f"hydra.run.dir={run_folder}")
    assert "class heads: random" in console and "(12 variables skipped)" in console
    assert not (run_folder / "classify").exists()
    ledger = json.loads((run_folder / "detector" / "transfer.json").read_text())
    assert ledger["totals"]["loaded"]["variables"] == 392
    detect("export", f"run={run_folder}", f"output={tmp_path / 'saved_model'}")
    detect("evaluate", f"model={tmp_path / 'saved_model'}", "dataset=digits", images, f"output={tmp_path}")
    exported = json.loads((tmp_path / "test_scores.json").read_text())
    trained = json.loads((run_folder / "summary.json").read_text())["scores"]["test"]
    assert exported["AR100"] == pytest.approx(trained["AR100"], abs=0.02)


if __name__ == "__main__":
    FIXTURE.parent.mkdir(exist_ok=True)
    asked_codes, asked_logits = inputs()
    given = {"codes": np.round(asked_codes * 8).astype(np.int8), "logits": asked_logits[:, 1]}
    np.savez_compressed(FIXTURE, **given, **run(Path(sys.argv[1])))
