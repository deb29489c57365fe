"""The networks of scripts/mobilenet_collapse.py, and the photographs for the measurements."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import skimage.data
import tensorflow as tf
import tf_keras
from mobilenet_collapse_variants import Boxes, Outputs, agreement, box_agreement, in_batches

from detect.config.check import CONFIG_DIR
from detect.data.image_file import read_image
from detect.data.image_folder import read_image_folder
from detect.geometry.frame import Frame
from detect.modeling.backbones.inception_v3 import InceptionV3
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.classifier import Classifier
from detect.tflite.metadata import Settings
from detect.training import build
from detect.weights.sources import FromFile
from detect.weights.transfer import transfer

layers = tf_keras.layers
IMAGENET, GROCERY = "ImageNet", "grocery10"  # names of a classifier's outputs
EPOCHS, RATE, DECAY = 300, 3e-3, 1e-4  # of the heads, which see all training photographs at once
SCORE = 0.2  # least score of the detections that are compared
SCENES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")


@dataclass(frozen=True)
class Net:
    """A float network with named outputs; frames uint8 [H, W, 3] for the ranges, and frames for the measurements; the
    function from the outputs on the latter to the columns of a table."""

    model: tf_keras.Model
    representative: list[np.ndarray]
    frames: list[np.ndarray]
    measure: Callable[[Outputs], dict[str, Any]]


class Photographs:
    """The grocery photographs: root/train/CLASS and root/test/CLASS.

    tested: number of test photographs that are used, evenly spread (None: all). representative: number of training
    photographs for the ranges, drawn at random.
    """

    def __init__(self, root: Path, tested: int | None = None, representative: int = 100):
        dataset = read_image_folder(root)
        self.classes, self.train = dataset.classes, [*dataset.splits["train"], *dataset.splits["val"]]
        test = dataset.splits["test"]
        count = min(tested or len(test), len(test))
        self.test = [test[i * len(test) // count] for i in range(count)]
        order = np.random.default_rng(0).permutation(len(self.train))
        self.representative = [self.train[i] for i in order[:representative]]


def frames_of(examples: Sequence[Any], frame: Frame) -> list[np.ndarray]:
    """The frame of each photograph."""
    return [frame.fit(read_image(example.path)) for example in examples]


def labels_of(examples: Sequence[Any]) -> np.ndarray:
    """int64 [N]."""
    return np.array([example.label for example in examples])


def mobilenet(weights: Path, photographs: Photographs) -> Net:
    """The published ImageNet classifier, and a head for the groceries."""
    classifier = _classifier(MobileNetV1(), 1001, 224, weights, scope="detector")
    return _classified(classifier, {IMAGENET: classifier.model.output}, photographs)


def inception(weights: Path, photographs: Photographs) -> Net:
    """Generic weights without a classifier, which are rounded to 8 bits already, and a head for the groceries."""
    backbone = InceptionV3(input_scaling="unit", padding="valid")
    return _classified(_classifier(backbone, 1, 299, weights, scope="backbone"), {}, photographs)


def zoo(graph: Path, photographs: Photographs) -> Net:
    """The imported SSDLite MobileNet v2 of a frozen graph. Its results are compared with those of the graph."""
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", ["detector=ssdlite", "detector.resize=zoo", "backbone=mobilenet_v2"])
    detector = build.detector(cfg, num_classes=1)
    _load(detector, graph, build.instantiate(cfg.backbone), "detector")
    settings, frame = Settings.of(detector, ["pedestrian"]), Frame(detector.size, detector.resize)
    images = [*scenes(), *(read_image(example.path) for example in photographs.test)]
    reference = frozen_detections(graph, images, detector.size)

    def measure(outputs: Outputs) -> dict[str, Any]:
        found = {n: v.numpy() for n, v in settings.detect(outputs["codes"], outputs["logits"]).items()}
        figures = box_agreement(reference, list(zip(found["boxes"], found["scores"], strict=True)), SCORE)
        return {
            "boxes": figures["boxes"],
            "matched": figures["matched"],
            "score change": figures["score_change"],
            "boxes of its own": figures["unmatched"],
        }

    frames = [frame.fit(image) for image in images]
    return Net(detector.model, frames_of(photographs.representative, frame), frames, measure)


def scenes() -> list[np.ndarray]:
    """The colour photographs that come with scikit-image, uint8 [H, W, 3]."""
    return [*(getattr(skimage.data, name)() for name in SCENES), skimage.data.stereo_motorcycle()[0]]


def frozen_detections(graph: Path, images: Sequence[np.ndarray], size: tuple[int, int]) -> list[Boxes]:
    """Detections of an Object Detection API's frozen graph in images of any size, in pixels of a frame of `size`."""
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graph.read_bytes())
    with tf.Graph().as_default() as frozen:
        tf.import_graph_def(definition, name="")
    found = []
    with contextlib.closing(tf.compat.v1.Session(graph=frozen)) as session:
        for image in images:
            fetched = session.run(["detection_boxes:0", "detection_scores:0"], {"image_tensor:0": image[np.newaxis]})
            found.append((fetched[0][0] * np.array(size * 2, np.float32), fetched[1][0]))
    return found


