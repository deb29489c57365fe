"""What `scripts/fuzz.py` damages besides data sets: weights, archives, run folders, and exports (`fuzz_exports.py`)."""

import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fuzz_exports
import fuzz_runs
import h5py
import numpy as np

from detect.data.dataset import DetectionDataset
from detect.portable import packages
from detect.reporting.tensorboard import masked_crc


@dataclass(frozen=True)
class Reader:
    """seed: the folder of right files. read: reads a folder of these, and the damaged one. repair: of its checksums."""

    seed: Path
    read: Callable[[Path, Path], object]
    repair: Callable[[bytes], bytes] | None = None


class Backbone:
    """What a source of weights asks of a backbone."""

    slim_scope, depth_multiplier = "MobilenetV1", 1.0

    def keras_layers(self) -> dict[str, str]:
        return {"conv1": "Conv2d_0", "conv_dw_1": "Conv2d_1_depthwise"}


def readers(root: Path, dataset: DetectionDataset, names: Sequence[str]) -> dict[str, Reader]:
    """The named readers, with their right files below `root`."""
    found = {}
    for name in names:
        make, read = MAKERS[name]
        folder = root / name.replace(" ", "_")
        folder.mkdir()
        make(folder, dataset)
        repair = repaired(folder) if "checkpoint" in name else rezip if name == "tar" else None
        found[name] = Reader(folder, read, repair)
    return found


def make_h5(folder: Path, _: DetectionDataset) -> None:
    for name, options in (("plain.h5", {}), ("gzip.h5", {"compression": "gzip", "shuffle": True})):
        with h5py.File(folder / name, "w") as h5:
            h5.attrs["layer_names"] = ["conv1", "conv_dw_1"]
            for layer, kind, shape in (
                ("conv1", "kernel", (3, 3, 3, 8)),
                ("conv_dw_1", "depthwise_kernel", (3, 3, 8, 1)),
            ):
                h5.create_group(layer).attrs["weight_names"] = [f"{layer}/{kind}:0".encode()]
                h5[layer].create_dataset(f"{layer}/{kind}:0", data=np.ones(shape, np.float32), **options)


def make_zip(folder: Path, _: DetectionDataset) -> None:
    for name, members in (
        ("x.keras", ("config.json", "x.weights.h5")),
        ("x.npz", ("a.npy",)),
        ("x.pt", ("a/data.pkl",)),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member in members:
                archive.writestr(member, b"content")


def make_graph(folder: Path, _: DetectionDataset) -> None:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    for name, value in (("MobilenetV1/Conv2d_0/weights", np.ones((3, 3, 3, 8), np.float32)), ("x/biases", [1.0, 2.0])):
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))
    (folder / "x.pb").write_bytes(graph.SerializeToString())


def make_checkpoint(folder: Path, _: DetectionDataset) -> None:
    from detect.weights import checkpoint

    arrays = {f"MobilenetV1/Conv2d_{i}/weights": np.full((3, 3, 3, i + 1), i, np.float32) for i in range(5)}
    checkpoint.write(folder / "net.ckpt", arrays | {"global_step": np.array(3, np.int64)})


def make_objects(folder: Path, _: DetectionDataset) -> None:
    import tensorflow as tf
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Conv2D(4, 3, name="conv1", input_shape=(8, 8, 3))])
    tf.train.Checkpoint(model=model).write(str(folder / "net.ckpt"))


def make_pipeline(folder: Path, _: DetectionDataset) -> None:
    shutil.copy(Path(__file__).parent.parent / "tests/migration/fixtures/tiny_fpn.config", folder)


def read_pipeline(folder: Path, file: Path) -> object:
    from detect.migration.pipeline import read, translate

    return translate(read(file))


def make_v1(folder: Path, _: DetectionDataset) -> None:
    import tensorflow as tf

    arrays = {"MobilenetV1/Conv2d_0/weights": np.ones((3, 3, 3, 8), np.float32), "step": np.array([3], np.int64)}
    tf.raw_ops.Save(filename=str(folder / "net.ckpt"), tensor_names=list(arrays), data=list(arrays.values()))


