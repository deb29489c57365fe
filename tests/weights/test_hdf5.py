"""Hostile HDF5 files: they give nothing that they do not hold, and never end the program."""

import random

import h5py
import numpy as np
import pytest

from detect.errors import WeightsError
from detect.weights import hdf5

NAME = "conv1/kernel:0"
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def keras_file(path, add):
    """A Keras file of one layer. add: called with its group, makes `conv1/kernel:0` in it."""
    with h5py.File(path, "w") as h5:
        h5.attrs["layer_names"] = ["conv1"]
        h5.create_group("conv1").attrs["weight_names"] = [NAME]
        add(h5["conv1"])
    return path


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        hdf5.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def plain(group):
    group[NAME] = VALUES


def zipped(group):
    group.create_dataset(NAME, data=VALUES.astype(np.float16), compression="gzip", shuffle=True, fletcher32=True)


@pytest.mark.parametrize("add", [plain, zipped])
def test_arrays_come_back_as_float32(tmp_path, add):
    ((key, array),) = hdf5.read(keras_file(tmp_path / "x.h5", add)).items()
    assert key == ("conv1", "kernel") and array.dtype == np.float32
    np.testing.assert_array_equal(array, VALUES)


def test_two_layers_of_one_name(tmp_path):
    """As two models in a model have them."""
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        h5.attrs["layer_names"] = ["left", "right"]
        for model in ("left", "right"):
            h5.create_group(model).attrs["weight_names"] = [NAME]
            h5[model][NAME] = VALUES
    told = refusal(tmp_path / "x.h5")
    assert "two arrays for the variable conv1/kernel: /left/conv1/kernel:0 and /right/conv1/kernel:0" in told


@pytest.mark.parametrize("add", ["external link", "soft link", "virtual", "external storage"])
def test_numbers_of_another_file(tmp_path, add):
    secret = tmp_path / "secret"
    secret.write_bytes(VALUES.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = VALUES

    def make(group):
        if add == "external link":
            group[NAME] = h5py.ExternalLink("other.h5", "/kernel")
        elif add == "soft link":
            group[NAME] = h5py.SoftLink("/elsewhere")
        elif add == "virtual":
            layout = h5py.VirtualLayout(VALUES.shape, np.float32)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", VALUES.shape)
            group.create_virtual_dataset(NAME, layout)
        else:
            group.create_dataset(NAME, VALUES.shape, np.float32, external=[(str(secret), 0, VALUES.nbytes)])

    told = refusal(keras_file(tmp_path / "x.h5", make))
    assert "refused" in told and NAME in told


def test_a_group_that_is_a_link_to_another_file(tmp_path):
    keras_file(tmp_path / "other.h5", plain)
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        h5["model_weights"] = h5py.ExternalLink("other.h5", "/")
    assert "model_weights is a link" in refusal(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as h5:
        h5.attrs["layer_names"] = ["conv1"]
        h5["conv1"] = h5py.ExternalLink("other.h5", "/conv1")
    assert "conv1 is a link" in refusal(tmp_path / "y.h5")


@pytest.mark.parametrize("name", ["/conv1/kernel", "../kernel", "conv1/../../kernel"])
def test_names_that_leave_their_group(tmp_path, name):
    def make(group):
        group[NAME] = VALUES
        group.attrs["weight_names"] = [name]

    assert "refused" in refusal(keras_file(tmp_path / "x.h5", make)) or "it has no" in refusal(tmp_path / "x.h5")


@pytest.mark.parametrize("kind", [h5py.string_dtype(), h5py.vlen_dtype(np.float32), np.dtype([("a", "f4")]), "S4"])
def test_arrays_of_other_things_than_numbers(tmp_path, kind):
    path = keras_file(tmp_path / "x.h5", lambda group: group.create_dataset(NAME, (3,), kind))
    assert "conv1/kernel:0 is not an array of numbers" in refusal(path)


def test_filters_that_only_a_plugin_has(tmp_path):
    def make(group):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((3, 4))
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        group.create_group("conv1")
        h5py.h5d.create(group.id, NAME.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3, 4)), made)

    assert "a filter of another program" in refusal(keras_file(tmp_path / "x.h5", make))


def test_a_small_file_that_swells(tmp_path):
    def make(group):
        group.create_dataset(NAME, data=np.zeros((1 << 10, 1 << 14), np.float32), compression="gzip")

    path = keras_file(tmp_path / "x.h5", make)
    assert path.stat().st_size < 1 << 18  # it would give 64 MB
    assert "claims to hold more than" in refusal(path)


def test_an_array_under_many_names(tmp_path):
    def make(group):
        group[NAME] = np.zeros(1 << 18, np.float32)
        for i in range(100):
            group[f"conv1/k{i}:0"] = group[NAME]
        group.attrs["weight_names"] = [f"conv1/k{i}:0" for i in range(100)]

    assert "claims to hold more than" in refusal(keras_file(tmp_path / "x.h5", make))


def test_damaged_bytes_never_end_the_program(tmp_path):
    path = keras_file(tmp_path / "x.h5", plain)
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(12):
        damaged = bytearray(content)
        for _ in range(8):
            damaged[rng.randrange(8, len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            hdf5.read(path)
        except WeightsError as error:
            assert str(path) in str(error)
