"""Checkpoints by name: round trips, what is left out, being killed between two files, and messages."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import WeightsError
from detect.weights import checkpoint

ARRAYS = {
    "Conv2d_0/kernel": np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2),
    "Conv2d_0/BatchNorm/gamma": np.array([1, 2], np.float32),
    "steps": np.array(7, np.int64),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.fixture
def written(tmp_path):
    checkpoint.write(tmp_path / "run" / "best", ARRAYS)
    return tmp_path / "run"


def test_what_is_written_is_read(written):
    assert sorted(file.name for file in written.iterdir()) == ["best.data-00000-of-00001", "best.index"]
    for path in ("best", "best.index", "best.data-00000-of-00001", "."):
        assert_same(checkpoint.read(written / path), ARRAYS)
    assert_same(checkpoint.read(str(written)), ARRAYS)


def test_a_prefix_may_hold_dots(tmp_path):
    checkpoint.write(tmp_path / "mobilenet_v1_1.0_224.ckpt", ARRAYS)
    assert_same(checkpoint.read(tmp_path / "mobilenet_v1_1.0_224.ckpt"), ARRAYS)
    assert checkpoint.find(tmp_path).name == "mobilenet_v1_1.0_224.ckpt"
    assert_same(checkpoint.read(tmp_path), ARRAYS)


def test_variables_are_written_as_arrays(tmp_path):
    checkpoint.write(tmp_path / "x", {"a": tf.Variable([1.0, 2.0])})
    assert_same(checkpoint.read(tmp_path / "x"), {"a": np.array([1, 2], np.float32)})


def test_step_slots_and_averages_are_left_out(tmp_path):
    slots = ("ExponentialMovingAverage", "Momentum", "RMSProp", "RMSProp_1", "Adam", "Adam_1", "Adadelta", "Adadelta_1")
    extra = {f"Conv2d_0/weights/{slot}": np.ones(2, np.float32) for slot in slots}
    extra |= {"global_step": np.array(5, np.int64), "beta1_power": np.float32(0.9)}
    kept = {"Conv2d_0/weights": np.zeros(2, np.float32), "Momentum_net/weights": np.ones(1, np.float32)}
    checkpoint.write(tmp_path / "x", kept | extra)
    assert_same(checkpoint.read(tmp_path / "x"), kept)


def test_averages_are_counted_and_taken_if_asked_for(tmp_path):
    held = {"a/weights": 1.0, "a/weights/ExponentialMovingAverage": 2.0, "a/weights/Momentum": 3.0, "a/biases": 4.0}
    checkpoint.write(tmp_path / "x", {name: np.float32(value) for name, value in held.items()})
    notes = []
    assert checkpoint.read(tmp_path / "x", notes=notes) == {"a/weights": 1.0, "a/biases": 4.0}
    assert notes == ["1 averages of weights are not used; init.average=true takes them"]
    assert checkpoint.read(tmp_path / "x", average=True, notes=notes) == {"a/weights": 2.0, "a/biases": 4.0}
    assert len(notes) == 1
    checkpoint.write(tmp_path / "y", {"a/weights": np.float32(1)})
    with pytest.raises(WeightsError, match=r"init\.average=true: .*y has no ExponentialMovingAverage"):
        checkpoint.read(tmp_path / "y", average=True)


def test_ranges_of_fake_quantisation_are_no_weights(tmp_path):
    scope = "FeatureExtractor/MobilenetV1/Conv2d_0"
    ranges = [f"{scope}/weights_quant/min", f"{scope}/act_quant/max", f"{scope}/conv_quant/min"]
    ranges += [f"{scope}/act_quant/{scope}/act_quant/min/{end}" for end in ("biased", "local_step")]
    kept = {f"{scope}/weights": np.ones(2, np.float32), "my_quant/weights": np.ones(1, np.float32)}
    checkpoint.write(tmp_path / "x", kept | dict.fromkeys(ranges, np.float32(0)))
    notes = []
    assert_same(checkpoint.read(tmp_path / "x", notes=notes), kept)
    assert notes == ["5 numbers of fake quantisation are left out (*_quant)"]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_death_while_writing_leaves_all_old_or_all_new(written, monkeypatch, renames):
    """`renames` of the two happen before the program dies."""
    new = {name: value + 1 for name, value in ARRAYS.items()}
    real, calls = os.replace, []

    def die(source, target):
        if len(calls) == renames:
            raise KeyboardInterrupt
        calls.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(written / "best", new)
    monkeypatch.undo()
    assert_same(checkpoint.read(written), new if renames else ARRAYS)
    checkpoint.write(written / "best", new)
    assert_same(checkpoint.read(written), new)
    assert len(list(written.iterdir())) == 2


def test_a_first_checkpoint_is_found_though_its_index_was_not_renamed(written):
    os.replace(written / "best.index", written / ".best.new.index")
    assert checkpoint.exists(written / "best")
    assert_same(checkpoint.read(written / "best"), ARRAYS)


def test_load_fills_a_model_or_leaves_it(tmp_path):
    image = tf_keras.Input((4, 4, 3))
    model = tf_keras.Model(image, tf_keras.layers.Conv2D(2, 3, name="Conv2d_0")(image))
    before = model.get_weights()
    checkpoint.write(tmp_path / "best", {v.name.split(":")[0]: v + 1 for v in model.variables})
    checkpoint.load(model, tmp_path / "best")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old + 1)
    checkpoint.write(tmp_path / "other", ARRAYS)
    with pytest.raises(WeightsError, match=r"Conv2d_0/bias(.|\n)*Conv2d_0/BatchNorm/gamma"):
        checkpoint.load(model, tmp_path / "other")
    np.testing.assert_allclose(model.get_weights()[0], before[0] + 1)


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        checkpoint.read(path)
    return str(caught.value)


def test_missing_checkpoint_names_what_the_folder_holds(written):
    assert refusal(written / "last") == (
        f"{written}/last: there is no such checkpoint (no last.index); that folder holds best"
    )
    assert "(no nothing.index)" in refusal(written / "elsewhere" / "nothing")


def test_folders_with_none_or_several(written, tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path} is a folder with no *.index. A checkpoint is PREFIX.index and PREFIX.data-*."
    )
    checkpoint.write(written / "last", ARRAYS)
    assert "is a folder with 2 checkpoints (best, last): name one" in refusal(written)


def test_half_a_checkpoint(written):
    (written / "best.data-00000-of-00001").unlink()
    assert "best.index has no best.data-* beside it: half of the checkpoint is missing" in refusal(written)


def test_damaged_files(written):
    data = written / "best.data-00000-of-00001"
    sound = data.read_bytes()
    data.write_bytes(sound[:20])
    assert refusal(written).startswith(f"{written / 'best'} can't be read: it is damaged")
    data.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])  # one bit: the checksum finds it
    assert "it is damaged" in refusal(written)
    data.write_bytes(sound)
    (written / "best.index").write_bytes(b"not an index")
    assert "it is damaged or not a checkpoint" in refusal(written)


def test_other_files_are_not_taken_for_checkpoints(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF")
    assert refusal(tmp_path / "weights.h5") == (
        f"{tmp_path / 'weights.h5'} is not a TensorFlow checkpoint: there is no weights.h5.index beside it"
    )


def test_object_based_checkpoints_are_refused_by_name(tmp_path):
    path = tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "ckpt-1"))
    message = refusal(path)
    assert message.startswith(f"{path} is an object-based checkpoint (tf.train.Checkpoint or save_weights of TF 2)")
    assert "TF-slim" in message


def test_folder_names_that_tensorflow_takes_for_patterns(written, tmp_path):
    checkpoint.write(tmp_path / "lr=0.1,*?" / "best", ARRAYS)
    assert_same(checkpoint.read(tmp_path / "lr=0.1,*?"), ARRAYS)
    folder = tmp_path / "size=[300,300]"
    shutil.copytree(written, folder)
    message = f"{folder}/best: TensorFlow can't read a checkpoint whose path contains [ or \\"
    assert refusal(folder / "best") == message
    with pytest.raises(WeightsError, match=r"TensorFlow can't read a checkpoint .* \[ or"):
        checkpoint.write(folder / "best", ARRAYS)
