"""Rounding of activations. Training or calibration collects the ranges."""

from typing import Any, Literal

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.modeling import replicas
from detect.quantization.phases import COLLECT, SHIP, WHOLE, Stepped, can_read, static
from detect.quantization.rounding import TIE, TIE_OF_MEANS, admissible, range_step, round_values

Ties = Literal["up", "away"]


@tf_keras.utils.register_keras_serializable(package="detect")
class FakeQuant(Stepped):
    """Rounds a tensor to the grid of TFLite's integers. Training collects the range of the grid.

    spec: the specification. members: number of tensors that share the range (inputs of a concatenation). The layer is
    called on each with its own `member`, and the range contains all of them. fixed: (low, high) if the operation
    before prescribes the range. pixels: the tensor is the scaled image. In a range of about [-1, 1], all 256 levels are
    halfway between two steps, so that the noise of float32 would decide. Evaluation rounds them up (`rounding.TIE`).

    Variables: `range_min` and `range_max`, the range; `range_seen` [members], batches seen; `range_average`
    [members, 2], moving averages of minima and maxima, without correction of the bias towards 0.
    """

    def __init__(
        self,
        spec,
        members: int = 1,
        fixed: tuple[float, float] | None = None,
        pixels: bool = False,
        **kwargs: object,
    ):
        super().__init__(spec, **kwargs)
        self.members, self.fixed, self.pixels = members, fixed, pixels

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "members": self.members, "fixed": self.fixed, "pixels": self.pixels}

    def build(self, input_shape) -> None:
        """Adds the variables of the range."""
        if self.fixed is None:
            learned = self.spec.ranges == "learned"
            self.range_min = self.add_weight(name="range_min", initializer="zeros", **_state(learned))
            self.range_max = self.add_weight(name="range_max", initializer="zeros", **_state(learned))
            self.range_seen = self.add_weight(name="range_seen", shape=[self.members], initializer="zeros", **_state())
            if self.spec.ranges == "moving_average":
                shape = [self.members, 2]
                self.range_average = self.add_weight(name="range_average", shape=shape, initializer="zeros", **_state())
        freezes = self.spec.freeze_ranges if self.fixed is None else None
        self.add_step(self.spec.delay, freezes)
        super().build(input_shape)

    @tf.autograph.experimental.do_not_convert
    def call(
        self,
        x,
        member: int | None = 0,
        only_ships: bool = False,
        from_other_grid: int = 0,
        reshaped: bool = False,
        ties: Ties | None = None,
        training=None,
    ):
        """member: number of x among the tensors that share the range; None: x is rounded, but not collected.

        only_ships: x is on the grid already. The layer then only adds the operation that tells the converter the range.
        from_other_grid: the number, from 1, of this change of a grid among all of the network; 0: x is on no other
            grid. The converter would lose the change, so the network for export has a multiplication by 1 there.
        reshaped: x and the other operand come from a reshape. The converter would move it behind the operation, where
            the range is another one. So the network for export has a minimum in between, which changes nothing.
        ties: how TFLite rounds values halfway between two integers here: up, or away from integer 0. Evaluation does
            the same. None: to even, as TensorFlow does.
        """
        if only_ships and self.run != SHIP:
            return tf.identity(x)
        if reshaped:
            x = tf.minimum(x, self._range(x, None, False)[1])
        if from_other_grid and self.run == SHIP and member is not None:
            # Steps that are 1. The converter would merge multiplications by the same constant, of one tensor in two
            # concatenations and of two tensors in one.
            count = 128 - from_other_grid % 128
            x *= tf.quantization.fake_quant_with_min_max_vars(1.0, 0.0, 255 / count)
        if self.run == COLLECT and self.fixed is None and member is not None:
            self._collect(x, member)
        training = static(training, self)
        low, high = self._range(x, member, training)
        bits = self.spec.activation_bits
        step = range_step(low, high, bits)
        shifted = x
        if self.pixels and not training:
            shifted = x + TIE * step
        elif ties is not None and not training and self.run in WHOLE:
            rounds_down = ties == "away" and x - low < 2 ** (bits - 1) * step  # integers below 0
            shifted = x + tf.where(rounds_down, -TIE_OF_MEANS, TIE_OF_MEANS) * step
        return self.rounded(lambda: round_values(shifted, low, high, bits), lambda: tf.identity(x))

    def step(self):
        """The step of the grid, from the stored range."""
        stored = self._learned() if self.spec.ranges == "learned" else self._stored
        low, high = self.fixed or stored()
        return range_step(low, high, self.spec.activation_bits)

    def check(self) -> None:
        """Raises ConfigError if the range saw no data or is not finite."""
        if self.fixed is not None:
            return
        with tf.init_scope():  # leaves the graph that is being traced, in which variables have no values
            low, high, seen = (v.numpy() for v in (self.range_min, self.range_max, self.range_seen))
        if not (abs(low) + abs(high) < float("inf")):
            raise ConfigError(
                f"{self.name}: the range is [{low}, {high}], which is not finite: training diverged, or an input was "
                "not finite. Go back to an earlier checkpoint, and lower the learning rate"
            )
        if not seen.all():
            raise ConfigError(
                f"{self.name}: the range has seen no data: train the model, calibrate it "
                "(detect.quantization.calibrate.calibrate) or load the weights of a trained model"
            )

    def _range(self, x, member: int | None, training: bool):
        if self.fixed is not None:
            return self.fixed
        stored = self._learned() if self.spec.ranges == "learned" else self._stored
        if self.run == COLLECT:
            return stored()
        if training and self.trainable and member is not None:
            if self.spec.ranges == "moving_average":
                limit = self.spec.freeze_ranges
                if limit == 0:
                    return stored()
                return self._average(x, member, True if limit is None else self.range_step < limit)
            if self.spec.ranges == "learned":
                found = replicas.extremes(tf.stop_gradient(x))
                tf.cond(self.range_seen[member] == 0, lambda: self._widen(found, member), self._stored)
                return stored()
        if (self.spec.ranges == "calibrated" or not training) and can_read():
            self.check()
        return stored()

    def _stored(self):
        return tf.convert_to_tensor(self.range_min), tf.convert_to_tensor(self.range_max)

    def _learned(self):
        return lambda: admissible(self.range_min, self.range_max, self.spec.activation_bits, self.spec.symmetric)

    def _collect(self, x, member: int) -> None:
        if self.spec.ranges == "moving_average":
            self._average(x, member)
        else:
            self._widen(replicas.extremes(tf.stop_gradient(x)), member)

    def _average(self, x, member: int, moves: tf.Tensor | bool = True):
        """Adds x to the moving average, stores it, and returns the range over all members.

        moves: whether the average changes; if not, the stored range is returned. It is computed in both cases: this
        costs less than two branches, and traces much faster.
        """
        x = tf.stop_gradient(x)
        mine = tf.one_hot(member, self.members)
        seen = self.range_seen + mine
        low, high = replicas.extremes(x)
        extremes = tf.stack([tf.minimum(low, 0.0), tf.maximum(high, 0.0)])
        decay = self.spec.decay
        average = self.range_average + (1 - decay) * mine[:, tf.newaxis] * (extremes - self.range_average)
        # 1 - decay ** seen corrects the bias. A member without data counts as 0, which every range contains.
        unbiased = average / tf.maximum(1 - tf.pow(decay, seen), 1 - decay)[:, tf.newaxis]
        low, high = tf.reduce_min(unbiased[:, 0]), tf.reduce_max(unbiased[:, 1])
        return self._keep(low, high, seen, average, moves)

    def _widen(self, extremes, member: int):
        """Widens the range until it contains (lowest, highest), stores it, and returns it."""
        low, high = tf.minimum(self.range_min, extremes[0]), tf.maximum(self.range_max, extremes[1])
        return self._keep(low, high, self.range_seen + tf.one_hot(member, self.members))

    def _keep(self, low, high, seen, average=None, moves: tf.Tensor | bool = True):
        low, high = admissible(low, high, self.spec.activation_bits, self.spec.symmetric)
        pairs = [(self.range_min, low), (self.range_max, high), (self.range_seen, seen)]
        pairs += [] if average is None else [(self.range_average, average)]
        if moves is not True:
            pairs = [(variable, tf.where(moves, value, variable)) for variable, value in pairs]
        for variable, value in pairs:
            variable.assign(value)
        return pairs[0][1], pairs[1][1]


@tf_keras.utils.register_keras_serializable(package="detect")
class Cap(Stepped):
    """The cap of a ReLU, another one than 6. TFLite would compute a ReLU with such a cap in float.

    cap: the largest value. ships: whether the network for export has the operation. It needs none after a convolution
    and its ReLU if the range after them ends at the cap.
    """

    def __init__(self, spec, cap: float, ships: bool, **kwargs: object):
        super().__init__(spec, **kwargs)
        self.cap, self.ships = cap, ships

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "cap": self.cap, "ships": self.ships}

    def call(self, x):
        """x: float32 of any shape."""
        return tf.minimum(x, self.cap) if self.ships or self.run != SHIP else tf.identity(x)


def _state(trainable: bool = False) -> dict[str, Any]:
    """Arguments of `add_weight`. A variable that is not trained is averaged over replicas when it is read."""
    if trainable:
        return {"trainable": True}
    synchronization, aggregation = tf.VariableSynchronization.ON_READ, tf.VariableAggregation.MEAN
    return {"trainable": False, "synchronization": synchronization, "aggregation": aggregation}
