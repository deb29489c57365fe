"""Builds the parts of a configuration (networks, schedules, hooks, training batches), and sets up TensorFlow."""

import logging
import math
import os
from typing import cast

import tensorflow as tf
import tf_keras
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from detect.config import trust
from detect.config.fingerprint import fingerprint
from detect.data.augment import Augment
from detect.data.classification_stream import ClassificationStream
from detect.data.dataset import ClassificationDataset
from detect.data.pipeline import DetectionStream
from detect.errors import ConfigError, first_few
from detect.modeling import cost
from detect.modeling.interface import Architecture, Classifier, Detector
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.runs import disk
from detect.runs.dataset import threads
from detect.runs.folder import SCHEDULES
from detect.runs.start import Run
from detect.runs.workers import ALONE, Worker
from detect.training import contracts, determinism, distribution
from detect.training.distribution import Replicas
from detect.training.evaluations import HeldOutLoss
from detect.training.loop import Hook
from detect.training.profile import Profile, ShowGraph
from detect.training.schedule import Schedule

log = logging.getLogger("detect")
instantiate = trust.instantiate


def set_up(cfg: DictConfig, worker: Worker = ALONE) -> None:
    """Sets seeds, determinism, threads and devices before the first operation; clears Keras' state."""
    compile_clusters(bool(cfg.get("jit_compile")))  # runs of older versions have no such key
    if cfg.threads:
        limit_threads(cfg.threads)
    tf.get_logger().setLevel("ERROR")  # TensorFlow warns that the jobs of a sweep trace one function again and again
    _replicas(cfg, worker)
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(cfg.seed)
    determinism.demand(cfg)


def compile_clusters(wanted: bool) -> None:
    """Lets XLA compile groups of operations, or not, in the functions that are traced from now on. An operation that it
    can't compile, such as the suppression of boxes, stays as it is."""
    if wanted:  # without this, XLA leaves processors out
        os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit")
    tf.config.optimizer.set_jit("autoclustering" if wanted else False)


def limit_threads(number: int) -> None:
    """Sets the number of threads of TensorFlow's operations, which decides the last bits of a sum.

    Raises ConfigError if TensorFlow already runs with another number in this process.
    """
    settings = tf.config.threading
    try:
        settings.set_intra_op_parallelism_threads(number)
        settings.set_inter_op_parallelism_threads(number)
    except RuntimeError as error:
        before = settings.get_intra_op_parallelism_threads() or "one per core"
        raise ConfigError(
            f"threads={number}: TensorFlow already runs with {before} in this process and can't change that"
        ) from error


def replicas(run: Run) -> Replicas:
    """The devices and workers that train a run. Networks that it trains are built in the scope of their strategy."""
    return _replicas(run.cfg, run.worker)


def agree(run: Run) -> None:
    """Raises ConfigError unless all workers train the same configuration on the same data in the same folder."""
    them = replicas(run)
    them.agree("the fingerprint of the configuration", fingerprint(run.cfg))
    them.agree("the fingerprint of the data set", run.dataset.fingerprint())
    if run.pictures is not None:
        them.agree("the fingerprint of the pictures of stage 1", run.pictures.fingerprint())
    them.agree("the lock of the run folder, which all workers must share,", run.folder.claimed_by())


def _replicas(cfg: DictConfig, worker: Worker) -> Replicas:
    given = cfg.get("distribute") or {}  # runs of older versions have none
    return distribution.replicas(distribution.Distribution(**given), worker)


def detector(cfg: DictConfig, num_classes: int) -> Detector:
    """The meta-architecture of `cfg.detector` around `cfg.backbone`, with random weights. Raises ConfigError for a part
    that lacks what its contract promises."""
    with contracts.promised():
        made: Detector = instantiate(cfg.detector, backbone=instantiate(cfg.backbone), num_classes=num_classes)
    contracts.refuse_incomplete(made, Detector)
    return made


def classifier(cfg: DictConfig, num_classes: int) -> Classifier:
    """The classifier of `cfg.classify` on `cfg.backbone`, with random weights."""
    node = cfg.classify.classifier
    with contracts.promised():
        made: Classifier = instantiate(node, backbone=instantiate(cfg.backbone), num_classes=num_classes)
    contracts.refuse_incomplete(made, Classifier)
    return made


