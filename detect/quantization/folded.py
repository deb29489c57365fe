"""Kernels with batch norm folded in, rounded as TFLite rounds them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.modeling import replicas
from detect.quantization.activations import FakeQuant
from detect.quantization.grids import Step, steps
from detect.quantization.phases import COLLECT, SHIP, WHOLE, Stepped, can_read, static
from detect.quantization.rounding import divided, kernel_steps, mark_kernel, round_to_steps

layers = tf_keras.layers


@tf_keras.utils.register_keras_serializable(package="detect")
class Folded(Stepped):
    """A layer with a kernel, and the batch norm after it. Batch norm is folded into the kernel, which is then rounded.

    convolution: a Conv2D, DepthwiseConv2D, SeparableConv2D or Dense layer; None stands for a depthwise 1x1 convolution
        with a kernel of ones. norm: the batch norm after it, or None. calls: how often the layer is called: the range
        between the two convolutions of a SeparableConv2D contains the values of all calls.
    The layer contains both layers: variables keep the names that they have in the float model.

    The kernel that is rounded is always W gamma / sigma_moving (Jacob 2018, 3.2; Krishnamoorthi 2018, 3.2.2). In
    training, the output is then multiplied by sigma_moving / sigma_batch and gets the bias
    beta - gamma mu_batch / sigma_batch: training uses the batch's statistics, while the grid changes slowly. In
    evaluation, and from `spec.freeze_bn` on, the factor is 1 and the statistics are the moving ones. The moving
    statistics follow mean and variance of the float convolution. Until `freeze_bn`, it therefore runs in addition to
    the rounded convolution.

    Evaluation computes in whole numbers, as XNNPACK does: steps of the input times steps of the kernel, plus the bias
    in steps of both. The sum is rounded once to steps of the output. float32 holds sums below 2 ** 24 exactly. Sums of
    fractions differ in the last digit, which moves some values to the next step. A deep network that has not settled
    makes large differences of them.
    """

    def __init__(self, spec, convolution, norm=None, calls: int = 1, **kwargs: object):
        super().__init__(spec, **kwargs)
        self.calls = calls
        self.convolution = layers.deserialize(convolution) if isinstance(convolution, dict) else convolution
        self.norm = layers.deserialize(norm) if isinstance(norm, dict) else norm
        self.shares_kernel = False  # with another layer, which folds it with another batch norm
        self.between = None
        if isinstance(self.convolution, layers.SeparableConv2D):
            self.between = FakeQuant(self.spec, calls, name=f"{self.name}/depthwise/fake_quant")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor. Raises ConfigError if a kernel is shared: each copy would have its own."""
        if self.shares_kernel:
            raise ConfigError(
                f"{self.name}: Keras can't save or clone this fake-quantised model, because the kernel of "
                f"{self.convolution.name} is folded with several batch norms; save its weights with save_weights, or "
                "the float model, and call fake_quant again"
            )
        parts = {"convolution": self.convolution, "norm": self.norm}
        serialised = {key: part and layers.serialize(part) for key, part in parts.items()}
        return {**super().get_config(), "calls": self.calls, **serialised}

    def build(self, input_shape) -> None:
        """Builds both layers, each in its own name scope."""
        shape = tf.TensorShape(input_shape)
        parts = [] if self.convolution is None else [(self.convolution, shape)]
        if self.norm is not None:
            parts.append((self.norm, tf.TensorShape(self.compute_output_shape(shape))))
        if self.between is not None:
            parts.append((self.between, shape))
        for layer, its_shape in parts:
            if not layer.built:  # by another layer that has the same kernel
                with tf.name_scope(f"{layer.name}/"):  # the slash at the end makes it the whole scope
                    layer.build(its_shape)
        self.add_step(self.spec.delay, self.spec.freeze_bn if self.norm is not None else None)
        super().build(input_shape)

    def compute_output_shape(self, input_shape):
        """The output shape of the layer with the kernel."""
        return input_shape if self.convolution is None else self.convolution.compute_output_shape(input_shape)

    def steps(self, number: int) -> tuple[Step | None, Step | None]:
        """Functions that return the steps of the grids of the input and the output of a call (`grids.steps`)."""
        return steps(self, number)

    @property
    def momentum(self) -> float:
        """Batch norm's momentum. This and the next two properties raise AttributeError if there is no batch norm."""
        return self._norm.momentum

    @momentum.setter
    def momentum(self, value: float) -> None:
        self._norm.momentum = value

    @property
    def moving_mean(self):
        """Batch norm's variable."""
        return self._norm.moving_mean

    @property
    def moving_variance(self):
        """Batch norm's variable."""
        return self._norm.moving_variance

    @property
    def _norm(self):
        if self.norm is None:
            raise AttributeError(f"{self.name} has no batch norm")
        return self.norm

    @tf.autograph.experimental.do_not_convert
    def call(self, x, number: int = 0, training=None):
        """x: float32 [B, H, W, C], or [B, ..., C] for a dense layer. number: of this call among the layer's calls."""
        training = static(training, self)
        source, target = self.steps(number)
        if training or self.run not in WHOLE or source is None:
            y = self._in_float(x, source, training, number)
        else:
            y = self.rounded(
                lambda: self._in_integers(x, source, target), lambda: self._in_float(x, source, training, number)
            )
        return y if self.convolution is None else self.convolution.activation(y)

    def _in_float(self, x, source, training: bool, number: int):
        """The output before the activation, as the training graph and the converter need it."""
        if self.between is not None:
            first = self._kernel_for(lambda: self.convolution.depthwise_kernel, training, True, number)
            x = self._depthwise(x, first)
            x, source = self.between(x, member=number, training=training), self.between.step
        kernel = self._kernel_for(self.folded_kernel, training, self._is_depthwise, number)
        y = self._convolve(x, kernel)
        if training and self.trainable and self._learns:
            found = self._moments(x) if replicas.count() > 1 else None  # no part of a branch
            return self.before(
                self.spec.freeze_bn, lambda: self._corrected(x, y, found), lambda: self._shifted(y, source, training)
            )
        return self._shifted(y, source, training)

    def _in_integers(self, x, source, target):
        """The output before the activation, rounded to steps of `target` if there is one."""
        if self.between is not None:
            x = self._summed(
                x, source, self.between.step, self.convolution.depthwise_kernel, None, self._depthwise, True
            )
            x, source = self.between(x, training=False), self.between.step
        kernel, bias = self.folded_kernel(), self.folded_bias()
        return self._summed(x, source, target, kernel, bias, self._convolve, self._is_depthwise)

    def _summed(self, x, source, target, kernel, bias, convolve: Callable[[Any, Any], Any], depthwise: bool):
        (step, by_value), units = self._grid(kernel, depthwise), source()
        sums, units = convolve(tf.round(x / units), tf.round(kernel / by_value)), units * step
        if bias is not None:
            sums = tf.nn.bias_add(sums, tf.round(divided(bias, units)))
        return sums * units if target is None else tf.round(sums * divided(units, target())) * target()

    def ratios(self) -> Iterator[Any]:
        """How many steps of the output a step of the sums is, [C] or []: of each call, and of each kernel in it."""
        for node in self._inbound_nodes:
            source, target = self.steps(node.call_kwargs.get("number", 0))
            parts = [(source, target, self.folded_kernel(), self._is_depthwise)]
            if self.between is not None:
                first = (source, self.between.step, self.convolution.depthwise_kernel, True)
                parts = [first, (self.between.step, *parts[0][1:])]
            for before, after, kernel, depthwise in parts:
                if before is not None and after is not None:
                    yield before() * self._kernel_steps(kernel, depthwise) / after()

    def folded_kernel(self):
        """The kernel W gamma / sigma_moving before rounding, in the shape of W. W of a separable layer is pointwise."""
        kernel = self._kernel
        if self.norm is None:
            return kernel
        factor = divided(self._gain, self._sigma(self.norm.moving_variance))
        if self._is_depthwise:
            factor = tf.reshape(factor, kernel.shape[2:])
        return kernel * factor

    def rounded_kernels(self) -> list[Any]:
        """The rounded kernels, in their shapes: one, or the depthwise and pointwise kernels of a separable layer."""
        first = [] if self.between is None else [self._rounded(self.convolution.depthwise_kernel, True)]
        return [*first, self._rounded(self.folded_kernel(), self._is_depthwise)]

    def folded_bias(self):
        """beta + (b - mu_moving) gamma / sigma_moving [C], or the layer's own bias, or None."""
        if self.norm is None:
            return self._own_bias
        centred = (0.0 if self._own_bias is None else self._own_bias) - self.norm.moving_mean
        return self._shift + divided(centred * self._gain, self._sigma(self.norm.moving_variance))

    @property
    def _is_depthwise(self) -> bool:
        return self.convolution is None or isinstance(self.convolution, layers.DepthwiseConv2D)

    @property
    def _kernel(self):
        layer = self.convolution
        if layer is None:
            return tf.ones([1, 1, self.norm.moving_mean.shape[0], 1])
        if isinstance(layer, layers.SeparableConv2D):
            return layer.pointwise_kernel
        return layer.depthwise_kernel if self._is_depthwise else layer.kernel

    @property
    def _learns(self) -> bool:
        """Whether batch norm uses the statistics of a batch at any step."""
        return self.norm is not None and self.norm.trainable and self.spec.freeze_bn != 0

    @property
    def _own_bias(self):
        return self.convolution.bias if self.convolution is not None and self.convolution.use_bias else None

    @property
    def _gain(self):
        return self.norm.gamma if self.norm.scale else tf.ones_like(self.norm.moving_mean)

    @property
    def _shift(self):
        return self.norm.beta if self.norm.center else tf.zeros_like(self.norm.moving_mean)

    def _sigma(self, variance):
        return tf.sqrt(variance + self.norm.epsilon)

    def _shifted(self, y, source, training: bool):
        if self.run == SHIP and can_read():
            bias = self._shipped_bias(source)
        else:
            bias = self.folded_bias()
            if bias is not None and not training and self.run != COLLECT:
                bias = self.rounded(lambda: self._rounded_bias(bias, source), lambda: tf.identity(bias))
        return y if bias is None else tf.nn.bias_add(y, bias)

    def _rounded_bias(self, bias, source):
        """The bias rounded as in TFLite: to a multiple of the input's step times the kernel's step. If a kernel with
        one scale has a few large channels, an output may change by half a step."""
        if source is None:
            return tf.identity(bias)
        unit = source() * self._kernel_steps(self.folded_kernel(), self._is_depthwise)
        return tf.round(divided(bias, unit)) * unit

    def _kernel_steps(self, kernel, depthwise: bool):
        if depthwise and self.spec.per_channel:
            kernel = tf.reshape(kernel, [*kernel.shape[:2], -1])
        return kernel_steps(kernel, self.spec.weight_bits, self.spec.per_channel)

    def _shipped_bias(self, source):
        """The rounded bias as a constant whose values are not all equal.

        The prior of a focal loss makes all values equal. The converter then divides all of them by the scale of the
        first channel, and outputs of the file are wrong by dozens of quanta (TensorFlow 2.20).
        """
        with tf.init_scope():
            bias = self.folded_bias()
            if bias is None:
                return None
            values = np.array(self._rounded_bias(bias, source))
        if (values == values[0]).all():
            values[0] = np.nextafter(values[0], np.float32(0))
        return tf.constant(values)

    def _moments(self, x):
        """Mean and variance of the float convolution over the batch, and the number of values of a channel."""
        y = self._convolve(x, self._kernel)
        if replicas.count() > 1 and self.norm.synchronized:
            return replicas.moments(y, self.norm.moving_mean - (0.0 if self._own_bias is None else self._own_bias))
        mean, variance = tf.nn.moments(y, list(range(len(y.shape) - 1)))
        return mean, variance, tf.cast(tf.size(y) // y.shape[-1], tf.float32)

    def _corrected(self, x, y, found=None):
        """y, the output for x, with factor and bias from the batch's statistics. Updates the moving statistics.

        found: what `_moments` returns for x, if it is known.
        """
        norm, before = self.norm, self._sigma(self.norm.moving_variance)
        mean, variance, count = found or self._moments(x)
        sigma = self._sigma(variance)
        own = tf.zeros_like(mean) if self._own_bias is None else self._own_bias
        mean += own  # in the output it cancels out
        result = tf.nn.bias_add(y * (before / sigma), self._shift + self._gain * (own - mean) / sigma)
        # Keras' batch norm keeps the unbiased variance for images, and the biased variance for vectors.
        is_unbiased = norm.fused or getattr(norm, "unbiased", False)
        unbiased = variance * count / tf.maximum(count - 1, 1.0) if is_unbiased else variance
        for variable, value in ((norm.moving_mean, mean), (norm.moving_variance, unbiased)):
            variable.assign_sub((variable - tf.stop_gradient(value)) * (1 - norm.momentum))
        return result

    def _kernel_for(self, kernel: Callable[[], Any], training: bool, depthwise: bool, number: int):
        """The value of `kernel()`, rounded unless ranges are collected or the delay lasts. For export, a constant.

        The converter would merge equal constants, and lose the one scale of a kernel with two users. So one value of
        the constant for each further call of the layer lies beside the grid, by less than half a step.
        """
        if self.run == SHIP and can_read():
            with tf.init_scope():
                rounded = self._rounded(kernel(), depthwise)
                constant, step = rounded.numpy(), self._kernel_steps(rounded, depthwise).numpy()
            constant.flat[0] += 0.4 * number / (number + 1) * step.min()
            return self._marked(tf.constant(constant), step, depthwise)
        value = kernel()
        if self.run == COLLECT:
            return value
        rounded = self._rounded(value, depthwise, mark=not training)
        return tf.where(self.range_step < self.spec.delay, value, rounded) if self.spec.delay else rounded

    def _grid(self, kernel, depthwise: bool):
        """The steps of a kernel, and the same steps in a shape that divides its values."""
        step = self._kernel_steps(kernel, depthwise)
        return step, tf.reshape(step, kernel.shape[2:]) if depthwise and self.spec.per_channel else step

    def _rounded(self, kernel, depthwise: bool, mark: bool = False):
        step, by_value = self._grid(kernel, depthwise)
        rounded = round_to_steps(kernel, by_value)
        return self._marked(rounded, step, depthwise) if mark else rounded

    def _marked(self, rounded, step, depthwise: bool):
        # The converter loses the scales of a dense kernel when it transposes it. It finds them without the mark.
        if self.spec.per_channel and isinstance(self.convolution, layers.Dense):
            return rounded
        if not (depthwise and self.spec.per_channel):
            return mark_kernel(rounded, step, self.spec.per_channel)
        height, width, channels, multiplier = rounded.shape
        flat = tf.reshape(rounded, [height, width, channels * multiplier])
        return tf.reshape(mark_kernel(flat, step, True), rounded.shape)

    def _convolve(self, x, kernel):
        layer = self.convolution
        if layer is None:
            return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")
        if isinstance(layer, layers.Dense):
            return tf.matmul(x, kernel) if len(x.shape) == 2 else tf.tensordot(x, kernel, 1)
        if isinstance(layer, layers.DepthwiseConv2D):
            return self._depthwise(x, kernel)
        if isinstance(layer, layers.SeparableConv2D):
            return tf.nn.conv2d(x, kernel, 1, "VALID")
        if self.run != SHIP:
            return layer.convolution_op(x, kernel)
        # Keras splits a dilated convolution into batches, since TensorFlow has no gradient of it on CPUs. The converter
        # would leave that in float.
        return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    def _depthwise(self, x, kernel):
        layer = self.convolution
        height, width = layer.strides
        padding, dilations = layer.padding.upper(), layer.dilation_rate
        return tf.nn.depthwise_conv2d(x, kernel, (1, height, width, 1), padding, dilations=dilations)
