"""The order in which a predictor's channels become anchors."""

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.heads import ConvPredictor, SeparablePredictor


def build(num_classes=2, kind=ConvPredictor, **settings):
    maps = [tf_keras.Input((2, 3, 4)), tf_keras.Input((1, 1, 5))]
    prior = settings.pop("prior", None)
    return tf_keras.Model(maps, kind(**settings)(maps, [3, 2], num_classes, prior))


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


def test_other_kernels_are_refused():
    with pytest.raises(ConfigError, match=r"head.kernel=2 is not legal: expected one of 1, 3"):
        ConvPredictor(kernel=2)


def test_names_of_the_separable_predictor_are_the_apis():
    model = build(kind=SeparablePredictor)
    variables = {v.name.removesuffix(":0"): tuple(v.shape) for v in model.variables}
    own = {n.removeprefix("BoxPredictor_1/ClassPredictor"): s for n, s in variables.items() if "1/ClassPred" in n}
    assert own == {
        "_depthwise/depthwise_kernel": (3, 3, 5, 1),
        "_depthwise/BatchNorm/gamma": (5,),
        "_depthwise/BatchNorm/beta": (5,),
        "_depthwise/BatchNorm/moving_mean": (5,),
        "_depthwise/BatchNorm/moving_variance": (5,),
        "/kernel": (1, 1, 5, 6),
        "/bias": (6,),
    }
    assert len(variables) == 4 * len(own)
    assert model.get_layer("BoxPredictor_0/BoxEncodingPredictor").filters == 12


def test_the_separable_predictor_cuts_off_at_0_and_6_between_its_convolutions():
    model = build(kind=SeparablePredictor)
    scope = "BoxPredictor_1/BoxEncodingPredictor"
    kernel = np.zeros((3, 3, 5, 1))
    kernel[1, 1, :, 0] = [-1, 0, 1, 5, 100]
    model.get_layer(f"{scope}_depthwise").set_weights([kernel])
    model.get_layer(scope).set_weights([np.eye(5, 8).reshape(1, 1, 5, 8), np.full(8, 0.5)])
    codes, _ = model([np.zeros((1, 2, 3, 4)), np.ones((1, 1, 1, 5))])
    normalised = np.sqrt(1 / 1.001)
    expected = np.array([[0, 0, normalised, 5 * normalised], [6, 0, 0, 0]]) + 0.5
    np.testing.assert_allclose(codes[0, -2:], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [ConvPredictor, SeparablePredictor])
@pytest.mark.parametrize(("prior", "bias"), [(None, 0.0), (0.01, -np.log(99))])
def test_class_biases_start_from_the_prior(prior, bias, kind):
    model = build(prior=prior, kind=kind)
    np.testing.assert_allclose(model.get_layer("BoxPredictor_0/ClassPredictor").bias, np.full(9, bias), rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("BoxPredictor_0/BoxEncodingPredictor").bias, np.zeros(12))
