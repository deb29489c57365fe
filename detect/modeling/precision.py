"""The precision in which a network computes: float32, or 16 bits for the backbone and the layers after it.

Variables are float32 in any case. Heads, box codes, losses and suppression compute in float32, too.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal

import tf_keras

Precision = Literal["float32", "bfloat16", "float16"]


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Layers that are made in this context compute in this precision."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def needs_loss_scale(model: tf_keras.Model) -> bool:
    """Whether gradients of a network may be too small for its numbers: those of float16."""
    return any(layer.compute_dtype == "float16" for layer in model.layers)
