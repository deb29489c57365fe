"""Networks that compute in 16 bits: which parts of them do, and that they train as those of float32 do."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.config import trust
from detect.config.compose import compose
from detect.data.augment import Augment
from detect.data.pipeline import DetectionStream
from detect.modeling.interface import Losses
from detect.modeling.precision import computing_in, needs_loss_scale
from detect.runs.dataset import dataset_of
from detect.training import build
from detect.training.trainer import Trainer

TINY = ("backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "detector.size=[96,96]")
SSD = (*TINY, "detector=ssd", "detector.neck.channels=[]")
NETWORKS = {
    "ssd": SSD,
    "faster_rcnn": (*TINY, "detector=faster_rcnn", "detector.proposals.count=10", "detector.box_sampler.size=4"),
    "fcos": ("backbone=mobilenet_v1", "backbone.depth_multiplier=0.25", "detector=fcos", "detector.size=[96,96]"),
}
DATA = ("dataset=digits", "dataset.images={train:16,val:4,test:4}", "dataset.sides=[64,96]", "init=none")


def network(cfg, precision: str):
    with trust.trusting(("tests",)), computing_in(precision):
        return build.detector(cfg, 10)


def test_a_norm_over_channels_does_not_overflow_in_half_precision():
    """The squares of 512 equal values of 30 have a sum of 460,800; half precision ends at 65,504."""
    cfg = compose(["dataset=digits", "detector=ssd300_vgg16", "backbone=vgg16", "init=none"])
    model = network(cfg, "float16").model
    norm = model.get_layer("ssd/conv4_3/norm")
    found = norm(tf.fill([1, 2, 2, 512], tf.constant(30, tf.float16)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    assert np.isfinite(norm(tf.zeros([1, 2, 2, 512], tf.float16))).all()


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    boxes = np.full((2, 3, 4), -1, np.float32)
    boxes[:, 0] = [10, 10, 50, 60]
    classes = np.where(boxes[..., 0] < 0, -1, 3).astype(np.int32)
    image = rng.integers(0, 256, (2, 96, 96, 3), np.uint8)
    return {"image": image, "boxes": boxes, "classes": classes, "seed": np.arange(2, dtype=np.int32)}


PAIRS = [(name, precision) for name in NETWORKS for precision in ("bfloat16", "float16")]
QUICK = [("ssd", "float16"), ("faster_rcnn", "bfloat16")]


@pytest.mark.parametrize(
    ("name", "precision"), [pytest.param(*pair, marks=pytest.mark.slow if pair not in QUICK else ()) for pair in PAIRS]
)
def test_heads_variables_losses_and_detections_are_float32(name, precision):
    detector = network(compose([*DATA, *NETWORKS[name]]), precision)
    assert {v.dtype for v in detector.model.variables} == {tf.float32}
    heads = [t for name, t in detector.model.output.items() if name != "features"]
    assert {t.dtype for t in heads} == {tf.float32}
    kernels = [layer for layer in detector.model.layers if layer.name in detector.backbone_layers and layer.weights]
    assert {layer.compute_dtype for layer in kernels} == {precision}
    assert needs_loss_scale(detector.model) == (precision == "float16")
    parts, scalars, count = detector.losses(batch())
    assert {value.dtype for value in (*parts.values(), *scalars.values(), count)} == {tf.float32}
    assert detector.detect(batch()["image"])["boxes"].dtype == tf.float32
    assert tf_keras.mixed_precision.global_policy().name == "float32"


@pytest.fixture(scope="module")
def trained():
    """(configuration, stream, weights): an SSD after 100 steps, and its batches."""
    words = [*DATA, *SSD, "schedule.steps=200", "schedule.batch_size=4", "schedule.batch_norm=frozen", "threads=1"]
    cfg = compose([*words, "schedule.warmup=5"])
    detector, schedule = network(cfg, "float32"), build.instantiate(cfg.schedule)
    stream = DetectionStream(dataset_of(cfg, False).splits["train"], (96, 96), 4, Augment(), threads=1)
    schedule.prepare(detector)
    Trainer(detector, schedule, stream).train(100)
    return cfg, stream, detector.model.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_losses_of_a_trained_network_are_within_one_percent(trained, precision):
    cfg, stream, weights = trained
    losses = {}
    for kind in ("float32", precision):
        detector, schedule, rows = network(cfg, kind), build.instantiate(cfg.schedule), []
        detector.model.set_weights(weights)
        schedule.prepare(detector)
        trainer = Trainer(detector, schedule, stream)
        trainer.after_step = rows.append
        trainer.train(50)
        losses[kind] = np.array([row["loss/total"] for row in rows])
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["float32"][-5:].mean() < losses["float32"][:5].mean()


def test_a_step_of_float16_with_infinite_gradients_is_left_out():
    """The loss scale begins at 2 ** 15: gradients that overflow halve it, and the weights stay."""
    x = tf_keras.Input((1,))
    with computing_in("float16"):
        model = tf_keras.Model(x, tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(x))

    class Steep:
        def __init__(self):
            self.model = model

        def losses(self, batch, training=True):
            found = tf.cast(self.model(batch["image"]), tf.float32)
            return Losses({"steep": tf.reduce_sum(found) * 9}, {}, tf.ones(()))

    class Ones:
        batch_size, spec, failure = 1, {"image": ((1,), np.float32, 0), "index": ((), np.int32, -1)}, None

        def iterate(self, start_step=0, steps=None):
            while True:
                yield {"image": np.ones((1, 1), np.float32), "index": np.zeros(1, np.int32)}

    schedule = build.instantiate(compose([*DATA, "schedule.warmup=0"]).schedule)
    trainer, rows = Trainer(Steep(), schedule, Ones()), []
    trainer.after_step = rows.append
    trainer.train(6)
    scales = [row["loss_scale"] for row in rows]
    assert scales[0] > scales[-1] and all(np.isfinite(row["gradient_norm"]) for row in rows)
    assert rows[0]["gradient_norm"] == 0 and rows[-1]["gradient_norm"] == pytest.approx(9)
