"""The base of layers that compute on grids: in evaluation they do what the file does, in whole numbers."""

from abc import abstractmethod

import tensorflow as tf
import tf_keras

from detect.quantization.grids import around
from detect.quantization.phases import WHOLE, static


class Rounded(tf_keras.layers.Layer):
    """A layer of one or two tensors. Evaluation computes in steps of their grids and rounds once, as the file does.

    A subclass names this class first and then Keras' layer, which training, calibration and the converter see. A layer
    without a grid before and after it stays Keras' layer, and so does one of tensors of different ranks.
    """

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs, number: int = 0, training=None):
        """inputs: float32 tensors of any shape. number: of this call among the layer's calls."""
        plain, tensors = super().call(inputs), tf.nest.flatten(inputs)
        grids, after = around(self, number)
        one_rank = len({len(x.shape) for x in tensors}) == 1
        if static(training, self) or after is None or after.run not in WHOLE or None in grids or not one_rank:
            return plain
        steps, target = [grid.step() for grid in grids if grid is not None], after.step()

        def rounded():
            whole = [tf.round(x / step) for x, step in zip(tensors, steps, strict=True)]
            return tf.where(self.fits(steps, target), self.compute(whole, steps, target) * target, plain)

        return after.rounded(rounded, lambda: plain)

    def fits(self, steps: list[tf.Tensor], target: tf.Tensor) -> tf.Tensor:
        """Whether the file computes so with these steps of the inputs and of the output. If not, it is more exact."""
        return tf.constant(True)

    @abstractmethod
    def compute(self, whole: list[tf.Tensor], steps: list[tf.Tensor], target: tf.Tensor) -> tf.Tensor:
        """The output in steps of `target`, for whole numbers of `steps`."""


def power_of_two(x):
    """The largest power of two that is not above x, for a positive float64 x: exact, and the same in every graph."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int64), 0x7FF << 52), tf.float64)