def make_tar(folder: Path, _: DetectionDataset) -> None:
    for name, mode in (("net.tgz", "w:gz"), ("net.tar", "w")):
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for member in ("./net.ckpt.index", "sub/net.ckpt.data-00000-of-00001", "readme"):
                info = tarfile.TarInfo(member)
                info.size, info.pax_headers = 600, {"comment": "x" * 20}
                tar.addfile(info, io.BytesIO(bytes(600)))


def make_catalogue(folder: Path, dataset: DetectionDataset) -> None:
    make_tar(folder, dataset)
    entry = {
        "slim_scope": "MobilenetV1", "backbone": {"depth_multiplier": 1.0}, "detector": False, "use": "backbone=x",
        "address": (folder / "net.tgz").as_uri(), "sha256": None, "file": "net.ckpt",
    }  # fmt: skip
    (folder / "entry.json").write_text(json.dumps({"net_1.0": entry}))


def read_weights(_: Path, path: Path) -> object:
    from detect.weights.sources import FromFile

    return FromFile(str(path)).read(Backbone())


def read_checkpoint(folder: Path, _: Path) -> object:
    return read_weights(folder, folder / "net.ckpt")


def read_tar(folder: Path, path: Path) -> object:
    from detect.weights.archive import unpack

    before = {path.name for path in folder.iterdir()}
    try:
        return unpack(path, "net.ckpt", folder / f"{path.name}-out")
    finally:
        after = {path.name for path in folder.iterdir()}
        for place in (folder / name for name in after - before):
            shutil.rmtree(place)
        assert after - before <= {f"{path.name}-out"}, after - before


def read_catalogue(folder: Path, _: Path) -> object:
    from detect.errors import UserError
    from detect.weights.catalogue import Entry, obtain

    try:
        entries = json.loads((folder / "entry.json").read_text())
        ((name, values),) = entries.items()
    except (ValueError, AttributeError, RecursionError) as error:  # Hydra reads this file, and names what is wrong
        raise UserError("no catalogue") from error
    cache = folder.parent / "fuzz-cache"
    outside = {path.name for path in folder.parent.iterdir()}
    try:
        entry = Entry.of(name, values)
        if not entry.address.startswith("file:"):
            entry = replace(entry, address="file:///nowhere/net.tgz", sha256=entry.sha256 or "0")
        place = obtain(entry, cache, progress=lambda *_: None)
        assert place.resolve().is_relative_to((cache / "weights").resolve()), place
        return place
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        assert {path.name for path in folder.parent.iterdir()} == outside


MAKERS: dict[str, tuple[Callable[[Path, DetectionDataset], None], Callable[[Path, Path], object]]] = {
    "h5": (make_h5, read_weights),
    "keras and other zips": (make_zip, read_weights),
    "frozen graph": (make_graph, read_weights),
    "checkpoint": (make_checkpoint, read_checkpoint),
    "object checkpoint": (make_objects, read_checkpoint),
    "pipeline config": (make_pipeline, read_pipeline),
    "V1 checkpoint": (make_v1, read_checkpoint),
    "tar": (make_tar, read_tar),
    "catalogue": (make_catalogue, read_catalogue),
    **fuzz_exports.MAKERS,
    "run folder": (fuzz_runs.make_run, fuzz_runs.read_run),
}


def installed(kind: str) -> bool:
    """Whether the packages that a reader needs are installed."""
    return all(importlib.util.find_spec(name) for name in packages.WRITES.get(kind, ()))


def repaired(folder: Path) -> Callable[[bytes], bytes]:
    """Makes the checksums of a damaged table right, whose blocks are where they were in the right file."""
    index = next(path for path in (folder / "net.ckpt.index", folder / "net.ckpt") if path.exists()).read_bytes()
    places = []
    from detect.weights import table

    real = table._block

    def noted(content: bytes, start: int, size: int):
        places.append((start, size))
        return real(content, start, size)

    table._block = noted
    list(table._entries(index))
    table._block = real

    def repair(content: bytes) -> bytes:
        if len(content) != len(index):
            return content
        out = bytearray(content)
        for start, size in places:
            out[start + size + 1 : start + size + 5] = masked_crc(content[start : start + size + 1])
        return bytes(out)

    return repair


def rezip(content: bytes) -> bytes:
    """A damaged tar as a right gzip file; another file is given back as it is."""
    import gzip

    return content if content[:2] == b"\x1f\x8b" else gzip.compress(content, 1)
