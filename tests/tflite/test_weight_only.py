"""8-bit kernels of one scale, as in 2017."""

import numpy as np

from detect.tflite import flatbuffer, weight_only
from detect.tflite.operators import CONVOLUTIONS
from detect.tflite.runner import Runner


def kernels(model) -> dict[tuple, np.ndarray]:
    """{shape: values} of a float file's kernels."""
    graph, found = model.subgraphs[0], {}
    for operator in graph.operators:
        if flatbuffer.operator_name(model, operator) in CONVOLUTIONS:
            tensor = graph.tensors[operator.inputs[1]]
            data = model.buffers[tensor.buffer].data
            found[tuple(tensor.shape)] = None if data is None else np.asarray(data, np.uint8).view(np.float32)
    return found


def test_levels_by_hand():
    levels, step, zero = weight_only.quantised(np.array([-1.0, 0.0, 0.504, 1.55], np.float32))
    assert step == np.float32(2.55) / 255 or abs(step - 0.01) < 1e-9
    assert zero == -28 and levels.tolist() == [-128, -28, 22, 127]


def test_zero_is_a_level_and_a_flat_kernel_does_not_divide_by_zero():
    levels, step, zero = weight_only.quantised(np.array([2.0, 5.1], np.float32))
    assert zero == -128 and levels.tolist() == [-28, 127] and abs(step - 0.02) < 1e-6
    levels, step, zero = weight_only.quantised(np.zeros(3, np.float32))
    assert step == 1.0 and ((levels.astype(int) - zero) * step == 0).all()


def test_only_large_kernels_are_stored_in_8_bits(files):
    before, after = (kernels(flatbuffer.read(files[name].content)) for name in ("float32", "weights"))
    assert after[64, 3, 3, 16] is None
    small = [shape for shape, values in before.items() if values.size < weight_only.LEAST]
    assert len(small) == 4
    for shape in small:
        np.testing.assert_array_equal(after[shape], before[shape])


def test_the_interpreter_sees_each_kernel_rounded_once(files, frames):
    runner = Runner(files["weights"].content, keep_all=True)
    runner(frames[0])
    values = kernels(flatbuffer.read(files["float32"].content))[64, 3, 3, 16]
    levels, step, zero = weight_only.quantised(values)
    graph = runner.model.subgraphs[0]
    (index,) = (i for i, t in enumerate(graph.tensors) if tuple(t.shape) == (64, 3, 3, 16) and t.type == 0)
    stored = (levels.astype(np.float32) - zero) * np.float32(step)
    np.testing.assert_allclose(runner.tensor(index).reshape(-1), stored, rtol=1e-6, atol=1e-9)
    assert np.abs(stored - values).max() <= step / 2 * 1.001


def test_float16_is_for_kernels_that_are_not_depthwise(files, frames):
    before, after = (kernels(flatbuffer.read(files[name].content)) for name in ("float32", "float16"))
    assert [shape for shape, values in after.items() if values is not None] == [(1, 3, 3, 16)]
    np.testing.assert_array_equal(after[1, 3, 3, 16], before[1, 3, 3, 16])
    runner = Runner(files["float16"].content, keep_all=True)
    runner(frames[0])
    tensors = runner.model.subgraphs[0].tensors
    (index,) = (i for i, t in enumerate(tensors) if tuple(t.shape) == (64, 3, 3, 16) and t.type == 0)
    wanted = before[64, 3, 3, 16].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(runner.tensor(index).reshape(-1), wanted)