def prepare(run: Run, architecture: Architecture, schedule: Schedule, stage: str, spec: Spec | None = None) -> None:
    """Prepares a network with initial weights for the training of a stage: frozen layers, batch norm.

    spec: of a detector that becomes its fake-quantised twin.
    """
    them, key = replicas(run), SCHEDULES[stage]
    if frozen := [layer.name for layer in architecture.model.layers if layer.weights and not layer.trainable]:
        told = "%s: %s come frozen and are trained all the same; %s.freeze_until and %s.batch_norm freeze layers"
        log.warning(told, stage, first_few(frozen), key, key)
    if architecture.model.losses:
        told = "%s: regularisers of layers have no effect (%d of them); %s.weight_decay has"
        log.warning(told, stage, len(architecture.model.losses), key)
    schedule.prepare(architecture, key)
    them.prepare(architecture)
    images = schedule.batch_size if them.sync_batch_norm else schedule.batch_size // them.count
    if images == 1 and (single := _of_one_value(architecture)):
        told = "%s: a batch norm of one value gives its beta, whatever the image (%s); %s.batch_norm=frozen or a "
        log.warning(told + "larger %s.batch_size avoids it", stage, first_few(single), key, key)
    if spec is not None:  # the twin takes over what is frozen: afterwards, batch norms lie within its layers
        with them.strategy.scope():
            cast(Detector, architecture).adopt(fake_quant(architecture.model, spec))


