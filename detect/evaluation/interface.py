"""What training and reporting ask of an evaluation, and what an evaluation asks of a network."""

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import tensorflow as tf

Found = TypeVar("Found", covariant=True)
Value = TypeVar("Value")


class Detect(Protocol):
    """The inference of a detector or a classifier, as one function of a batch.

    image: [B, H, W, 3] of the network's input frame, levels 0..255; uint8, float32 where the frame's mode is `zoo`.
    Returns of a detector `boxes` float32 [B, N, 4] yxyx in pixels of the frame, `scores` float32 [B, N], `classes`
    int32 [B, N] from 1 and `count` int32 [B], the rows that are real (`detect.modeling.nms`); of a classifier
    `probabilities` float32 [B, C].
    """

    def __call__(self, image: "tf.Tensor", /) -> "dict[str, tf.Tensor]": ...


class Workers(Protocol):
    """The processes that score a split together, each a part of it."""

    @property
    def shard(self) -> tuple[int, int]:
        """(i, n): this process is number i of n."""

    def gather(self, value: Value, /) -> list[Value]:
        """The values that all processes give, in their order. All of them call it."""

    def inference(self, detect: Detect, /) -> Detect:
        """`detect` as a graph function on the devices of this process. A function that is one already is returned as it
        is, so that evaluators which get the same one share its graphs."""


class Evaluator(Protocol[Found]):
    """Scores a network on one split of a data set, with its weights as they are at the call."""

    def __call__(self) -> Found:
        """Runs the network over every image of the split, once, and returns what was found."""
