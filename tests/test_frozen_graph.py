"""A frozen graph of the TF Object Detection API (SSDLite MobileNet v2, 300 px, one class; MIT) as the oracle of SSD's
geometry: anchors, box code, suppression.

tests/fixtures/ssdlite_pedestrian.npz holds its answers to random codes and logits, so that the tests of `anchors`,
`box_coder` and `postprocess` need no graph. `python tests/test_frozen_graph.py GRAPH` writes that file.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

FIXTURE = Path(__file__).parent / "fixtures" / "ssdlite_pedestrian.npz"
GRAPH = "weights/ssdlite_mobilenet_v2_pedestrian/frozen_inference_graph.pb"


def inputs():
    """Codes in eighths, float32 [1917, 4], and logits of background and pedestrian without ties, float32 [1917, 2]."""
    random = np.random.default_rng(0)
    codes = np.round(random.normal(0, 1.5, (1917, 4)) * 8).clip(-127, 127) / 8
    logits = np.stack([np.zeros(1917), (random.permutation(1917) - 1600) / 300], axis=1)
    return codes.astype(np.float32), logits.astype(np.float32)


def run(graph_file: Path) -> dict[str, np.ndarray]:
    """The graph's anchors, decoded boxes (both normalised) and detections for `inputs()`."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graph_file.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
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
    with tf.compat.v1.Session(graph=graph) as session:
        result = session.run(fetches, feed)
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

    from detect.anchors import SSDAnchors
    from detect.box_coder import BoxCoder
    from detect.postprocess import NonMaxSuppression

    codes, logits = inputs()
    anchors = SSDAnchors()([(n, n) for n in (19, 10, 5, 3, 2, 1)], (300, 300))
    decoded = BoxCoder().decode(codes, anchors)
    found = NonMaxSuppression()(decoded[np.newaxis], tf.sigmoid(logits[np.newaxis, :, 1:]), (300, 300))
    np.testing.assert_allclose(anchors / 300, answers["anchors"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(decoded / 300, answers["decoded"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["scores"], answers["detection_scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["boxes"][0] / 300, answers["detection_boxes"], rtol=0, atol=1e-5)


if __name__ == "__main__":
    FIXTURE.parent.mkdir(exist_ok=True)
    asked_codes, asked_logits = inputs()
    given = {"codes": np.round(asked_codes * 8).astype(np.int8), "logits": asked_logits[:, 1]}
    np.savez_compressed(FIXTURE, **given, **run(Path(sys.argv[1])))
