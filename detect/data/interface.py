"""What training asks of a stream of batches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from detect.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Batch = dict[str, np.ndarray]
"""Arrays by name, each with one row for each image of the batch."""


class Stream(Protocol):
    """Batches whose content depends on the step alone: a run that is resumed sees those that it would have seen.

    batch_size: rows of every batch. spec: of each array the shape of one row, the type, and the value that pads.
    failure: the error that ended an iteration, which tf.data does not hand on as it is; None before.

    Every batch has `image` [B, H, W, 3] and `index` int32 [B], each row's place among the examples and -1 in a row of
    padding. Beside them a detector takes `boxes` float32 [B, M, 4] yxyx in pixels of the frame and `classes` int32
    [B, M] from 1, both -1 in padding, and `seed` int32 [B]; a classifier takes `label` int32 [B] from 0.
    """

    batch_size: int
    spec: "dict[str, tuple[tuple[int, ...], DTypeLike, int]]"
    failure: UserError | None

    def batch(self, step: int) -> Batch:
        """The batch of one training step, counted from 0."""

    def iterate(self, start_step: int = 0, steps: int | None = None) -> Iterator[Batch]:
        """The batches of `steps` steps from `start_step` on, without end for None; closing it frees what it holds."""

    def evaluate_batches(self) -> Iterator[Batch]:
        """Every example once, in order; the last batch is filled with rows of padding."""
