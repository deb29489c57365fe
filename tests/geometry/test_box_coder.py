"""The box code by hand, as a round trip, and against the Object Detection API."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.geometry.box_coder import BoxCoder

ANCHOR = np.array([[0, 0, 10, 20]], np.float32)  # centre (5, 10), 10 high, 20 wide


def test_codes_by_hand():
    coder = BoxCoder()
    moved = coder.encode(np.array([[5, 10, 15, 30]], np.float32), ANCHOR)  # by half a side each way
    np.testing.assert_allclose(moved, [[5, 5, 0, 0]], atol=1e-5)
    grown = coder.encode(np.array([[0, 0, 20, 5]], np.float32), ANCHOR)  # twice as high, a quarter as wide
    np.testing.assert_allclose(grown, [[5, -3.75, 5 * np.log(2), -5 * np.log(4)]], rtol=1e-5)
    np.testing.assert_allclose(
        BoxCoder([1, 1, 1, 1]).encode(np.array([[5, 10, 15, 30]], np.float32), ANCHOR)[0, 0], 0.5
    )


def test_code_zero_is_the_anchor():
    np.testing.assert_allclose(BoxCoder().decode(np.zeros((1, 4), np.float32), ANCHOR), ANCHOR)


side = st.floats(1, 300, width=32)
place = st.floats(-100, 600, width=32)


@settings(max_examples=100)
@given(box=st.tuples(place, place, side, side), anchor=st.tuples(place, place, side, side))
def test_decoding_undoes_encoding(box, anchor):
    box, anchor = (np.array([[y, x, y + h, x + w]], np.float32) for y, x, h, w in (box, anchor))
    # A box much larger than its anchor is cut by the decoder's bound on log h, at 62.5 times.
    if ((box[:, 2:] - box[:, :2]) > 60 * (anchor[:, 2:] - anchor[:, :2])).any():
        return
    coder = BoxCoder()
    np.testing.assert_allclose(coder.decode(coder.encode(box, anchor), anchor), box, rtol=1e-3, atol=2e-2)


def test_wild_codes_stay_finite():
    assert np.isfinite(BoxCoder().decode(np.full((1, 4), 1e4, np.float32), ANCHOR)).all()


def test_decoding_equals_the_api_graph():
    with np.load(Path(__file__).parents[1] / "fixtures" / "ssdlite_pedestrian.npz") as kept:
        codes = kept["codes"].astype(np.float32) / 8
        decoded = BoxCoder().decode(codes, kept["anchors"] * 300)
        np.testing.assert_allclose(decoded / 300, kept["decoded"], rtol=0, atol=1e-5)
        usual = np.abs(codes).max(axis=1) < 5
        encoded = BoxCoder().encode(kept["decoded"], kept["anchors"])
        np.testing.assert_allclose(encoded.numpy()[usual], codes[usual], atol=1e-3)


def test_codes_equal_tf_models_official_to_the_bit():
    from official.vision.ops import box_ops

    random = np.random.default_rng(0)
    corners = random.uniform(-50, 300, (2, 2, 500, 2))
    boxes, anchors = np.concatenate([corners, corners + random.uniform(0, 200, corners.shape)], -1).astype(np.float32)
    codes = random.normal(0, 9, boxes.shape).astype(np.float32)
    for scales in ([10.0, 10.0, 5.0, 5.0], [1.0, 2.0, 3.0, 0.7]):
        coder = BoxCoder(scales)
        for ours, theirs in (
            (coder.encode(boxes, anchors), box_ops.encode_boxes(boxes, anchors, scales)),
            (coder.decode(codes, anchors), box_ops.decode_boxes(codes, anchors, scales)),
        ):
            np.testing.assert_array_equal(ours, theirs)
