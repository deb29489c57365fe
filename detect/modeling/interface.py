"""What the parts of a detector ask of each other, and what all other packages may ask of a network.

Tensors and networks are TensorFlow's and tf_keras', which have no types: `Tensor` and `Network` say which is meant.
Shapes are [batch, ...], boxes [ymin, xmin, ymax, xmax] in pixels of the network's frame. A counts the anchors of all
maps, C the classes without background.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from detect.errors import ConfigError

Tensor = Any  # of TensorFlow or of a Keras graph
Network = Any  # a tf_keras.Model, flat and functional
Maps = dict[str, Tensor]  # feature maps [B, h, w, D] by the name of the layer, in order
Figures = dict[str, Tensor]  # float32 scalars by name


@dataclass(frozen=True)
class Part:
    """A feature map or a head of a detector.

    name: of the map's layer, or of the head. source: what it is made from, in a few words.
    layers: names of the layers first needed for it; every layer of the model belongs to one part.
    shape: (height, width, channels) of what comes out. anchors: of a cell; None where there are none.
    times: how often it runs for one image (a second stage: for each proposal).
    training_times: the same in training; None: `times`.
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
    """How `codes` [B, A, 4] and `logits` [B, A, C + 1] become boxes and scores, in words that a file keeps.

    boxes: a name of `detect.geometry.box_coder.CODERS`; scales: that coder's argument.
    scores: a name of `detect.modeling.losses.SCORES`.
    """

    boxes: str
    scales: tuple[float, ...]
    scores: str


@runtime_checkable
class Backbone(Protocol):
    """Builds a network's base onto an image; holds no variables itself.

    slim_scope, logits: names of the network and of its last convolution in TF-slim's checkpoints.
    ssd_maps, ssd_extras: end points that go into predictors directly, and channels of the extra maps after them.
    fpn_maps: three end points of stride 8, 16 and 32.
    rpn_map: the end point of stride 16 that proposals are made on. roi_crop: side of its crops, and max-pooling after.
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
        """Our layers by the names that they have in tf_keras.applications."""
        ...


class Neck(Protocol):
    """From a backbone's end points to the feature maps of a detector."""

    def __call__(self, end_points: Maps, backbone: Backbone) -> Maps:
        """end_points: the backbone's tensors. Returns the maps, largest first.

        Raises ConfigError for a backbone whose end points do not suit.
        """
        ...

    def source(self, name: str) -> str:
        """What the map `name`, which is no end point, is made from, in a few words."""
        ...


