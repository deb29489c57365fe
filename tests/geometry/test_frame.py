"""The frame: the pixels that an image becomes in each mode, boxes there and back, and the same in TensorFlow."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.errors import ConfigError
from detect.geometry.frame import MODES, Frame, resize, resize_tf1

SHAPES = [(37, 61), (61, 37), (40, 40), (200, 300), (301, 90), (24, 32), (48, 64), (5, 900), (9, 1)]  # of images
SIZES = [(24, 32), (64, 40)]  # of frames


def noise(height, width) -> np.ndarray:
    """Noise over a gradient, so that a shift shows as well as a wrong weight."""
    random = np.random.default_rng(height * 1000 + width).integers(0, 128, (height, width, 3))
    return (random + np.linspace(0, 127, width)[:, np.newaxis]).astype(np.uint8)


def test_stretch_is_the_plain_resize():
    """Bilinear, unless both sides shrink by two or more; the same array where nothing is to do."""
    image = noise(48, 64)
    np.testing.assert_array_equal(Frame((24, 32)).fit(image), cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA))
    np.testing.assert_array_equal(Frame((25, 32)).fit(image), cv2.resize(image, (32, 25)))
    np.testing.assert_array_equal(Frame((48, 64)).fit(image), image)
    assert Frame((24, 32)).used(999, 3) == (24, 32)


@pytest.mark.parametrize(
    ("shape", "used"),
    [((600, 800), (300, 400)), ((800, 600), (300, 225)), ((300, 500), (300, 500)), ((1, 999), (1, 500)),
     ((999, 1), (300, 1)), ((150, 200), (300, 400)), ((333, 500), (300, 450)), ((301, 999), (151, 500))],
)  # fmt: skip
def test_keep_aspect_uses_what_it_can_of_300x500(shape, used):
    assert Frame((300, 500), "keep_aspect").used(*shape) == used


def test_keep_aspect_pads_below_and_right_with_black():
    image = np.full((40, 20, 3), 200, np.uint8)
    frame = Frame((60, 60), "keep_aspect").fit(image)
    assert frame.shape == (60, 60, 3) and frame.dtype == np.uint8
    assert (frame[:, :30] == 200).all() and not frame[:, 30:].any()
    lying = Frame((60, 60), "keep_aspect").fit(image.transpose(1, 0, 2))
    assert (lying[:30] == 200).all() and not lying[30:].any()
    np.testing.assert_array_equal(Frame((24, 32), "keep_aspect").fit(noise(48, 64)), resize(noise(48, 64), (24, 32)))


def test_zoo_puts_corners_on_corners():
    """Twice as wide: every other pixel is an old one, between them lies the mean, and the last is repeated."""
    image = np.array([[0, 10, 41]], np.uint8)[..., np.newaxis].repeat(3, axis=2)
    np.testing.assert_array_equal(Frame((1, 6), "zoo", exact=True).fit(image)[0, :, 0], [0, 5, 10, 25.5, 41, 41])
    rounded = Frame((1, 6), "zoo").fit(image)
    assert rounded.dtype == np.uint8 and rounded[0, :, 0].tolist() == [0, 5, 10, 26, 41, 41]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [*SIZES, (300, 300), (37, 61)])
def test_zoo_equals_tensorflow_1(shape, size):
    tf = pytest.importorskip("tensorflow")
    image = noise(*shape)
    expected = tf.compat.v1.image.resize_bilinear(image[np.newaxis], size, align_corners=False)[0]
    np.testing.assert_allclose(resize_tf1(image, size), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_does_the_same(mode, size):
    """To one level where pixels are rounded: OpenCV and TensorFlow round one that lies halfway differently."""
    tf = pytest.importorskip("tensorflow")
    from detect.export.saved_model import fit_in_graph

    frame = Frame(size, mode, exact=True)
    fit = tf.function(
        lambda image: fit_in_graph(image, frame), input_signature=[tf.TensorSpec([None] * 3 + [3], "uint8")]
    )
    for shape in SHAPES:
        image = noise(*shape)
        inside, used = fit(image[np.newaxis])
        assert inside.shape == (1, *size, 3) and tuple(used.numpy()) == frame.used(*shape)
        difference = np.abs(inside[0].numpy() - frame.fit(image)).max()
        assert difference <= (1e-4 if mode == "zoo" else 1), (shape, difference)


@pytest.mark.parametrize("mode", MODES)
@given(
    size=st.tuples(st.integers(96, 1200), st.integers(96, 1200)),
    shape=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
@settings(max_examples=150)
def test_boxes_come_back_from_the_frame(mode, size, shape, shares):
    frame = Frame(size, mode)
    box = (np.sort(np.array(shares).reshape(2, 2), axis=0) * shape).reshape(1, 4).astype(np.float32)
    there = frame.from_image(box, *shape)
    assert (there >= 0).all() and (there <= np.array([*frame.used(*shape)] * 2) + 1e-2).all()
    np.testing.assert_allclose(frame.to_image(there, *shape), box, rtol=0, atol=1e-2)
    used = frame.used(*shape)
    assert all(1 <= part <= whole for part, whole in zip(used, size, strict=True))
    assert mode != "zoo" or used == size
    if mode == "keep_aspect" and min(used) > 1:  # to the rounding of half a pixel
        assert abs(used[0] * shape[1] - used[1] * shape[0]) <= 0.5 * max(shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(300, 451), (97, 40), (50, 50)])
def test_a_box_stays_on_its_object(mode, shape):
    """A white rectangle on black: the box of the frame is where the white is."""
    box = np.array([[0.2, 0.3, 0.7, 0.9]]) * [*shape, *shape]
    ymin, xmin, ymax, xmax = box.round().astype(int)[0]
    picture = np.zeros((*shape, 3), np.uint8)
    picture[ymin:ymax, xmin:xmax] = 255
    frame = Frame((150, 210), mode)
    rows, columns = np.nonzero(frame.fit(picture)[..., 0] > 127)
    seen = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_allclose(frame.from_image(box.round(), *shape)[0], seen, atol=1 if mode != "zoo" else 3)


def test_what_lies_in_the_padding_is_left_out():
    """An image of 100x200 fills the upper half of a 50x50 frame."""
    boxes = np.array([[10, 10, 20, 30], [26, 0, 40, 40], [20, 40, 40, 60]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 2, 3], np.int32)
    found = Frame((50, 50), "keep_aspect").found(boxes, scores, classes, 100, 200)
    np.testing.assert_allclose(found[0], [[40, 40, 80, 120], [80, 160, 100, 200]])
    assert found[2].tolist() == [1, 3] and found[1].tolist() == scores[[0, 2]].tolist()
    for mode in ("stretch", "zoo"):
        assert len(Frame((50, 50), mode).found(boxes, scores, classes, 100, 200)[0]) == 3


def test_the_graph_leaves_out_the_padding_too():
    tf = pytest.importorskip("tensorflow")
    from detect.export.saved_model import without_padding

    found = {
        "boxes": tf.constant([[[10, 10, 20, 30], [26, 0, 40, 40], [20, 40, 40, 60], [0, 0, 0, 0]]], tf.float32),
        "scores": tf.constant([[0.9, 0.8, 0.7, 0.0]]),
        "classes": tf.constant([[1, 2, 3, 0]]),
        "count": tf.constant([3]),
    }
    kept = {name: value.numpy().tolist() for name, value in without_padding(found, tf.constant([25, 50])).items()}
    assert kept["boxes"] == [[[10, 10, 20, 30], [20, 40, 25, 50], [0] * 4, [0] * 4]]
    assert kept["classes"] == [[1, 3, 0, 0]] and kept["count"] == [2]
    np.testing.assert_allclose(kept["scores"], [[0.9, 0.7, 0, 0]])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"resize=squash is not legal: expected one of stretch, keep_aspect, zoo"):
        Frame((96, 96), "squash")


def test_zoo_equals_what_a_frozen_graph_of_the_api_does(shared):
    """Its preprocessing, up to the scaling to -1..1, on a photograph that is neither square nor of its size."""
    tf = pytest.importorskip("tensorflow")
    from skimage import data

    definition, image = tf.compat.v1.GraphDef(), data.coffee()[:390]
    folder = shared / "weights" / "ssdlite_mobilenet_v2_pedestrian"
    definition.ParseFromString((folder / "frozen_inference_graph.pb").read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        expected = session.run("Preprocessor/sub:0", {"image_tensor:0": image[np.newaxis]})[0]
    exact = Frame((300, 300), "zoo", exact=True).fit(image)
    np.testing.assert_allclose(exact * (2 / 255) - 1, expected, rtol=0, atol=1e-6)
