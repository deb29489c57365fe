"""Files told by their content, whatever their names."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import WeightsError
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.weights import checkpoint, formats

ARRAYS = {"MobilenetV1/Conv2d_0/weights": np.arange(6, dtype=np.float32)}


@pytest.fixture(scope="module")
def model():
    image = tf_keras.Input((8, 8, 3))
    return tf_keras.Model(image, tf_keras.layers.Conv2D(2, 3, name="conv1")(image))


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


def pickled(protocol):
    return pickle.dumps({"state_dict": [1.0]}, protocol)


HEADER = b'{"__metadata__":{}}'
REFUSED = {
    "keras": zipped("metadata.json", "config.json", "model.weights.h5"),
    "pytorch": zipped("archive/data.pkl", "archive/data/0"),
    "numpy": zipped("a.npy", "b.npy"),
    "zip": zipped("readme"),
    "pickle": pickled(2),
    "safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(8),
    "onnx": b"\x08\x07\x12\x07pytorch\x1a\x052.1.0",
    "tflite": struct.pack("<I", 28) + b"TFL3" + bytes(40),
    "archive": gzip.compress(b"x" * 600),
    "text": b"model_checkpoint_path: model.ckpt",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_named(kind, tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(REFUSED[kind])
    assert formats.kind(file) == kind
    with pytest.raises(WeightsError) as caught:
        formats.locate(file)
    message = str(caught.value)
    assert message.startswith(f"{file} looks like a") and formats.REFUSED[kind] in message
    assert "TF-slim" in message and "tf_keras.applications" in message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_no_pickle_is_opened(protocol, tmp_path):
    (tmp_path / "x").write_bytes(pickled(protocol))
    assert formats.kind(tmp_path / "x") == "pickle"


def test_what_nobody_knows(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(1, 90)) * 3)
    with pytest.raises(WeightsError, match=r"x has an unknown format\. Legal are a run folder"):
        formats.locate(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(WeightsError, match="unknown format"):
        formats.locate(tmp_path / "x")


def test_keras_files_whatever_their_suffix(model, tmp_path):
    model.save_weights(tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(tmp_path / "x.hdf5")
    place = formats.locate(tmp_path / "x.hdf5")
    assert place == (tmp_path / "x.hdf5", "h5")
    assert set(formats.read(*place, MobileNetV1())) == {"Conv2d_0/kernel", "Conv2d_0/bias"}


def test_dot_keras_and_saved_models(model, tmp_path):
    model.save(tmp_path / "x.keras")
    assert formats.kind(tmp_path / "x.keras") == "keras"
    tf.saved_model.save(model, str(tmp_path / "saved"))
    for path in ("saved", "saved/saved_model.pb"):
        with pytest.raises(WeightsError, match="looks like a SavedModel"):
            formats.locate(tmp_path / path)


def write_v1(file, arrays):
    tf.raw_ops.Save(filename=str(file), tensor_names=list(arrays), data=list(arrays.values()))


def test_checkpoints_of_both_versions(tmp_path):
    checkpoint.write(tmp_path / "new" / "net_1.0.ckpt", ARRAYS)
    (tmp_path / "old").mkdir()
    write_v1(tmp_path / "old" / "net_1.0.ckpt", ARRAYS)
    for name in ("new/net_1.0.ckpt", "new/net_1.0.ckpt.index", "new", "old/net_1.0.ckpt", "old"):
        place = formats.locate(tmp_path / name)
        assert place[0].name == "net_1.0.ckpt" and place[1] == "checkpoint"
        (found,) = formats.read(*place, MobileNetV1()).items()
        assert found[0] == "Conv2d_0/kernel" and found[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_folder_as_the_zoo_unpacks_it(tmp_path):
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="MobilenetV1/Conv2d_0/weights", op="Const").attr["value"].tensor.CopyFrom(
        tf.make_tensor_proto(ARRAYS["MobilenetV1/Conv2d_0/weights"])
    )
    (tmp_path / "frozen_inference_graph.pb").write_bytes(graph.SerializeToString())
    (tmp_path / "pipeline.config").write_text("model {}")
    (tmp_path / "checkpoint").write_text("model_checkpoint_path: 'model.ckpt'")
    place = formats.locate(tmp_path)
    assert place == (tmp_path / "frozen_inference_graph.pb", "graph")
    assert list(formats.read(*place, MobileNetV1())) == ["Conv2d_0/kernel"]
    checkpoint.write(tmp_path / "model.ckpt", ARRAYS)
    assert formats.locate(tmp_path) == (tmp_path / "model.ckpt", "checkpoint")


def test_a_folder_as_the_zoo_of_tensorflow_2_unpacks_it(tmp_path):
    checkpoint.write(tmp_path / "checkpoint" / "ckpt-0", ARRAYS)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"\x08\x01\x12x")
    assert formats.locate(tmp_path) == (tmp_path / "checkpoint" / "ckpt-0", "checkpoint")
    with pytest.raises(WeightsError, match=r"a SavedModel\. .* checkpoint/ckpt-0"):
        formats.locate(tmp_path / "saved_model")


def test_folders_with_several_files_or_none(model, tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder with no \*\.index"):
        formats.locate(tmp_path)
    for name in ("a.h5", "b.h5"):
        model.save_weights(tmp_path / name)
    with pytest.raises(WeightsError, match=r"2 files of weights \(a\.h5, b\.h5\): name one"):
        formats.locate(tmp_path)


@pytest.mark.parametrize("version", [63, 255])
def test_a_zip_of_a_version_that_nobody_reads(tmp_path, version):
    """Python's zipfile raises a kind of RuntimeError for it."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 6] = version
    (tmp_path / "x.npz").write_bytes(content)
    if version == 255:
        assert formats.kind(tmp_path / "x.npz") == "zip"
    with pytest.raises(WeightsError, match=r"looks like a (zip|NumPy) archive"):
        formats.locate(tmp_path / "x.npz")


def test_a_file_that_can_not_be_opened(tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(WeightsError, match=r"x\.h5 can't be read: Permission denied"):
        formats.kind(tmp_path / "x.h5")
