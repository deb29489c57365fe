"""Reading, writing and joining TFLite files."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from detect.errors import WeightsError
from detect.tflite import detection_output, flatbuffer
from detect.tflite.runner import Runner
from tests.closeness import assert_same_detections


def places(content: bytes) -> list[int]:
    """Where the buffers of a file start."""
    model = schema.Model.GetRootAs(bytearray(content), 0)
    start = np.frombuffer(model._tab.Bytes, np.uint8).__array_interface__["data"][0]
    arrays = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    return [a.__array_interface__["data"][0] - start for a in arrays if isinstance(a, np.ndarray) and a.size]


def test_buffers_are_aligned_and_equal_after_a_round_trip(files):
    before = flatbuffer.read(files["float32"].content)
    content = flatbuffer.write(flatbuffer.read(files["float32"].content))
    found = places(content)
    assert len(found) > 8 and all(place % flatbuffer.ALIGNMENT == 0 for place in found)
    after = flatbuffer.read(content)
    for a, b in zip(before.buffers, after.buffers, strict=True):
        assert (a.data is None) == (b.data is None)
        assert a.data is None or bytes(a.data) == bytes(b.data)
    assert flatbuffer.ends(after) == flatbuffer.ends(before)


def test_metadata_are_kept_and_replaced(files):
    model = flatbuffer.read(files["float32"].content)
    flatbuffer.set_metadata(model, {"note": b"first", "other": b"x"})
    flatbuffer.set_metadata(model, {"note": b"second"})
    found = flatbuffer.metadata(flatbuffer.read(flatbuffer.write(model)))
    assert found["note"] == b"second" and found["other"] == b"x" and b"cat" in found["detect.json"]


def test_a_joined_file_gives_what_the_two_give_one_after_the_other(files, settings, frames):
    second = settings.with_nms("in_graph")
    joined = flatbuffer.join(flatbuffer.read(files["float32"].body), flatbuffer.read(detection_output.build(second)))
    whole = Runner(flatbuffer.write(joined))
    assert list(whole.outputs) == list(flatbuffer.ends(joined)[1]) and set(whole.outputs) == set(
        detection_output.OUTPUTS
    )
    end = Runner(files["float32"].body)(frames[0])
    boxes, scores, classes = detection_output.detections(settings, end)
    theirs = detection_output.detections(second, whole(frames[0]))
    assert_same_detections(theirs, (boxes, scores, classes), max(settings.size))
    assert len(theirs[0]) == len(boxes) > 3


@pytest.mark.parametrize("content", [b"", b"PK\3\4zip", b"\0" * 64])
def test_what_is_no_tflite_file_is_refused(content):
    with pytest.raises(WeightsError, match=r"x\.bin: not a TFLite file"):
        flatbuffer.read(content, "x.bin")


def test_half_a_file_is_refused(files, tmp_path):
    content = files["float32"].content
    with pytest.raises(WeightsError, match="damaged or cut off"):
        flatbuffer.read(content[:200], "half")
    (tmp_path / "half.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"half\.tflite"):
        Runner(tmp_path / "half.tflite")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.tflite: can't be read: No such file"):
        Runner(tmp_path / "none.tflite")