def _classifier(backbone: Any, classes: int, side: int, weights: Path, scope: str) -> Classifier:
    classifier = Classifier(backbone, classes, (side, side))
    _load(classifier, weights, backbone, scope)
    return classifier


def _load(network: Any, weights: Path, backbone: Any, scope: str) -> None:
    """network: a classifier or a detector around such a backbone."""
    arrays = FromFile(str(weights), scope).read(backbone)
    transfer(network.model, arrays, source=str(weights), layers=network.backbone_layers, scope=scope)


def _classified(classifier: Classifier, outputs: dict[str, Any], photographs: Photographs) -> Net:
    """The network with a head for the groceries on its pooled features; measures agreement with its float version."""
    pooled, frame = classifier.model.get_layer("Logits/AvgPool").output, Frame(classifier.size)
    features = tf_keras.Model(classifier.model.input, {"features": layers.Flatten()(pooled)})
    weights = trained_head(
        in_batches(features)(frames_of(photographs.train, frame))["features"], labels_of(photographs.train)
    )
    convolution = layers.Conv2D(len(photographs.classes), 1, name="Grocery/Conv2d_1x1")
    outputs = outputs | {GROCERY: layers.Flatten(name=GROCERY)(convolution(pooled))}
    convolution.set_weights([weights[0][np.newaxis, np.newaxis], weights[1]])
    model = tf_keras.Model(classifier.model.input, outputs, name=type(classifier).__name__.lower())
    frames, labels = frames_of(photographs.test, frame), labels_of(photographs.test)
    reference = in_batches(model)(frames)
    for name, kind in enumerate(photographs.classes):
        found = {n: Counter(v[labels == name].argmax(axis=1).tolist()).most_common(2) for n, v in reference.items()}
        print(f"float {kind}: {found} of {np.sum(labels == name)}", flush=True)

    def measure(found: Outputs) -> dict[str, Any]:
        figures: dict[str, Any] = {f"{n} top-1 agreement": agreement(reference[n], found[n]) for n in outputs}
        return figures | {f"{GROCERY} top-1": float(np.mean(found[GROCERY].argmax(axis=1) == labels))}

    return Net(model, frames_of(photographs.representative, frame), frames, measure)


def trained_head(features: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Kernel [F, C] and bias [C] of a linear classifier for features [N, F] with labels [N] from 0."""
    tf_keras.utils.set_random_seed(0)
    decay = tf_keras.regularizers.L2(DECAY)
    head = tf_keras.Sequential([layers.Dense(int(labels.max()) + 1, kernel_regularizer=decay)])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head.compile(tf_keras.optimizers.Adam(RATE), loss)
    head.fit(features, labels, batch_size=len(labels), epochs=EPOCHS, verbose=0)
    return head.get_weights()
