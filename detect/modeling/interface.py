"""The contracts between the parts of a detector, and between a network and all other packages.

Tensors and networks belong to TensorFlow and tf_keras, which have no types: the names `Tensor` and `Network` tell them
apart. Shapes are [batch, ...]. Boxes are [ymin, xmin, ymax, xmax] in pixels of the network's frame. A is the number of
anchors of all maps, C the number of classes without background.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from detect.errors import ConfigError

Tensor = Any  # a tensor of TensorFlow or of a Keras graph
Network = Any  # a tf_keras.Model, flat and functional
Maps = dict[str, Tensor]  # feature maps [B, h, w, D] by the name of the layer, in order
Figures = dict[str, Tensor]  # float32 scalars by name


class Losses(NamedTuple):
    """The loss of a batch, or of one replica's part of it.

    parts: the weighted parts, each a sum divided by max(count, 1). scalars: figures to log, means over images.
    count: float32 scalar, the number of boxes, anchors or images that the sums are divided by. Parts of several batches
    are added up by their counts: then they are those of all images together.
    """

    parts: Figures
    scalars: Figures
    count: Tensor


@dataclass(frozen=True)
class Part:
    """A feature map or a head of a detector.

    name: the name of the map's layer, or of the head. source: what it is made from, in a few words.
    layers: names of the layers that no earlier part needs; every layer of the model belongs to one part.
    shape: (height, width, channels) of its output. anchors: the anchors of a cell; None if it has none.
    times: how often it runs for one image (a second stage runs for each proposal).
    training_times: how often it runs in training; None is `times`.
    """

    name: str
    source: str
    layers: frozenset[str]
    shape: tuple[int, ...]
    anchors: int | None = None
    times: int = 1
    training_times: int | None = None

    def runs(self, training: bool = False) -> int:
        """How often it runs for one image."""
        return self.training_times if training and self.training_times is not None else self.times


@dataclass(frozen=True)
class Decoding:
    """How `codes` [B, A, 4] and `logits` [B, A, C + 1] become boxes and scores, by names that a file stores.

    boxes: a name of `detect.geometry.box_coder.CODERS`; scales: that coder's argument.
    scores: a name of `detect.modeling.losses.SCORES`.
    """

    boxes: str
    scales: tuple[float, ...]
    scores: str


@runtime_checkable
class Backbone(Protocol):
    """Builds the base of a network on an image tensor; it holds no variables itself.

    slim_scope, logits: the names of the network and of its last convolution in TF-slim's checkpoints.
    ssd_maps, ssd_extras: the end points that predictors use directly, and the channels of the extra maps after them.
    fpn_maps: three end points of stride 8, 16 and 32.
    rpn_map: the end point of stride 16 that proposals are made on. roi_crop: the side of its crops, and their pooling.
    """

    @property
    def slim_scope(self) -> str: ...

    @property
    def logits(self) -> str: ...

    @property
    def ssd_maps(self) -> Sequence[str]: ...

    @property
    def ssd_extras(self) -> Sequence[int]: ...

    @property
    def fpn_maps(self) -> Sequence[str]: ...

    @property
    def rpn_map(self) -> str: ...

    @property
    def roi_crop(self) -> tuple[int, int]: ...

    def __call__(self, image: Tensor) -> Maps:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        ...

    def box_head(self, crops: Tensor) -> Tensor:
        """The layers after `rpn_map` on crops [N, h, w, C] of it. Returns [N, h', w', C']."""
        ...

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications: our name}."""
        ...


class Neck(Protocol):
    """From a backbone's end points to the feature maps of a detector."""

    def __call__(self, end_points: Maps, backbone: Backbone) -> Maps:
        """end_points: the backbone's tensors. Returns the maps, largest first.

        Raises ConfigError for a backbone whose end points do not fit.
        """
        ...

    def source(self, name: str) -> str:
        """The source of a map `name` that is not an end point, in a few words."""
        ...


