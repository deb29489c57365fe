"""FCOS against torchvision's on the same boxes and outputs (scripts/fcos_fixture.py), and by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.geometry.box_coder import DistanceCoder
from detect.geometry.points import Points, strides
from detect.modeling.fcos import FCOS, FCOSHead
from detect.modeling.losses import FocalClassification, GIoU, SmoothL1, SoftmaxClassification
from detect.modeling.nms import NonMaxSuppression
from detect.modeling.point_assigner import PointAssigner, centerness

layers = tf_keras.layers
FIXTURE = Path(__file__).parent / "fixtures" / "fcos_torchvision.npz"


@pytest.fixture(scope="module")
def theirs():
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def assigned(theirs, **arguments):
    """The points, their limits, and the assigner."""
    shapes = [tuple(theirs["size"] // stride) for stride in theirs["strides"]]
    points = Points()(shapes, tuple(theirs["size"]))
    assigner = PointAssigner(**arguments)
    return points, assigner.limits(strides(shapes, theirs["size"]), [h * w for h, w in shapes]), assigner


def test_points_and_matches_equal_torchvisions(theirs):
    points, limits, assigner = assigned(theirs)
    np.testing.assert_array_equal(points, theirs["points"])
    matches = assigner.matches(points, limits, theirs["boxes"], theirs["classes"])
    np.testing.assert_array_equal(matches, theirs["matches"])
    assert ((theirs["matches"] >= 0).sum(axis=1) > 0).tolist() == [True, False, True]


def test_losses_equal_torchvisions(theirs):
    points, limits, assigner = assigned(theirs)
    detector = SimpleNamespace(
        anchors=points,
        limits=limits,
        target_assigner=assigner,
        classification_loss=FocalClassification(0.25, 2.0),
        localization_loss=GIoU(),
        _decode=lambda codes: assigner.box_coder.decode(codes, points),
    )
    outputs = {"codes": tf.constant(theirs["codes"]), "logits": tf.constant(theirs["logits"])}
    found, _ = FCOS.compare(detector, outputs, tf.constant(theirs["boxes"]), tf.constant(theirs["classes"]))
    for ours, name in (
        ("classification", "classification"),
        ("localization", "bbox_regression"),
        ("centerness", "bbox_ctrness"),
    ):
        assert float(found[ours]) == pytest.approx(float(theirs[name]), rel=2e-6), name


def test_who_answers_for_a_box():
    # Points at 4, 12, 20, 28 both ways; a box of 24 px at the corner, and a smaller one within it.
    points = Points()([(4, 4)], (32, 32))
    boxes = np.array([[[0, 0, 24, 24], [8, 8, 16, 16], [0, 0, 32, 32]]], np.float32)
    found = []
    for radius, kinds in ((None, [1, 1, -1]), (0.75, [1, -1, -1]), (None, [1, -1, 2])):
        assigner = PointAssigner(radius)
        found.append(assigner.matches(points, assigner.limits([8], [16]), boxes, np.array([kinds])).numpy())
    assert found[0].reshape(4, 4).tolist() == [[0, 0, 0, -1], [0, 1, 0, -1], [0, 0, 0, -1], [-1, -1, -1, -1]]
    assert (found[1] >= 0).sum() == 1 and found[1][0, 5] == 0  # 12, 12 is the middle
    assert found[2].reshape(4, 4)[:3, :3].tolist() == [[0] * 3] * 3 and (found[2] == 2).sum() == 7


def test_the_next_map_takes_over():
    limits = PointAssigner(None, [10.0]).limits([8, 16], [16, 4])
    assert limits[0].tolist() == [0, 10] and limits[-1].tolist() == [10, np.inf] and limits.shape == (20, 2)
    assert PointAssigner().limits([8, 16, 32], [1, 1, 1])[:, 0].tolist() == [0, 64, 128]
    with pytest.raises(ConfigError, match=r"target_assigner.ranges=\[10.0\] has 1 entries: 3 maps need 2"):
        PointAssigner(None, [10.0]).limits([8, 16, 32], [1, 1, 1])


def test_distances_and_centerness_by_hand():
    point, box = np.array([[8, 8, 16, 16]], np.float32), np.array([[4, 10, 16, 28]], np.float32)
    codes = DistanceCoder().encode(box, point)
    np.testing.assert_allclose(codes, [[1, 0.25, 0.5, 2]])
    np.testing.assert_allclose(DistanceCoder().decode(codes, point), box)
    np.testing.assert_allclose(centerness(codes), [0.25])  # sqrt(1/2 * 1/8)
    assert float(centerness(np.zeros((1, 4), np.float32))[0]) == 0


def test_giou_by_hand():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 0, 0]], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 2, 1], [0, 0, 2, 2]], np.float32)
    # Equal; side by side, which fill their hull; a point in the corner.
    np.testing.assert_allclose(GIoU()(boxes, others), [0, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FCOSHead(norm="group"), "head.norm=group is not legal: expected one of batch, none"),
        (lambda: FCOSHead(centerness="both"), "head.centerness=both is not legal: .* regression, class"),
        (lambda: FCOSHead(convolutions=-1), "head.convolutions=-1: legal are whole numbers from 0"),
        (lambda: PointAssigner(0), "target_assigner.center_radius=0: legal is null or a number above 0"),
        (lambda: PointAssigner(1.5, [64, 32]), "target_assigner.ranges=.64, 32.: legal is null or rising pixels"),
    ],
)
def test_what_is_not_legal(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def pyramid(**arguments):
    """A flat model of two maps of 3 channels with the head on them."""
    maps = [layers.Input((8, 8, 3), name="fine"), layers.Input((4, 4, 3), name="coarse")]
    tf_keras.utils.set_random_seed(0)
    codes, logits = FCOSHead(**arguments)(maps, [1, 1], 2, 0.01)
    return tf_keras.Model(maps, {"codes": codes, "logits": logits})


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_head_is_shared_by_the_maps(norm):
    model = pyramid(convolutions=2, norm=norm)
    kernels = [v for v in model.trainable_variables if "kernel" in v.name and "scale" not in v.name]
    assert len(kernels) == 2 * 2 + 3
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == (8 if norm == "batch" else 0)
    outputs = model([tf.zeros((1, 8, 8, 3)), tf.zeros((1, 4, 4, 3))])
    assert outputs["codes"].shape == (1, 80, 4) and outputs["logits"].shape == (1, 80, 3)
    np.testing.assert_allclose(outputs["codes"], np.ones((1, 80, 4)))
    np.testing.assert_allclose(tf.sigmoid(outputs["logits"][..., 1:]), np.full((1, 80, 2), 0.01), rtol=1e-5)


def test_a_loss_with_a_background_class_is_refused():
    with pytest.raises(ConfigError, match=r"detector\.classification_loss: SoftmaxClassification .*softmax"):
        FCOS(None, 2, (96, 96), None, None, PointAssigner(), SoftmaxClassification(), GIoU(), NonMaxSuppression())


@pytest.mark.parametrize("background", ["zero", "one"])
def test_a_loss_that_teaches_the_centre_ness_something_else_is_refused(background):
    loss = FocalClassification(background=background)
    with pytest.raises(ConfigError, match=rf"classification_loss\.background={background}: .* legal is ignored"):
        FCOS(None, 2, (96, 96), None, None, PointAssigner(), loss, GIoU(), NonMaxSuppression())


def test_a_loss_of_codes_is_refused():
    with pytest.raises(ConfigError, match=r"localization_loss: SmoothL1 takes codes, and this detector gives boxes"):
        FCOS(None, 2, (96, 96), None, None, PointAssigner(), FocalClassification(), SmoothL1(), NonMaxSuppression())
