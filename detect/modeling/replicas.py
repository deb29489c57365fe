"""What a replica must know about the others: sums, extremes, and the statistics of batch norm over the global batch.

With one replica, and outside of `tf.distribute.Strategy.run`, every function returns the values of its own part. The
functions are no part of a branch (`tf.cond`): all replicas must reach them.
"""

from typing import Any

import tensorflow as tf
import tf_keras

from detect.modeling.interface import Tensor


def count() -> int:
    """The number of replicas that compute the current step together."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def total(values: list[Tensor]) -> list[Tensor]:
    """The sums of tensors over all replicas. Gradients pass to every replica."""
    if count() == 1:
        return values
    sums: list[Tensor] = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
    return sums


def extremes(values: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of a tensor over all replicas."""
    found = tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
    if count() > 1:
        found = tf.distribute.get_replica_context().all_gather(found[tf.newaxis], axis=0)
    return tf.reduce_min(found[..., 0]), tf.reduce_max(found[..., 1])


def moments(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and the number of values of a channel of x [..., C] over all replicas.

    shift: [C], equal on all replicas, near the mean. The variance comes from the squares of x - shift: with a shift far
    from the mean it loses digits.
    """
    axes = list(range(len(x.shape) - 1))
    shift, number = tf.stop_gradient(shift), count()
    moved = x - shift
    first, second = total([tf.reduce_mean(moved, axes), tf.reduce_mean(tf.square(moved), axes)])
    mean = first / number
    values = tf.cast(tf.size(x) // x.shape[-1] * number, tf.float32)
    return mean + shift, tf.maximum(second / number - tf.square(mean), 0.0), values


def batch_norm(name: str, epsilon: float, scale: bool = True) -> tf_keras.layers.BatchNormalization:
    """A batch norm; within the scope of a strategy with several replicas, it is synchronised over them."""
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    kind = SynchronizedBatchNorm if several else tf_keras.layers.BatchNormalization
    return kind(name=name, epsilon=epsilon, scale=scale)


@tf_keras.utils.register_keras_serializable(package="detect")
class SynchronizedBatchNorm(tf_keras.layers.BatchNormalization):
    """Batch norm over the global batch. It keeps the unbiased variance of images, as tf_keras does on one device.

    `synchronized` False normalises the part of each replica by itself.
    """

    def __init__(self, synchronized: bool = True, **settings: Any):
        super().__init__(**{**settings, "synchronized": synchronized})

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor; that of tf_keras leaves out `synchronized`."""
        return {**super().get_config(), "synchronized": self.synchronized}

    @property
    def unbiased(self) -> bool:
        """Whether the moving variance is the unbiased one: of images, not of vectors."""
        return self.input_spec is not None and self.input_spec.ndim == 4

    def _calculate_mean_and_var(self, inputs, reduction_axes, keep_dims, mask=None):
        if not self.synchronized:
            mean, variance = tf.nn.moments(inputs, reduction_axes, keepdims=keep_dims)
            self._values = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            return mean, variance
        mean, variance, self._values = moments(inputs, self.moving_mean)
        return mean, variance

    def _assign_moving_average(self, variable, value, momentum, inputs_size):
        if variable is self.moving_variance and self.unbiased:
            value = value * self._values / tf.maximum(self._values - 1, 1.0)
        return super()._assign_moving_average(variable, value, momentum, inputs_size)