class Head(Protocol):
    """The predictor of a detector of one stage."""

    @property
    def source(self) -> str:
        """What the predictions are made with, in a few words."""
        ...

    def __call__(
        self, maps: Sequence[Tensor], per_cell: Sequence[int], num_classes: int, prior: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """maps: [B, H, W, D] each; per_cell: anchors of a cell of each; prior: see `ClassificationLoss`.

        Returns codes float32 [B, A, 4] and logits float32 [B, A, C + 1]; column 0 belongs to no class.
        """
        ...


class BoxHead(Protocol):
    """The second stage up to its features."""

    def roi_crop(self, backbone: Backbone) -> tuple[int, int, int]:
        """Side of the crops in cells, max-pooling and samples of a bin that suit this head."""
        ...

    def __call__(self, crops: Tensor, backbone: Backbone) -> Tensor:
        """crops: float32 [N, side, side, C]. Returns features [N, D]."""
        ...


class RegionHead(Protocol):
    """The predictor of proposals."""

    def __call__(self, features: Tensor, anchors: int) -> tuple[Tensor, Tensor]:
        """features: [B, h, w, C]; anchors: of a cell. Returns logits [B, A, 2], background first, codes [B, A, 4]."""
        ...


class AnchorGenerator(Protocol):
    """Where boxes are coded from."""

    def per_cell(self, maps: int) -> list[int]:
        """The number of anchors of a cell, for each of `maps` feature maps."""
        ...

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """map_shapes: (rows, columns), largest first; size: (height, width) of the frame. Returns float32 [A, 4]."""
        ...

    def fitted(
        self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> "tuple[dict[str, Any], AnchorGenerator] | None":
        """Arguments of the constructor (beside the present ones) that suit boxes [n, 4] better, and what they make;
        None where there is nothing to fit."""
        ...


class ClassificationLoss(Protocol):
    """A loss of every anchor's class, and how logits become scores.

    prior: probability of an object that the predictor's class biases start from; None starts from 0.
    scoring: what `scores` does, a name of `detect.modeling.losses.SCORES`; no other can be written into a TFLite file.
    """

    @property
    def prior(self) -> float | None: ...

    @property
    def scoring(self) -> str: ...

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Scores of the C classes, without background: float32 [B, A, C] in 0..1."""
        ...


class LocalizationLoss(Protocol):
    """A loss of every anchor's box."""

    def __call__(self, codes: Tensor, targets: Tensor) -> Tensor:
        """codes, targets: float32 [B, A, 4]. Returns float32 [B, A]."""
        ...


class Suppression(Protocol):
    """From decoded boxes to detections.

    method: `greedy`, class by class by the four numbers below, is what TFLite files can do, too.
    iou: a box that overlaps a better one of its class by more is dropped. score: boxes below are dropped first.
    per_class, total: the most boxes kept of a class, and in all.
    """

    method: str
    iou: float
    score: float
    per_class: int
    total: int

    def __call__(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """boxes: float32 [B, A, 4] or [B, A, C, 4]; scores: float32 [B, A, C]; size: of the frame in pixels.

        Returns boxes [B, total, 4], scores [B, total], classes int32 [B, total] from 1, count int32 [B].
        """
        ...


class Architecture(Protocol):
    """What is trained: a network and its loss. Stages, trainer and schedule know nothing more of it.

    detects: whether it finds boxes, and so is a `Detector`, or names whole pictures.
    model: flat and functional; its first input is float32 [B, H, W, 3] in 0..255.
    backbone_layers: names of the layers that the backbone made. size: (height, width) of the frame in pixels.
    """

    detects: ClassVar[bool]
    model: Network
    backbone_layers: set[str]
    size: tuple[int, int]
    num_classes: int

    @property
    def input_sources(self) -> dict[str, str]:
        """Inputs of `model` beside the image -> the layer whose output each is cut out of."""
        return {}

    @abstractmethod
    def losses(self, batch: dict[str, Tensor], training: bool = True) -> tuple[Figures, Figures]:
        """batch: as the input pipeline makes it. Returns the weighted parts of the loss, and scalars to watch."""

    @abstractmethod
    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns what was found, by name."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """The parts of `model`, in order; every layer is in one of them."""


class Classifier(Architecture, Protocol):
    """`detect` gives `probabilities`, float32 [B, num_classes]; a batch has `image` and `label` int32 [B]."""

    detects: ClassVar[bool] = False


class Detector(Architecture, Protocol):
    """`detect` gives what `postprocess` returns, in pixels of the frame; a batch has `image`, `boxes` [B, N, 4],
    `classes` [B, N] (-1 pads) and `seed` [B].

    resize: how an image becomes the frame, a mode of `detect.geometry.frame.Frame`.
    maps: the feature maps that anchors lie on. anchors: float32 [A, 4]. anchor_generator: what made them.
    """

    detects: ClassVar[bool] = True
    resize: str
    maps: Maps
    anchors: np.ndarray
    anchor_generator: AnchorGenerator
    postprocess: Suppression

    def adopt(self, model: Network) -> None:
        """Computes with another network of the same inputs and outputs from now on: the fake-quantised twin."""
        self.model = model

    def network_inputs(self, image: Tensor) -> Any:
        """What `model` takes for images [B, H, W, 3]: these alone, or a list that begins with them."""
        return image

    def decoding(self) -> Decoding:
        """How `codes` and `logits` of `model` become boxes and scores.

        Raises ConfigError, saying why, where no such description suffices; TFLite files can't be made then.
        """
        raise ConfigError(f"format=tflite: {type(self).__name__} does not say how its outputs become boxes")

    def unmatched(self, boxes: np.ndarray) -> tuple[np.ndarray, str] | None:
        """Which boxes [n, 4] training would leave out, bool [n], and the rule, to be read after "7 of 9 boxes"; None:
        their best IoU with `anchors` says it."""
        return None
