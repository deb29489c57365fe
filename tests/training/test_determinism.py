"""`deterministic=true` on a GPU, which this machine need not have."""

import pytest
import tensorflow as tf

from detect.config import check
from detect.config.compose import compose
from detect.errors import ConfigError
from detect.training import build, determinism

WORDS = ("dataset=digits", "init=none", "classify.enabled=false", "detector.size=[160,160]")
SMALL = {"vgg16": ("backbone=vgg16", "backbone.depth_multiplier=.1"), "": ("backbone.depth_multiplier=.25",)}
REFUSED = {"CropAndResizeGradImage", "ResizeNearestNeighborGrad", "FakeQuantWithMinMaxVarsGradient"}
DETECTORS = sorted(file.stem for file in (check.CONFIG_DIR / "detector").glob("*.yaml"))
QUICK = ("faster_rcnn", "ssd", "ssd_fpn")


def words_of(detector: str) -> list[str]:
    return [*WORDS, f"detector={detector}", *SMALL["vgg16" if "vgg16" in detector else ""]]


def operations(graph) -> list:
    """All operations of a graph and of the functions that it calls."""
    definition = graph.as_graph_def()
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def refused(cfg) -> set[str]:
    """The operations of a training step that TensorFlow refuses on a GPU if they have to be deterministic."""
    detector, schedule = build.detector(cfg, 3), build.instantiate(cfg.schedule)
    schedule.prepare(detector)
    batch = {
        "image": tf.zeros((1, *detector.size, 3), tf.uint8),
        "boxes": tf.constant([[[10.0, 10, 90, 90]]]),
        "classes": tf.constant([[0]]),
        "seed": tf.constant([0]),
    }

    @tf.function(autograph=False)
    def gradients(batch):
        with tf.GradientTape() as tape:
            parts = detector.losses(batch, training=True).parts
            loss = tf.add_n(list(parts.values()))
        return tape.gradient(loss, detector.model.trainable_variables)

    found = operations(gradients.get_concrete_function(batch).graph)
    frozen = {node.op for node in found if node.op == "FusedBatchNormGradV3" and not node.attr["is_training"].b}
    return frozen | (REFUSED & {node.op for node in found})


@pytest.mark.parametrize(
    "detector", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
)
def test_the_parts_that_are_named_are_those_with_such_an_operation(detector):
    cfg = compose(words_of(detector))
    assert bool(determinism.undetermined(cfg)) == bool(refused(cfg))


def test_batch_norm_that_is_frozen_is_named():
    cfg = compose([*words_of("ssd"), "schedule.batch_norm=frozen"])
    assert refused(cfg) == {"FusedBatchNormGradV3"} and determinism.undetermined(cfg) == ["schedule.batch_norm"]


def test_on_a_gpu_it_stays_off_with_a_warning(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(1))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    determinism.demand(compose([*words_of("faster_rcnn"), "quantize=int8"]))
    assert "gradient for detector.roi, quantize" in caplog.text and not asked
    determinism.demand(compose([*words_of("ssd"), "deterministic=false"]))
    assert not asked
    determinism.demand(compose(words_of("ssd")))
    assert asked


def test_a_run_that_does_not_want_it_comes_after_one_that_does():
    for wanted in (True, False):
        determinism.demand(compose([*words_of("ssd"), f"deterministic={wanted}"]))
        assert determinism.settings.is_op_determinism_enabled() is wanted


def test_a_run_begins_after_other_work_of_tensorflow(monkeypatch):
    """A GPU can no longer be set up then: one that does not exist stands for it."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    build.set_up(compose([*words_of("ssd"), "deterministic=false"]))


def test_what_a_device_refuses_is_one_message():
    told = "A deterministic GPU implementation of X is not currently available.\n\t [[{{node X}}]]"
    match = r"^deterministic=true: A .* of X is .* available\.; give .*=false$"
    with pytest.raises(ConfigError, match=match), determinism.told():
        raise tf.errors.UnimplementedError(None, None, told)
    with pytest.raises(tf.errors.UnimplementedError), determinism.told():
        raise tf.errors.UnimplementedError(None, None, "something else")
