"""What a configuration describes: networks, schedules, hooks and training batches; and how TensorFlow is set up."""

import hydra
import tensorflow as tf
import tf_keras
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from detect.data.dataset import ClassificationDataset
from detect.data.pipeline import ClassificationStream, DetectionStream
from detect.errors import ConfigError
from detect.modeling.interface import Architecture, Classifier, Detector
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.runs.dataset import threads
from detect.runs.start import Run
from detect.training.loop import Hook
from detect.training.schedule import Schedule

instantiate = hydra.utils.instantiate


def set_up(cfg: DictConfig) -> None:
    """Seeds, determinism, threads and memory growth, before the first operation; a sweep's earlier job is forgotten."""
    tf_keras.backend.clear_session()
    if cfg.threads:
        limit_threads(cfg.threads)
    tf.get_logger().setLevel("ERROR")  # it takes the jobs of a sweep for one function that is traced again and again
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    tf_keras.utils.set_random_seed(cfg.seed)
    if cfg.deterministic:
        tf.config.experimental.enable_op_determinism()


def limit_threads(number: int) -> None:
    """Lets TensorFlow's operations use that many threads: their number decides the last bits of a sum.

    Raises ConfigError in a process that has begun with another number.
    """
    settings = tf.config.threading
    try:
        settings.set_intra_op_parallelism_threads(number)
        settings.set_inter_op_parallelism_threads(number)
    except RuntimeError as error:
        before = settings.get_intra_op_parallelism_threads() or "one a core"
        raise ConfigError(
            f"threads={number}: this process has begun with {before}, and TensorFlow can't change that"
        ) from error


def detector(cfg: DictConfig, num_classes: int) -> Detector:
    """The meta-architecture of `cfg.detector` around `cfg.backbone`, with random weights."""
    made: Detector = instantiate(cfg.detector, backbone=instantiate(cfg.backbone), num_classes=num_classes)
    return made


def classifier(cfg: DictConfig, num_classes: int) -> Classifier:
    """The classifier of `cfg.classify` on `cfg.backbone`, with random weights."""
    made: Classifier = instantiate(cfg.classify.classifier, backbone=instantiate(cfg.backbone), num_classes=num_classes)
    return made


def quantized_schedule(cfg: DictConfig) -> Schedule:
    """The schedule of stage 3."""
    made: Schedule = instantiate(cfg.quantize.schedule)
    return made


def quantization(cfg: DictConfig) -> Spec:
    """How stage 3 quantises, in steps of its schedule. Raises ConfigError where the two do not go together."""
    steps, given = cfg.quantize.schedule.steps, instantiate(cfg.quantize.spec)
    spec: Spec = given.over(steps)
    if spec.delay >= steps:
        raise ConfigError(
            f"quantize.spec.delay={cfg.quantize.spec.delay}: rounding would never begin, as quantize.schedule.steps is "
            f"{steps}; legal are steps below that, and shares below 1"
        )
    if spec.ranges == "calibrated" and not cfg.quantize.calibrate:
        raise ConfigError("quantize.calibrate=0: quantize.spec.ranges=calibrated needs at least one batch")
    return spec


def hooks(cfg: DictConfig) -> list[Hook]:
    """The user's own hooks, new ones for each stage. Raises ConfigError for what can't be built or is no Hook."""
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


def check(cfg: DictConfig, num_classes: int) -> None:
    """Builds hooks, detector and, where it is trained, its fake-quantised twin: what can't be built stops here."""
    hooks(cfg)
    architecture = detector(cfg, num_classes)
    if cfg.quantize.enabled:
        fake_quant(architecture.model, quantization(cfg))


def stage_1_dataset(run: Run) -> ClassificationDataset:
    """The pictures of stage 1: a folder of their own, or crops of the run's training images."""
    dataset = instantiate(run.cfg.classify.dataset)
    if isinstance(dataset, ClassificationDataset):
        return dataset
    cropped: ClassificationDataset = dataset(run.dataset, seed=run.cfg.seed)
    return cropped


def classification_stream(
    run: Run, architecture: Architecture, schedule: Schedule, dataset: ClassificationDataset
) -> ClassificationStream:
    """The augmented training pictures of stage 1 as batches."""
    return ClassificationStream(
        dataset.splits["train"],
        num_classes=dataset.num_classes,
        size=architecture.size,
        batch_size=schedule.batch_size,
        augment=instantiate(run.cfg.classify.augment),
        seed=run.cfg.seed,
        threads=threads(run.cfg),
        balanced=run.cfg.classify.balanced,
    )


def training_stream(run: Run, architecture: Detector, schedule: Schedule) -> DetectionStream:
    """The augmented training images as batches for a detector."""
    return DetectionStream(
        run.dataset.splits["train"],
        size=architecture.size,
        batch_size=schedule.batch_size,
        augment=instantiate(run.cfg.augment),
        seed=run.cfg.seed,
        max_boxes=run.cfg.max_boxes,
        threads=threads(run.cfg),
        resize=architecture.resize,
    )
