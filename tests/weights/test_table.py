"""Checkpoints that lie about their shapes and offsets, with right checksums: TensorFlow would believe them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.core.util import saved_tensor_slice_pb2

from detect.errors import WeightsError
from detect.weights import checkpoint, table

ARRAYS = {f"Conv2d_{i}/weights": np.full((2, i + 1), i, np.float32) for i in range(3)}
KEY = b"Conv2d_1/weights"


def crc(content: bytes) -> bytes:
    """The masked CRC-32C of a block."""
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return (((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def block(entries: dict[bytes, bytes], kind: bytes = b"\0") -> bytes:
    """A block of a table, each entry a restart, with its compression and checksum."""
    body, restarts = b"", []
    for key, value in entries.items():
        restarts.append(len(body))
        body += number(0) + number(len(key)) + number(len(value)) + key + value
    body += b"".join(place.to_bytes(4, "little") for place in restarts or [0])
    body += len(restarts or [0]).to_bytes(4, "little") + kind
    return body + crc(body)


def write_table(path, entries, kind=b"\0"):
    data = block(entries, kind)
    meta = block({})
    handle = number(0) + number(len(data) - 5)
    index = block({b"~": handle})
    footer = number(len(data)) + number(len(meta) - 5) + number(len(data) + len(meta)) + number(len(index) - 5)
    path.write_bytes(data + meta + index + footer.ljust(40, b"\0") + checkpoint.TABLE_END)


@pytest.fixture
def written(tmp_path):
    checkpoint.write(tmp_path / "net.ckpt", ARRAYS)
    return tmp_path / "net.ckpt"


def entries_of(prefix):
    return dict(table._entries(prefix.with_name(f"{prefix.name}.index").read_bytes()))


def lie(prefix, change, key=KEY, form=tensor_bundle_pb2.BundleEntryProto):
    """Writes the index again after a change of one entry."""
    entries = entries_of(prefix)
    message = form.FromString(entries[key])
    change(message)
    entries[key] = message.SerializeToString()
    write_table(prefix.with_name(f"{prefix.name}.index"), dict(sorted(entries.items())))


def refusal(prefix):
    with pytest.raises(WeightsError) as caught:
        checkpoint.read(prefix)
    assert str(prefix) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_that_is_written_again_is_read(written):
    lie(written, lambda entry: None)
    found = checkpoint.read(written)
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in ARRAYS.items()}


def side(entry, size):
    entry.shape.dim[1].size = size


LIES = {
    "a larger shape": (lambda e: side(e, 1 << 20), "Conv2d_1/weights has 16 bytes for the shape"),
    "a negative side": (lambda e: side(e, -2), "has the shape"),
    "a product beyond 64 bits": (lambda e: [e.shape.dim.add(size=1 << 40) for _ in range(3)], "bytes for the shape"),
    "no rank": (lambda e: setattr(e.shape, "unknown_rank", True), "has the shape"),
    "many sides": (lambda e: [e.shape.dim.add(size=1) for _ in range(300)], "has the shape"),
    "a far offset": (lambda e: setattr(e, "offset", 1 << 40), "is outside of net.ckpt.data-00000-of-00001"),
    "a negative offset": (lambda e: setattr(e, "offset", -8), "is outside of"),
    "a negative size": (lambda e: setattr(e, "size", -16), "bytes for the shape"),
    "another file": (lambda e: setattr(e, "shard_id", 5), "bytes for the shape"),
    "texts": (lambda e: setattr(e, "dtype", types_pb2.DT_STRING), "is of type DT_STRING; legal are numbers"),
    "variants": (lambda e: setattr(e, "dtype", types_pb2.DT_VARIANT), "is of type DT_VARIANT"),
    "no type": (lambda e: setattr(e, "dtype", 99), "is of type 99"),
    "a part outside": (
        lambda e: [part.extent.add(start=5, length=9) for part in [e.slices.add()] for _ in range(2)],
        "a part of an array is outside",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_entries_that_lie(written, name):
    change, told = LIES[name]
    lie(written, change)
    assert told in refusal(written)


@pytest.mark.parametrize("count", [0, -1, 2, 1 << 30])
def test_headers_that_lie(written, count):
    lie(written, lambda h: setattr(h, "num_shards", count), b"", tensor_bundle_pb2.BundleHeaderProto)
    told = refusal(written)
    assert f"claims {count} files of data" in told or "can't be read" in told


def test_small_data_that_many_entries_share(written):
    entries = entries_of(written)
    data = written.with_name(f"{written.name}.data-00000-of-00001")
    data.write_bytes(bytes(1 << 20))
    entry = tensor_bundle_pb2.BundleEntryProto(dtype=1, offset=0, size=1 << 20)
    entry.shape.dim.add(size=1 << 18)
    many = {f"x{i:03d}/weights".encode(): entry.SerializeToString() for i in range(200)}
    write_table(written.with_name(f"{written.name}.index"), {b"": entries[b""], **many})
    assert "claims to hold more than" in refusal(written)


def test_blocks_that_are_compressed_or_overlap(written):
    index = written.with_name(f"{written.name}.index")
    entries = entries_of(written)
    write_table(index, entries, b"\1")
    assert "a block is compressed" in refusal(written)
    data = block(entries)
    handle = number(0) + number(len(data) - 5)
    blocks = block({bytes([i]): handle for i in range(200)})
    footer = number(0) + number(0) + number(len(data)) + number(len(blocks) - 5)
    index.write_bytes(data + blocks + footer.ljust(40, b"\0") + checkpoint.TABLE_END)
    assert "its blocks overlap" in refusal(written)


@pytest.fixture
def old(tmp_path):
    arrays = {"Conv2d_0/weights": np.ones((2, 3), np.float32), "step": np.array([3], np.int64)}
    arrays["half"] = np.ones(2, np.float64)
    tf.raw_ops.Save(filename=str(tmp_path / "old.ckpt"), tensor_names=list(arrays), data=list(arrays.values()))
    return tmp_path / "old.ckpt"


def lie_v1(path, change, key=b""):
    entries = dict(table._entries(path.read_bytes()))
    key = key or b""
    message = saved_tensor_slice_pb2.SavedTensorSlices.FromString(entries[key])
    change(message)
    entries[key] = message.SerializeToString()
    write_table(path, dict(sorted(entries.items())))


def test_a_v1_checkpoint_that_is_written_again_is_read(old):
    lie_v1(old, lambda message: None)
    assert checkpoint.read(old)["Conv2d_0/weights"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_v1_checkpoints_that_lie(old):
    content = old.read_bytes()
    lie_v1(old, lambda m: setattr(next(t for t in m.meta.tensor if "Conv" in t.name).shape.dim[0], "size", 1 << 40))
    assert "claims to hold more than" in refusal(old)
    old.write_bytes(content)
    lie_v1(old, lambda m: setattr(next(t for t in m.meta.tensor if "Conv" in t.name).shape.dim[0], "size", 3))
    assert "Conv2d_0/weights has 6 numbers of 9" in refusal(old)
    old.write_bytes(content)
    key = next(key for key in table._entries(content) if b"Conv" in key[0])[0]
    lie_v1(old, lambda m: m.data.data.float_val.pop(), key)
    assert "Conv2d_0/weights has 5 numbers of 6" in refusal(old)


def test_an_index_that_would_swell_when_it_is_parsed(written, old):
    index = written.with_name(f"{written.name}.index")
    with open(index, "r+b") as file:
        file.truncate(20 << 20)
    assert "legal are at most 16 MB" in refusal(written)
    content = old.read_bytes()
    key = next(key for key in table._entries(content) if b"Conv" in key[0])[0]
    lie_v1(old, lambda m: m.data.data.string_val.extend([b""] * 10), key)
    assert "an array holds no numbers" in refusal(old)
    old.write_bytes(content)
    lie_v1(old, lambda m: m.data.slice.extent.extend([type(m.data.slice.extent.add())()] * 5000), key)
    assert "an entry is no part of an array" in refusal(old)


def test_a_graph_of_a_saved_model_that_is_too_large(tmp_path):
    from detect.weights import saved_model

    with open(tmp_path / "saved_model.pb", "wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(WeightsError, match=r"saved_model\.pb has 68157440 bytes; legal are at most 64 MB"):
        saved_model.check(tmp_path)
