"""Protocol buffers that would swell when they are parsed are found before that."""

import sys
from pathlib import Path

import pytest

from detect.errors import WeightsError
from detect.weights import frozen_graph, wire
from detect.weights.wire import Walk, number


def field(key, content):
    return bytes([key << 3 | 2]) + length(len(content)) + content


def length(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_the_fields_of_a_message():
    content = b"\x08\x96\x01" + field(2, b"testing") + b"\x1d\1\2\3\4" + b"\x21" + bytes(8)
    found = [
        (key, value if isinstance(value, int) else bytes(value)) for key, value in Walk().fields(memoryview(content))
    ]
    assert found == [(1, 150), (2, b"testing"), (3, b"\1\2\3\4"), (4, bytes(8))]
    assert bytes(Walk().last(memoryview(field(2, b"a") + field(2, b"b")), 2)) == b"b"


@pytest.mark.parametrize("content", [b"\x08", b"\x08\xff", b"\x12\x05abc", b"\x0b", b"\x1d\1", b"\x08" + b"\xff" * 10])
def test_bytes_that_are_no_message(content):
    with pytest.raises(ValueError, match=r"a number has no end|is longer than|is of kind"):
        list(Walk().fields(memoryview(content)))


def test_numbers():
    assert number(length(300), 0) == (300, 2)
    with pytest.raises(ValueError, match="no end"):
        number(b"\x80", 0)


def test_too_many_fields(monkeypatch):
    monkeypatch.setattr(wire, "MOST", 10)
    walk = Walk()
    list(walk.fields(memoryview(b"\x0a\x00" * 6)))
    with pytest.raises(ValueError, match="more than 10 fields"):
        list(walk.fields(memoryview(b"\x0a\x00" * 6)))


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (field(8, b"text"), "holds no numbers"),
        (field(14, b""), "holds no numbers"),
        (field(2, bytes(2000)), "has 2000"),
    ],
)
def test_arrays_of_other_things(tensor, told):
    with pytest.raises(ValueError, match=told):
        Walk().check_tensor(memoryview(tensor))


NODE = field(1, b"Conv/weights") + field(2, b"Const")
BOMBS = {
    "nodes": b"\x0a\x00" * 1_000_000,
    "values in a list": field(1, NODE + field(5, field(1, b"value") + field(2, field(1, b"\x42\x00" * 1_000_000)))),
    "sides of a shape": field(
        1, NODE + field(5, field(1, b"value") + field(2, field(8, field(2, b"\x12\x00" * 1_000_000))))
    ),
}


def resident(name):
    """Memory of this process in kilobytes: VmRSS is that of now, VmHWM the most since it was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which tells and sets back the most memory")
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_graph_that_would_swell_a_hundredfold(content, tmp_path):
    """2 MB of empty messages take up to 180 MB when they are parsed."""
    (tmp_path / "x.pb").write_bytes(content)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    with pytest.raises(WeightsError, match=r"damaged|without weights"):
        frozen_graph.read(tmp_path / "x.pb")
    assert resident("VmHWM") - before < 25_000


def test_a_graph_is_not_parsed_as_a_whole(tmp_path):
    (tmp_path / "x.pb").write_bytes(field(1, NODE + field(5, field(1, b"value") + field(2, field(8, field(8, b"x"))))))
    with pytest.raises(WeightsError, match=r"x\.pb can't be read: it is damaged.*: an array holds no numbers"):
        frozen_graph.read(tmp_path / "x.pb")