class Head(Protocol):
    """The predictor of a one-stage detector."""

    @property
    def source(self) -> str:
        """The layers that make the predictions, in a few words."""
        ...

    def __call__(
        self, maps: Sequence[Tensor], per_cell: Sequence[int], num_classes: int, prior: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """maps: [B, H, W, D] each; per_cell: the anchors of a cell of each map; prior: see `ClassificationLoss`.

        Returns codes float32 [B, A, 4] and logits float32 [B, A, C + 1]; column 0 belongs to no class.
        """
        ...


class BoxHead(Protocol):
    """The layers of the second stage before its predictors."""

    def roi_crop(self, backbone: Backbone) -> tuple[int, int, int]:
        """The side of the crops in cells, the max-pooling and the samples of a bin that fit this head."""
        ...

    def __call__(self, crops: Tensor, backbone: Backbone) -> Tensor:
        """crops: float32 [N, side, side, C]. Returns features [N, D]."""
        ...


class RegionHead(Protocol):
    """The predictor of proposals."""

    def __call__(self, features: Tensor, anchors: int) -> tuple[Tensor, Tensor]:
        """features: [B, h, w, C]; anchors: those of a cell. Returns logits [B, A, 2], background first, and codes
        [B, A, 4]."""
        ...


class AnchorGenerator(Protocol):
    """Makes the anchors that boxes are coded against."""

    def per_cell(self, maps: int) -> list[int]:
        """The number of anchors of a cell, for each of `maps` feature maps."""
        ...

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """map_shapes: (rows, columns), largest first; size: (height, width) of the frame. Returns float32 [A, 4]."""
        ...

    def fitted(
        self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> "tuple[dict[str, Any], AnchorGenerator] | None":
        """Changed arguments of the constructor that fit boxes [n, 4] better, and the generator that they make; None if
        there is nothing to fit."""
        ...


class ClassificationLoss(Protocol):
    """A loss for the class of every anchor, and the rule that turns logits into scores.

    prior: the initial probability of an object, which sets the predictor's class biases; with None they are 0.
    scoring: the rule of `scores`, a name of `detect.modeling.losses.SCORES`. A TFLite file can hold no other rule.
    background: what column 0 of the logits learns: `one`, to find the background; `zero`, that it is 0; `ignored`,
        nothing.
    """

    @property
    def prior(self) -> float | None: ...

    @property
    def scoring(self) -> str: ...

    @property
    def background(self) -> str: ...

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Scores of the C classes, without background: float32 [B, A, C] in 0..1."""
        ...


class LocalizationLoss(Protocol):
    """A loss for the box of every anchor.

    takes: `codes`, as SSD and Faster R-CNN give them, or `boxes`, [ymin, xmin, ymax, xmax] in pixels, as FCOS does.
    """

    @property
    def takes(self) -> str: ...

    def __call__(self, codes: Tensor, targets: Tensor) -> Tensor:
        """codes, targets: float32 [B, A, 4]. Returns float32 [B, A]."""
        ...


class Suppression(Protocol):
    """From decoded boxes to detections.

    method: `greedy` suppresses each class with the four numbers below; TFLite files support no other method.
    iou: a box whose IoU with a better one of its class is higher is dropped. score: boxes below it are dropped first.
    per_class, total: the most boxes kept of each class, and in all. class_agnostic: all classes are one; then
    `per_class` does not count.
    """

    method: str
    iou: float
    score: float
    per_class: int
    total: int
    class_agnostic: bool

    def __call__(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """boxes: float32 [B, A, 4] or [B, A, C, 4]; scores: float32 [B, A, C]; size: that of the frame in pixels.

        Returns boxes [B, total, 4], scores [B, total], classes int32 [B, total] from 1, count int32 [B].
        """
        ...


class Architecture(Protocol):
    """A network and its loss. Stages, trainer and schedule use nothing else of it.

    detects: True for a `Detector`, which finds boxes; False for a classifier of whole images.
    model: flat and functional; its first input is float32 [B, H, W, 3] in 0..255.
    backbone_layers: the names of the backbone's layers. size: (height, width) of the frame in pixels.
    """

    detects: ClassVar[bool]
    model: Network
    backbone_layers: set[str]
    size: tuple[int, int]
    num_classes: int

    @property
    def input_sources(self) -> dict[str, str]:
        """Each input of `model` besides the image -> the layer whose output it is cut out of."""
        return {}

    @abstractmethod
    def losses(self, batch: dict[str, Tensor], training: bool = True) -> Losses:
        """batch: from the input pipeline. Returns the weighted parts of the loss, scalars to log, and the count."""

    @abstractmethod
    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns the results by name."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """The parts of the float `model`, in order; every layer is in exactly one part."""


class Classifier(Architecture, Protocol):
    """`detect` returns `probabilities`, float32 [B, num_classes]; a batch has `image` and `label` int32 [B]."""

    detects: ClassVar[bool] = False


class Detector(Architecture, Protocol):
    """`detect` returns the result of `postprocess`, in pixels of the frame. A batch has `image`, `boxes` [B, N, 4],
    `classes` [B, N] (-1 pads) and `seed` [B].

    resize: how an image becomes the frame, a mode of `detect.geometry.frame.Frame`.
    maps: the feature maps that anchors lie on. anchors: float32 [A, 4]. anchor_generator: the object that made them.
    """

    detects: ClassVar[bool] = True
    resize: str
    maps: Maps
    anchors: np.ndarray
    anchor_generator: AnchorGenerator
    postprocess: Suppression

    def adopt(self, model: Network) -> None:
        """Replaces the network by one with the same inputs and outputs, for example its fake-quantised twin."""
        self.model = model

    def network_inputs(self, image: Tensor) -> Any:
        """The inputs of `model` for images [B, H, W, 3]: only these, or a list that begins with them."""
        return image

    def decoding(self) -> Decoding:
        """How `codes` and `logits` of `model` become boxes and scores.

        Raises ConfigError, with the reason, if a `Decoding` can't describe it; then TFLite files can't be made.
        """
        raise ConfigError(f"format=tflite: {type(self).__name__} does not say how its outputs become boxes")

    def unmatched(self, boxes: np.ndarray) -> tuple[np.ndarray, str] | None:
        """bool [n]: which of the boxes [n, 4] training leaves out; and the rule, as text after "7 of 9 boxes". None if
        the best IoU of a box with `anchors` decides it."""
        return None
