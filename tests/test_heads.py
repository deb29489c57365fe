"""The order in which a predictor's channels become anchors."""

import numpy as np
import pytest
import tf_keras

from detect.heads import ConvPredictor


def build(num_classes=2, **settings):
    maps = [tf_keras.Input((2, 3, 4)), tf_keras.Input((1, 1, 5))]
    prior = settings.pop("prior", None)
    return tf_keras.Model(maps, ConvPredictor(**settings)(maps, [3, 2], num_classes, prior))


def test_anchors_run_over_cells_then_over_the_anchors_of_a_cell():
    model = build()
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([np.zeros_like(kernel), np.arange(len(bias), dtype=np.float32)])
    codes, logits = model([np.zeros((1, 2, 3, 4)), np.zeros((1, 1, 1, 5))])
    assert codes.shape == (1, 2 * 3 * 3 + 2, 4) and logits.shape == (1, 20, 3)
    cell = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    np.testing.assert_array_equal(codes[0], cell * 6 + cell[:2])
    np.testing.assert_array_equal(logits[0], [[0, 1, 2], [3, 4, 5], [6, 7, 8]] * 6 + [[0, 1, 2], [3, 4, 5]])


def test_cells_run_row_by_row():
    model = build()
    predictor = model.get_layer("BoxPredictor_0/BoxEncodingPredictor")
    predictor.set_weights([np.ones((1, 1, 4, 12)), np.zeros(12)])
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1) * np.array([1, 0, 0, 0], np.float32)
    codes, _ = model([image, np.zeros((1, 1, 1, 5))])
    np.testing.assert_array_equal(codes[0, :18, 0], np.repeat(np.arange(6), 3))


def test_names_and_kernels():
    model = build(kernel=3)
    assert model.get_layer("BoxPredictor_1/ClassPredictor").kernel.shape == (3, 3, 5, 6)
    assert {v.name for v in model.variables} == {
        f"BoxPredictor_{i}/{part}/{kind}:0"
        for i in (0, 1)
        for part in ("BoxEncodingPredictor", "ClassPredictor")
        for kind in ("kernel", "bias")
    }


@pytest.mark.parametrize(("prior", "bias"), [(None, 0.0), (0.01, -np.log(99))])
def test_class_biases_start_from_the_prior(prior, bias):
    model = build(prior=prior)
    np.testing.assert_allclose(model.get_layer("BoxPredictor_0/ClassPredictor").bias, np.full(9, bias), rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("BoxPredictor_0/BoxEncodingPredictor").bias, np.zeros(12))
