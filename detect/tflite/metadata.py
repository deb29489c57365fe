"""What a TFLite file says of itself, so that it can be used without the run that it comes from."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from detect.errors import ConfigError, WeightsError
from detect.geometry.box_coder import BoxCoder
from detect.modeling.nms import NonMaxSuppression
from detect.tflite import flatbuffer

ENTRY, ANCHORS = "detect.json", "detect.geometry.anchors"  # names in the file's metadata
FORMAT = 1
NMS = ("none", "tflite_op", "in_graph")


@dataclass(frozen=True)
class Settings:
    """A single-stage detector's settings beyond its weights.

    classes: their names; size: (height, width) of the frame; resize: a mode of `detect.geometry.frame.Frame`.
    scales: of the box coder. scores: what turns a row of logits, background first, into scores: `sigmoid`, `softmax`.
    iou, score, per_class, total: of the suppression (`detect.modeling.nms`).
    nms: what the file ends with: `none` codes and logits; `in_graph`, `tflite_op` detections.
    anchors: float32 [A, 4] in pixels of the frame, in the order of the codes.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    resize: str
    scales: tuple[float, ...]
    scores: str
    iou: float
    score: float
    per_class: int
    total: int
    nms: str
    anchors: np.ndarray

    @classmethod
    def of(cls, architecture: Any, classes: Sequence[str], nms: str = "none") -> "Settings":
        """Those of a trained detector. Raises ConfigError where TFLite has no operations for it."""
        outputs = architecture.model.output
        if not isinstance(outputs, dict) or set(outputs) != {"codes", "logits"}:
            raise ConfigError(
                f"format=tflite: {type(architecture).__name__} crops its feature map between two stages, for which "
                "TFLite has no operation of its own (crop_and_resize); give format=saved_model"
            )
        if not isinstance(architecture.postprocess, NonMaxSuppression):
            raise ConfigError(f"format=tflite: {type(architecture.postprocess).__name__} can't be written into a file")
        suppression = architecture.postprocess
        return cls(
            classes=tuple(classes),
            size=architecture.size,
            resize=architecture.resize,
            scales=tuple(float(s) for s in architecture.target_assigner.box_coder.scales),
            scores=score_function(architecture.classification_loss),
            iou=float(suppression.iou),
            score=float(suppression.score),
            per_class=int(suppression.per_class),
            total=int(suppression.total),
            nms=nms,
            anchors=np.asarray(architecture.anchors, np.float32),
        )

    def with_nms(self, nms: str) -> "Settings":
        """The same with another end."""
        return replace(self, nms=nms)

    def decode(self, codes: Any, logits: Any) -> tuple[Any, Any]:
        """codes [B, A, 4], logits [B, A, C + 1] -> boxes [B, A, 4] in pixels of the frame, scores [B, A, C]."""
        boxes = BoxCoder(self.scales).decode(codes, tf.constant(self.anchors)[tf.newaxis])
        return boxes, self.convert(logits)[..., 1:]

    def convert(self, logits: Any) -> Any:
        """Logits to scores, background included."""
        return tf.sigmoid(logits) if self.scores == "sigmoid" else tf.nn.softmax(logits)

    def detect(self, codes: Any, logits: Any) -> dict[str, Any]:
        """Detections in pixels of the frame, as the detector's own `detect` returns them."""
        suppress = NonMaxSuppression(self.iou, self.score, self.per_class, self.total)
        return suppress(*self.decode(codes, logits), self.size)

    def to_dict(self) -> dict[str, Any]:
        """All but the anchors' numbers, for JSON."""
        plain = asdict(self) | {"program": "detect", "format": FORMAT}
        plain["anchors"] = {
            "metadata": ANCHORS,
            "shape": list(self.anchors.shape),
            "values": "float32, little endian: ymin, xmin, ymax, xmax in pixels of the frame",
        }
        plain["background"] = "logits have it in column 0; classes of detections count from 0"
        return plain

    def entries(self) -> dict[str, bytes]:
        """What goes into the file's metadata."""
        text = json.dumps(self.to_dict()).encode()
        return {ENTRY: text, ANCHORS: self.anchors.astype("<f4").tobytes()}

    @classmethod
    def read(cls, model: Any, name: str) -> "Settings":
        """Those of a `schema.ModelT`. Raises WeightsError for a file that `detect export` did not write."""
        found = flatbuffer.metadata(model)
        if ENTRY not in found or ANCHORS not in found:
            raise WeightsError(
                f"{name}: a TFLite file of another program: its metadata has no {ENTRY}, which `detect export` writes"
            )
        try:
            said = json.loads(found[ENTRY])
            if said["format"] != FORMAT:
                raise WeightsError(f"{name}: its {ENTRY} is of format {said['format']}, this program reads {FORMAT}")
            fields = {key: said[key] for key in cls.__dataclass_fields__ if key != "anchors"}
            fields |= {key: tuple(fields[key]) for key in ("classes", "size", "scales")}
            anchors = np.frombuffer(found[ANCHORS], "<f4").reshape(said["anchors"]["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{name}: its {ENTRY} can't be read: {type(error).__name__}: {error}") from error
        return cls(**fields, anchors=anchors)


def score_function(loss: Any) -> str:
    """`sigmoid` or `softmax`: what `loss.scores` does, found by trying. Raises ConfigError where it is neither."""
    logits = tf.constant(np.random.default_rng(0).normal(0, 3, (1, 16, 4)), tf.float32)
    found = loss.scores(logits).numpy()
    for name, function in (("sigmoid", tf.sigmoid), ("softmax", tf.nn.softmax)):
        if np.allclose(found, function(logits)[..., 1:], atol=1e-6):
            return name
    raise ConfigError(f"format=tflite: the scores of {type(loss).__name__} are neither a sigmoid nor a softmax")