def _of_one_value(architecture: Architecture) -> list[str]:
    """The trainable batch norms that get one value of a channel from an image. With crops, an image is several ones."""
    norms = [layer for layer in architecture.model.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    alone = [layer for layer in norms if layer.trainable and math.prod(layer.get_input_shape_at(0)[1:-1]) == 1]
    return [] if architecture.input_sources else [layer.name for layer in alone]


def quantized_schedule(cfg: DictConfig) -> Schedule:
    """The schedule of stage 3."""
    made: Schedule = instantiate(cfg.quantize.schedule)
    return made


def quantization(cfg: DictConfig) -> Spec:
    """The quantisation of stage 3, in steps of its schedule. Raises ConfigError if the two contradict each other."""
    steps, given = cfg.quantize.schedule.steps, instantiate(cfg.quantize.spec)
    spec: Spec = given.over(steps)
    if spec.delay >= steps:
        raise ConfigError(
            f"quantize.spec.delay={cfg.quantize.spec.delay}: rounding would never begin, because "
            f"quantize.schedule.steps is {steps}; legal are steps below that, and shares below 1"
        )
    if spec.ranges == "calibrated" and not cfg.quantize.calibrate:
        raise ConfigError("quantize.calibrate=0: quantize.spec.ranges=calibrated needs at least one batch")
    return spec


def hooks(cfg: DictConfig) -> list[Hook]:
    """New instances of the user's own hooks. Raises ConfigError if one can't be built or is not a Hook."""
    made = []
    for i, node in enumerate(cfg.get("hooks") or ()):
        try:
            hook = instantiate(node)
        except InstantiationException as error:
            raise ConfigError(f"hooks.{i}._target_={node._target_}: {error.__cause__ or error}") from error
        if not isinstance(hook, Hook):
            kind = type(hook).__name__
            raise ConfigError(f"hooks.{i}._target_={node._target_}: expected a detect.training.loop.Hook, not a {kind}")
        made.append(hook)
    return made


def shown(cfg: DictConfig) -> list[Hook]:
    """The hooks that show the network's graph and a profile of some steps in TensorBoard, if the user asks for them."""
    asked = cfg.get("profile")  # runs of older versions have neither key
    return [*([ShowGraph()] if cfg.get("graph") else []), *([Profile(*asked)] if asked else [])]


def check_parts(run: Run) -> None:
    """Builds hooks and augmentation, and divides the batches, so that errors come before steps are timed.

    Raises ConfigError if the devices can't share a batch equally.
    """
    cfg = run.cfg
    hooks(cfg)
    contracts.refuse_nameless(instantiate(cfg.backbone), bool(cfg.classify.enabled))
    instantiate(cfg.augment), instantiate(cfg.get("mixing"))
    for key, schedule in schedules(cfg).items():
        replicas(run).part(schedule.batch_size, f"{key}.batch_size")


def schedules(cfg: DictConfig) -> dict[str, Schedule]:
    """The schedules of the stages that a configuration trains, by their keys; also that of the detector without one."""
    keys = ["schedule", *["classify.schedule"] * cfg.classify.enabled, *["quantize.schedule"] * cfg.quantize.enabled]
    return {key: instantiate(OmegaConf.select(cfg, key)) for key in keys}


def check(run: Run) -> None:
    """Builds optimisers, detector and, if it is trained, its fake-quantised twin, and counts the cost, so that errors
    come early.

    They are left out if there is a single stage, which builds them at once. Raises UserError if the disk has too little
    room for the run.
    """
    cfg, found = run.cfg, schedules(run.cfg)
    for key, schedule in found.items():
        for warning in schedule.warnings(key):
            log.warning(warning)
    if cfg.quantize.enabled:
        for warning in instantiate(cfg.quantize.spec).warnings(cfg.quantize.schedule.steps):
            log.warning(warning)
    if stages(cfg) > 1:
        architecture = detector(cfg, run.dataset.num_classes)
        for key, schedule in found.items():
            schedule.build_optimizer(key)
            if key != "classify.schedule":
                schedule.prepare(architecture, key)
        cost.total_macs(architecture)
        disk.demand(run.folder.path, weight_bytes(architecture), stages(cfg))
        if cfg.quantize.enabled:
            fake_quant(architecture.model, quantization(cfg))


def stages(cfg: DictConfig) -> int:
    """The number of stages that a configuration trains."""
    quantized = cfg.quantize.enabled
    return bool(cfg.classify.enabled) + (not quantized or cfg.quantize.float_stage) + bool(quantized)


def weight_bytes(architecture: Architecture) -> int:
    """The size of a network's weights."""
    return sum(v.dtype.size * v.shape.num_elements() for v in architecture.model.variables)


def stage_1_dataset(run: Run) -> ClassificationDataset:
    """The images of stage 1: from a folder of their own, or crops of the run's training images."""
    dataset = run.pictures or instantiate(run.cfg.classify.dataset)
    if isinstance(dataset, ClassificationDataset):
        return dataset
    cropped: ClassificationDataset = dataset(run.dataset, seed=run.cfg.seed)
    return cropped


def classification_stream(
    run: Run, architecture: Architecture, schedule: Schedule, dataset: ClassificationDataset
) -> ClassificationStream:
    """The augmented training images of stage 1 as batches. With `limit.overfit`, images stay as they are."""
    return ClassificationStream(
        dataset.splits["train"],
        num_classes=dataset.num_classes,
        size=architecture.size,
        batch_size=replicas(run).part(schedule.batch_size),
        shard=run.worker.shard,
        augment=Augment() if run.cfg.limit.get("overfit") else instantiate(run.cfg.classify.augment),
        seed=run.cfg.seed,
        threads=threads(run.cfg),
        balanced=run.cfg.classify.balanced,
    )


def held_out_batches(run: Run, schedule: Schedule, images: int) -> tuple[int, int]:
    """(images of this worker in a batch, number of batches) for the loss on held-out images.

    images: those of the split. At most `validation_loss` of them are used, in whole batches, each image once; (0, 0) if
    they are fewer than the devices.
    """
    most = min(run.cfg.get("validation_loss") or 0, images)  # runs of older versions have no such key
    count = replicas(run).count
    size = min(schedule.batch_size, most) // count * count
    return (size // run.worker.count, most // size) if size else (0, 0)


def held_out_loss(run: Run, architecture: Detector, schedule: Schedule, split: str) -> HeldOutLoss | None:
    """The loss on a fixed few images of a split of the run; None if the configuration leaves it out."""
    size, batches = held_out_batches(run, schedule, len(run.dataset.splits[split]))
    if not batches:
        return None
    stream = DetectionStream(
        run.dataset.splits[split],
        size=architecture.size,
        batch_size=size,
        augment=Augment(),
        seed=run.cfg.seed,
        max_boxes=run.cfg.max_boxes,
        threads=threads(run.cfg),
        shard=run.worker.shard,
        resize=architecture.resize,
    )
    return HeldOutLoss(stream, batches)


def stage_1_held_out_loss(
    run: Run, architecture: Architecture, schedule: Schedule, dataset: ClassificationDataset, split: str
) -> HeldOutLoss | None:
    """The same for the classifier, on a split of its own data set."""
    size, batches = held_out_batches(run, schedule, len(dataset.splits[split]))
    if not batches:
        return None
    stream = ClassificationStream(
        dataset.splits[split],
        num_classes=dataset.num_classes,
        size=architecture.size,
        batch_size=size,
        augment=Augment(),
        seed=run.cfg.seed,
        threads=threads(run.cfg),
        shard=run.worker.shard,
    )
    return HeldOutLoss(stream, batches)


def training_stream(
    run: Run, architecture: Detector, schedule: Schedule, whole: bool = False, mixed: bool = True
) -> DetectionStream:
    """The augmented training images as batches for a detector: this worker's part of each, or all of it (`whole`).

    mixed: whether the images are mixed, if the configuration says so. With `limit.overfit`, images stay as they are.
    """
    part, overfits = replicas(run).part(schedule.batch_size), run.cfg.limit.get("overfit")
    return DetectionStream(
        run.dataset.splits["train"],
        size=architecture.size,
        batch_size=schedule.batch_size if whole else part,
        augment=Augment() if overfits else instantiate(run.cfg.augment),
        seed=run.cfg.seed,
        max_boxes=run.cfg.max_boxes,
        threads=threads(run.cfg),
        shard=(0, 1) if whole else run.worker.shard,
        resize=architecture.resize,
        mixing=instantiate(run.cfg.get("mixing")) if mixed and not overfits else None,  # older runs have no such key
        steps=schedule.steps * schedule.accumulate,
        repeat_threshold=run.cfg.get("repeat_threshold"),
    )
