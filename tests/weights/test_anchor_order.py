"""What graphs tell of the anchors that their heads were trained for, and the warning if a detector has others."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from detect.geometry.anchors import GridAnchors, MultiscaleAnchors, SSDAnchors
from detect.training.initial_weights import warn_of_other_anchors
from detect.weights import checkpoint
from detect.weights.anchor_order import complaint, told_by_checkpoint, told_by_graph
from detect.weights.sources import FromFile

MAPS, SIZE = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)], (300, 300)
BACKBONE = SimpleNamespace(slim_scope="MobilenetV1")
LAST, SECOND = SSDAnchors(), SSDAnchors(interpolated="second")


def constant(graph, name, value):
    node = graph.node.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.asarray(value, np.float32)))


def graph_of(anchors: SSDAnchors, identity: bool = False):
    """The part of the API's graph that computes the sizes of anchors, and one weight."""
    graph, scope = tf.compat.v1.GraphDef(), "MultipleGridAnchorGenerator"
    constant(graph, "FeatureExtractor/MobilenetV1/Conv2d_0/weights", np.ones((3, 3, 3, 8)))
    for k, of_map in enumerate(anchors.specification(6)):
        scales, ratios = zip(*of_map, strict=True)
        constant(graph, f"{scope}/Sqrt_{k}/x", ratios)
        constant(graph, f"{scope}/truediv_{k}/x", scales)
        source = f"{scope}/truediv_{k}/x"
        if identity:
            graph.node.add(name=f"{source}/read", op="Identity", input=[source])
        graph.node.add(name=f"{scope}/Sqrt_{k}", op="Sqrt", input=[f"{scope}/Sqrt_{k}/x"])
        inputs = [f"{source}/read" if identity else source, f"{scope}/Sqrt_{k}"]
        graph.node.add(name=f"{scope}/truediv_{k}", op="RealDiv", input=inputs)
    return graph


def stored(anchors: SSDAnchors) -> np.ndarray:
    """As in the API's graphs for TFLite: centre and sides in shares of the frame."""
    boxes = anchors(MAPS, SIZE) / 300
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


@pytest.mark.parametrize("identity", [False, True])
def test_a_graph_tells_the_layout(identity):
    told = told_by_graph(graph_of(SECOND, identity))
    assert [len(of_map) for of_map in told] == [3, 6, 6, 6, 6, 6]
    for found, expected in zip(told, SECOND.specification(6), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_graph_for_tflite_stores_anchors():
    graph = tf.compat.v1.GraphDef()
    assert told_by_graph(graph) is None
    constant(graph, "anchors", stored(LAST))
    np.testing.assert_array_equal(told_by_graph(graph), stored(LAST).astype(np.float32))


def test_damaged_constants_tell_nothing():
    graph = graph_of(LAST)
    for node in graph.node:
        if node.op == "Const":
            node.attr["value"].tensor.tensor_shape.dim[0].size = 1 << 40
    constant(graph, "anchors", [1.0, 2.0])
    assert told_by_graph(graph) is None


def test_the_real_graph_of_the_api_has_the_default_anchors(shared):
    file = shared / "weights/ssdlite_mobilenet_v2_pedestrian/frozen_inference_graph.pb"
    arrays = FromFile(str(file), "detector").read(SimpleNamespace(slim_scope="MobilenetV2"))
    assert complaint(LAST, MAPS, SIZE, arrays.anchors, "x") is None
    assert complaint(SECOND, MAPS, SIZE, arrays.anchors, "x").endswith("Set detector.anchors.interpolated=last")


@pytest.mark.parametrize("form", ["graph", "checkpoint"])
def test_files_carry_what_they_tell(tmp_path, form):
    graph = graph_of(SECOND)
    file = tmp_path / ("x.pb" if form == "graph" else "model.ckpt")
    if form == "graph":
        file.write_bytes(graph.SerializeToString())
    else:
        checkpoint.write(file, {"FeatureExtractor/MobilenetV1/Conv2d_0/weights": np.ones((3, 3, 3, 8), np.float32)})
        assert FromFile(str(file)).read(BACKBONE).anchors is None
        meta = tf.compat.v1.MetaGraphDef()
        meta.graph_def.CopyFrom(graph)
        (tmp_path / "model.ckpt.meta").write_bytes(meta.SerializeToString())
    arrays = FromFile(str(file)).read(BACKBONE)
    assert list(arrays) == ["Conv2d_0/kernel"]
    assert arrays.anchors == told_by_graph(graph)
    if form == "checkpoint":
        (tmp_path / "model.ckpt.meta").write_bytes(b"\xff" * 9)
        assert told_by_checkpoint(file) is None


@pytest.mark.parametrize("tell", [lambda a: told_by_graph(graph_of(a)), stored])
def test_the_detector_is_compared_and_the_option_is_named(tell, caplog):
    def warned(generator, told):
        caplog.clear()
        maps = {str(k): np.zeros((1, *shape, 8)) for k, shape in enumerate(MAPS)}
        detector = SimpleNamespace(maps=maps, anchor_generator=generator, size=SIZE)
        with caplog.at_level(logging.WARNING, "detect"):
            warn_of_other_anchors(detector, told, "model.ckpt")
        return caplog.messages

    for same in (LAST, SECOND, SSDAnchors(aspect_ratios=[1, 2, 1 / 2, 3, 1 / 3])):
        assert warned(same, tell(same)) == []
    assert warned(SSDAnchors(aspect_ratios=[1, 2, 1 / 2, 3, 1 / 3]), tell(LAST)) == []  # .3333
    (message,) = warned(LAST, tell(SECOND))
    assert message.startswith("model.ckpt: ") and message.endswith("Set detector.anchors.interpolated=second")
    (message,) = warned(SECOND, tell(LAST))
    assert message.endswith("Set detector.anchors.interpolated=last")
    (message,) = warned(LAST, tell(SSDAnchors(min_scale=0.1)))
    assert "interpolated" not in message
    assert warned(LAST, None) == warned(GridAnchors(), told_by_graph(graph_of(LAST))) == []


def test_stored_anchors_are_compared_with_those_of_any_generator():
    maps, size = [(40, 40), (20, 20), (10, 10)], (320, 320)
    boxes = MultiscaleAnchors()(maps, size) / 320
    told = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    assert complaint(MultiscaleAnchors(), maps, size, told, "x.pb") is None
    assert complaint(MultiscaleAnchors(anchor_scale=3.0), maps, size, told, "x.pb").endswith("but detect nonsense")
    layout = told_by_graph(graph_of(LAST))
    assert complaint(MultiscaleAnchors(), maps, size, layout, "x.pb") is None  # no scale of a pyramid is in it


def test_other_anchors_are_given_as_a_layout():
    small = SSDAnchors(min_scale=0.1, max_scale=0.6)
    message = complaint(LAST, MAPS, SIZE, told_by_graph(graph_of(small)), "x.pb")
    given = message.partition("detector.anchors.layout=")[2].rstrip("'")
    assert given.startswith("[[[0.1,1.0],[0.1,2.0],[0.1,0.5]],[[0.2,1.0],")
    assert complaint(LAST, MAPS[:5], SIZE, told_by_graph(graph_of(LAST)), "x.pb") is not None
