"""The metadata of a TFLite file, with which it can be used without its run."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from detect.errors import ConfigError, WeightsError
from detect.evaluation.thresholds import Shipped
from detect.geometry.box_coder import CODERS
from detect.geometry.frame import Mode
from detect.modeling.interface import Detector
from detect.modeling.losses import SCORES
from detect.modeling.nms import MOST, NonMaxSuppression
from detect.tflite import flatbuffer
from detect.weights import claims

ENTRY, ANCHORS = "detect.json", "detect.geometry.anchors"  # names in the file's metadata
FORMAT = 1
NMS = ("none", "tflite_op", "in_graph")
LEAST_IOU = 1e-6  # TFLite drops a box at an IoU of the limit, TensorFlow above it: 0 would leave one box
EARLIER: dict[str, Any] = {"boxes": "offsets", "category_ids": (), "class_agnostic": False, "threshold": None}
"""The values of fields that files of earlier versions lack."""


def _is_number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST


LEGAL: dict[str, Callable[[Any], bool]] = {
    "resize": lambda v: type(v) is str and v in get_args(Mode),
    "boxes": lambda v: type(v) is str and v in CODERS,
    "scores": lambda v: type(v) is str and v in SCORES,
    "nms": lambda v: v in NMS,
    "scales": lambda v: len(v) == 4 and all(_is_number(x, 1e-6, 1e6) for x in v),
    "iou": lambda v: _is_number(v, 0, 1),
    "score": lambda v: _is_number(v, 0, 1),
    "per_class": _is_count,
    "total": _is_count,
    "class_agnostic": lambda v: type(v) is bool,
}
"""Of each field that is not described by `detect.weights.claims`, whether a file's value is legal."""


@dataclass(frozen=True)
class Settings:
    """A single-stage detector's settings beyond its weights.

    classes: their names; category_ids: their numbers in the user's own files, 1..C if empty.
    size: (height, width) of the frame; resize: a mode of `detect.geometry.frame.Frame`.
    boxes: the kind of the codes, a name of `detect.geometry.box_coder.CODERS`; scales: those of that coder.
    scores: the rule from logits to scores, a name of `detect.modeling.losses.SCORES`.
    iou, score, per_class, total, class_agnostic: those of the suppression (`detect.modeling.nms`).
    threshold: the scores from which detections are shown; None if the run has none.
    nms: the outputs of the file: `none` gives codes and logits; `in_graph` and `tflite_op` give detections.
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
    boxes: str = "offsets"
    category_ids: tuple[int, ...] = ()
    class_agnostic: bool = False
    threshold: Shipped | None = None

    @classmethod
    def of(
        cls,
        detector: Detector,
        classes: Sequence[str],
        nms: str = "none",
        category_ids: Sequence[int] = (),
        threshold: Shipped | None = None,
    ) -> "Settings":
        """The settings of a trained detector. Raises ConfigError if TFLite has no operations for it."""
        decoding, suppression = detector.decoding(), detector.postprocess
        if suppression.method != "greedy":
            raise ConfigError(f"format=tflite: {type(suppression).__name__} can't be written into a file")
        return cls(
            classes=tuple(classes),
            size=detector.size,
            resize=detector.resize,
            scales=decoding.scales,
            scores=decoding.scores,
            iou=max(float(suppression.iou), LEAST_IOU),
            score=float(suppression.score),
            per_class=int(suppression.per_class),
            total=int(suppression.total),
            nms=nms,
            anchors=np.asarray(detector.anchors, np.float32),
            boxes=decoding.boxes,
            category_ids=tuple(category_ids),
            class_agnostic=bool(suppression.class_agnostic),
            threshold=threshold,
        )

    def with_nms(self, nms: str) -> "Settings":
        """The same settings with another `nms`."""
        return replace(self, nms=nms)

    def decode(self, codes: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """codes [B, A, 4], logits [B, A, C + 1] -> boxes [B, A, 4] in pixels of the frame, scores [B, A, C]."""
        return self.decode_boxes(codes), self.scored(logits)

    def decode_boxes(self, codes: tf.Tensor) -> tf.Tensor:
        """Codes [B, A, 4] to boxes [B, A, 4] in pixels of the frame."""
        return CODERS[self.boxes](self.scales).decode(codes, tf.constant(self.anchors)[tf.newaxis])

    def scored(self, logits: tf.Tensor) -> tf.Tensor:
        """Logits [B, A, C + 1] to scores [B, A, C]."""
        return SCORES[self.scores](logits)

    def detect(self, codes: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detections in pixels of the frame, as the detector's own `detect` returns them."""
        return self._in_one_graph(codes, logits)

    @cached_property
    def _in_one_graph(self) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
        """Operation by operation, small networks would take half their time again for the detections."""
        suppress = NonMaxSuppression(self.iou, self.score, self.per_class, self.total, self.class_agnostic)
        return tf.function(lambda codes, logits: suppress(*self.decode(codes, logits), self.size), autograph=False)

    def to_dict(self) -> dict[str, Any]:
        """The settings without the values of the anchors, for JSON."""
        plain = asdict(self) | {"program": "detect", "format": FORMAT}
        plain["anchors"] = {
            "metadata": ANCHORS,
            "shape": list(self.anchors.shape),
            "values": "float32, little endian: ymin, xmin, ymax, xmax in pixels of the frame",
        }
        plain["background"] = (
            "column 0 of the logits: of the background, or the centre-ness of a box (scores=centred); classes of "
            "detections count from 0"
        )
        return plain

    def entries(self) -> dict[str, bytes]:
        """The entries of the file's metadata."""
        text = json.dumps(self.to_dict()).encode()
        return {ENTRY: text, ANCHORS: self.anchors.astype("<f4").tobytes()}

    @classmethod
    def read(cls, model: schema.ModelT, name: str) -> "Settings":
        """The settings in a `schema.ModelT`. Raises WeightsError for a file that `detect export` did not write."""
        found = flatbuffer.metadata(model)
        if ENTRY not in found or ANCHORS not in found:
            raise WeightsError(
                f"{name}: a TFLite file of another program: its metadata has no {ENTRY}, which `detect export` writes"
            )
        try:
            said = json.loads(found[ENTRY])
            if said["format"] != FORMAT:
                raise WeightsError(f"{name}: its {ENTRY} is of format {said['format']}, this program reads {FORMAT}")
            said = EARLIER | said
            fields = {key: said[key] for key in cls.__dataclass_fields__ if key != "anchors"}
            claims.check_description(said, f"{name}: its {ENTRY}")
            fields["threshold"] = Shipped.read(said["threshold"], len(said["classes"]))
            fields |= {key: tuple(fields[key]) for key in ("classes", "category_ids", "size", "scales")}
            anchors = np.frombuffer(found[ANCHORS], "<f4").reshape(said["anchors"]["shape"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise WeightsError(f"{name}: its {ENTRY} can't be read: {type(error).__name__}: {error}") from error
        for key, holds in LEGAL.items():
            if not holds(fields[key]):
                raise WeightsError(f"{name}: its {ENTRY} has {key}={str(fields[key])[:60]}, which is not legal")
        if anchors.ndim != 2 or anchors.shape[1] != 4 or not np.isfinite(anchors).all():
            raise WeightsError(f"{name}: its anchors have the shape {list(anchors.shape)}; legal are [A, 4] numbers")
        return cls(**fields, anchors=anchors)
