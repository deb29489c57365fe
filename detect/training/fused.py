"""Optimisers of tf_keras whose update of a variable is one operation of TensorFlow."""

from typing import Any

import tensorflow as tf
import tf_keras


class AdamW(tf_keras.optimizers.AdamW):  # type: ignore[misc]  # tf_keras has no types
    """AdamW as tf_keras computes it, with TensorFlow's operation `ResourceApplyAdam`.

    tf_keras makes about twenty operations for each variable. One operation is traced in half the time, and a step of
    120 variables takes two thirds of it. The formula and the variables are the same; the last digit may differ.
    """

    def _distributed_apply_gradients_fn(self, distribution: Any, grads_and_vars: Any, **kwargs: object) -> Any:
        step = tf.cast(self.iterations + 1, tf.float32)
        rate, decays = tf.cast(self.learning_rate, tf.float32), tf.constant([self.beta_1, self.beta_2])
        self._scalars = rate, tf.unstack(decays), tf.unstack(tf.pow(decays, step))  # the same for all variables
        try:
            return super()._distributed_apply_gradients_fn(distribution, grads_and_vars, **kwargs)
        finally:
            del self._scalars

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates a variable and its moments. A sparse gradient and AMSGrad take the operations of tf_keras."""
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices) or variable.dtype != tf.float32:
            super().update_step(gradient, variable)
            return
        number = self._index_dict[self._var_key(variable)]
        rate, (beta_1, beta_2), (power_1, power_2) = self._scalars
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].handle,
            v=self._velocities[number].handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


FUSED = {tf_keras.optimizers.AdamW: AdamW}
"""An optimiser that a configuration names -> the one that trains."""
