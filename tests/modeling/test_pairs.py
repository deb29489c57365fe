"""Every backbone under every meta-architecture, at small width. YAML files are globbed: a newcomer is tested, too."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from detect.config.check import CONFIG_DIR
from detect.errors import ConfigError
from detect.modeling import cost
from detect.reporting.meanings import meaning
from detect.training import build
from tests.closeness import assert_same_detections, counted
from tests.verbs import composed

SIZE = (96, 128)
SLOTS = 300
BACKBONES = sorted(file.stem for file in (CONFIG_DIR / "backbone").glob("*.yaml"))
DETECTORS = sorted(file.stem for file in (CONFIG_DIR / "detector").glob("*.yaml"))
# Every backbone carries every meta-architecture; presets are tried on one backbone.
WHOLE = [d for d in DETECTORS if "_target_" in yaml.safe_load((CONFIG_DIR / "detector" / f"{d}.yaml").read_text())]
ONLY_ON = {"ssd300_vgg16": "vgg16"}
# The coarsest maps of a pyramid are for objects of 256 px and more. This frame has no room for such objects.
SMALLER = {
    "ssd_fpn": ["detector.neck.levels=3", "detector.anchors.anchor_scale=1"],
    "ssd_fpnlite": ["detector.neck.levels=3", "detector.anchors.anchor_scale=1", "detector.neck.channels=32"],
    "faster_rcnn": ["detector.proposals.count=40", "detector.box_sampler.size=16"],  # crops are what takes the time
    "fcos": ["detector.neck.levels=3", "detector.target_assigner.ranges=[16,32]", "detector.neck.channels=32"],
}
USUAL = "mobilenet_v1"
PAIRS = [(USUAL, d) for d in ("ssd", "faster_rcnn", "fcos", "ssd_fpnlite")]
"""Every meta-architecture and every kind of predictor once. The other pairs are slow tests."""
OTHERS = [
    pair
    for d in DETECTORS
    for b in BACKBONES
    if (pair := (b, d)) not in PAIRS and (d in WHOLE or b == ONLY_ON.get(d, USUAL))
]


def pair(backbone: str, detector: str, num_classes: int = 3):
    stock = yaml.safe_load((CONFIG_DIR / "backbone" / f"{backbone}.yaml").read_text())
    overrides = [
        f"backbone={backbone}",
        *(["backbone.depth_multiplier=0.25"] if "depth_multiplier" in stock else []),
        f"detector={detector}",
        f"detector.size={list(SIZE)}",
        *SMALLER.get(detector, []),
    ]
    cfg = composed("train", *overrides)
    tf_keras.utils.set_random_seed(0)  # a squeeze of few channels may be dead with other weights
    return build.detector(cfg, num_classes)


@pytest.mark.parametrize(
    ("neck", "head", "anchors", "refusal"),
    [
        ("inception_block", "separable", "ssd", None),
        ("extras", "conv", "blood_cells", None),
        ("fpn", "conv_3x3", "ssd", None),
        ("fpn_smoothed", "shared", "multiscale", None),
        ("vgg16", "conv", "ssd", "detector/neck=vgg16 needs backbone=vgg16"),
        ("extras", "shared", "ssd", r"shared predictors need maps of one depth .* detector/neck=fpn"),
        ("extras", "conv", "multiscale_exact", r"anchors\.min_level=3: the first map has stride 16"),
        ("fpn", "conv", "ssd300", r"anchors\.scales=.* has 7 entries for 5 maps"),
    ],
)
def test_which_parts_of_ssd_go_together(neck, head, anchors, refusal):
    """As docs/detectors.md tells it."""
    words = [f"detector/neck={neck}", f"detector/head={head}", f"detector/anchors={anchors}", "detector.size=[160,160]"]
    cfg = composed("train", *words, "backbone.depth_multiplier=0.25")
    if refusal is None:
        assert build.detector(cfg, 3).maps
    else:
        with pytest.raises(ConfigError, match=refusal):
            build.detector(cfg, 3)


def batch_of(counts, num_classes: int) -> dict:
    """Images with so many boxes each, as the input pipeline makes them."""
    random = np.random.default_rng(0)
    boxes = np.full((len(counts), SLOTS, 4), -1, np.float32)
    classes = np.full((len(counts), SLOTS), -1, np.int32)
    for row, count in enumerate(counts):
        sides = random.uniform(0.05, 1, (count, 2)) * SIZE  # of all sizes, so that every map has its matches
        corners = random.uniform(0, 1, (count, 2)) * (SIZE - sides)
        boxes[row, :count] = np.concatenate([corners, corners + sides], axis=1)
        classes[row, :count] = random.integers(1, num_classes + 1, count)
    images = random.integers(0, 256, (len(counts), *SIZE, 3), np.uint8)
    index = np.arange(len(counts), dtype=np.int32)
    batch = {"image": images, "boxes": boxes, "classes": classes, "index": index, "seed": index + 7}
    return {name: tf.constant(value) for name, value in batch.items()}


def check_gradients(detector, batch) -> None:
    """The loss is finite, and every trainable variable gets a finite gradient that is not all zero."""
    with tf.GradientTape() as tape:
        parts, scalars, _ = detector.losses(batch, training=True)
        loss = tf.add_n(list(parts.values()))
    figures = {name: float(value) for name, value in {**parts, **scalars}.items()}
    assert all(np.isfinite(value) for value in figures.values()), figures
    assert [name for name in (*(f"loss/{part}" for part in parts), *scalars) if not meaning(name)] == []
    assert float(loss) > 0
    variables = detector.model.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert [v.name for v, g in zip(variables, gradients, strict=True) if g is None] == []
    values = {v.name: tf.convert_to_tensor(g).numpy() for v, g in zip(variables, gradients, strict=True)}
    assert [name for name, g in values.items() if not np.isfinite(g).all()] == []
    assert [name for name, g in values.items() if not g.any()] == []


@pytest.mark.parametrize(
    ("backbone", "name"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in OTHERS)], ids=str
)
def test_a_pair(backbone, name):
    """One build, all questions: building is what takes the time."""
    detector = pair(backbone, name)
    kinds = {type(layer).__name__ for layer in detector.model.layers}
    assert not kinds & {"Lambda", "Functional", "Model", "TFOpLambda", "SlicingOpLambda"}
    assert len({v.name for v in detector.model.variables}) == len(detector.model.variables)
    rows = detector.parts()
    assert sum(len(row.layers) for row in rows) == len(frozenset().union(*(row.layers for row in rows)))
    assert cost.total_macs(detector) > cost.total_macs(detector, training=True) * 0.9 > 0

    batch = batch_of((1, 300), 3)
    check_gradients(detector, batch)
    empty, *_ = detector.losses(batch_of((0, 0), 3))
    assert all(np.isfinite(float(part)) for part in empty.values())
    assert float(tf.add_n(list(empty.values()))) > 0

    together = detector.detect(batch["image"])
    for row in range(2):
        alone = detector.detect(batch["image"][row : row + 1])
        assert_same_detections(counted(together, row), counted(alone, 0), max(SIZE))
    found = together["boxes"].numpy()
    assert (found >= 0).all() and (found <= [*SIZE, *SIZE]).all()

    detector.adopt(tf_keras.models.clone_model(detector.model))
    assert detector.parts() == rows


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_one_class(name):
    detector = pair("mobilenet_v1", name, num_classes=1)
    check_gradients(detector, batch_of((0, 1, 100), 1))
    assert set(np.unique(detector.detect(batch_of((1,), 1)["image"])["classes"])) <= {0, 1}
