"""The order in which a predictor's channels become anchors."""

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.heads import ConvPredictor, SeparablePredictor, SharedPredictor


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


def shared(sizes=((4, 4), (2, 2)), depth=8, anchors=(2, 2), **settings):
    maps = [tf_keras.Input((*size, depth)) for size in sizes]
    return tf_keras.Model(maps, SharedPredictor(**settings)(maps, anchors, 3, 0.01))


@pytest.mark.parametrize(
    ("one_tower", "names"), [(True, ["Prediction"]), (False, ["BoxPrediction", "ClassPrediction"])]
)
def test_shared_kernels_and_a_norm_for_each_map(one_tower, names):
    model = shared(one_tower=one_tower, convolutions=2, channels=16)
    scope = "WeightSharedConvolutionalBoxPredictor"
    towers = [f"{scope}/{name}Tower/conv2d_{i}" for name in names for i in range(2)]
    kernels = [*towers, f"{scope}/BoxPredictor", f"{scope}/ClassPredictor"]
    norms = [f"{tower}/BatchNorm/feature_{k}" for tower in towers for k in range(2)]
    assert sorted(layer.name for layer in model.layers if layer.weights) == sorted([*kernels, *norms])
    bias = model.get_layer(f"{scope}/ClassPredictor").bias
    np.testing.assert_allclose(bias, np.log(0.01 / 0.99), rtol=1e-6)
    assert all((model.get_layer(tower).bias is None) for tower in towers)


def test_shared_predictions_are_those_of_one_map_alone():
    model = shared(convolutions=1, normalise=False, separable=True)
    image = np.random.default_rng(0).normal(size=(1, 2, 2, 8)).astype(np.float32)
    codes, logits = model([np.zeros((1, 4, 4, 8), np.float32), image])
    alone = shared(sizes=((2, 2),), anchors=(2,), convolutions=1, normalise=False, separable=True)
    alone.set_weights(model.get_weights())
    for ours, theirs in zip((codes[:, 32:], logits[:, 32:]), alone(image), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_maps_that_can_not_share():
    with pytest.raises(ConfigError, match="shared predictors need maps of one depth"):
        shared(anchors=(2, 3))
    with pytest.raises(ConfigError, match=r"head\.kernel=1: legal is 3"):
        SharedPredictor(kernel=1, separable=True)
