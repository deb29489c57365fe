"""Random legal Keras graphs: layers that `fake_quant` accepts, in random order, with branches and shared kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tf_keras

layers = tf_keras.layers
Choose = Callable[[Sequence[Any]], Any]
ACTIVATIONS = ("linear", "relu", "relu6", "swish", "sigmoid", "tanh", "softmax")
LEAST, MOST = 4, 16  # layers, without input and scaling
TRIES = 3  # for each layer
SIDE, CHANNELS = 12, 3
OUTPUTS = 3  # the most outputs


class Builder:
    """Builds one model. choose: takes one of a sequence; it makes all decisions. counts: how many of each kind.

    A step that is not legal for the tensor that it drew (a pooling of a vector) is left out.
    """

    def __init__(self, choose: Choose):
        self.choose, self.counts, self.made = choose, {}, 0
        self.convolutions: list[Any] = []

    def model(self) -> tf_keras.Model:
        """The model: `image` [None, 12, 12, 3], levels 0..255 -> `out_0`, ..., each a tensor that nothing else uses."""
        image = tf_keras.Input((SIDE, SIDE, CHANNELS), name="image")
        x = layers.Rescaling(1 / 127.5, -1, name="scaling")(image) if self.choose((True, True, False)) else image
        self.used: set[int] = set()
        self.tensors = [self.conv(x)]
        wanted = self.choose(range(LEAST, MOST + 1))
        for _ in range(TRIES * wanted):
            if sum(self.counts.values()) < wanted:
                self.step()
        ends = [x for x in self.tensors if id(x) not in self.used][-OUTPUTS:]
        model = tf_keras.Model(image, {f"out_{i}": x for i, x in enumerate(ends)}, name="random")
        shuffle(model, self.choose(range(1000)))
        return model

    def step(self) -> None:
        """Adds one layer."""
        kind = self.choose(KINDS)
        x = self.tensors[-1 - min(self.choose((0, 0, 0, 1, 2, 3)), len(self.tensors) - 1)]
        y = getattr(self, kind)(x)
        if y is not None and min(y.shape[1:]) > 0 and np.prod(y.shape[1:]) < 10_000:
            self.tensors.append(y)
            self.used.add(id(x))
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def name(self, kind: str) -> str:
        """A new name."""
        self.made += 1
        return f"{kind}_{self.made}"

    def partners(self, x, axes: slice) -> list[Any]:
        """Tensors with the same shape as x along these axes."""
        return [t for t in self.tensors if len(t.shape) == len(x.shape) and t.shape[axes] == x.shape[axes]]

    def conv(self, x):
        if len(x.shape) != 4:
            return None
        size, dilation = self.choose((1, 2, 3)), self.choose((1, 1, 1, 2))
        stride, padding = self.choose((1, 1, 2)) if dilation == 1 else 1, self.choose(("same", "valid"))
        if padding == "valid" and min(x.shape[1:3]) <= (size - 1) * dilation:
            return None
        layer = layers.Conv2D(self.choose((2, 4, 8)), size, stride, padding, dilation_rate=dilation,
                              use_bias=self.choose((True, False)), activation=self.choose(ACTIVATIONS),
                              name=self.name("conv"))  # fmt: skip
        self.convolutions.append(layer)
        return layer(x)

    def shared_conv(self, x):
        """A convolution that was called before, once more."""
        fits = [c for c in self.convolutions if len(x.shape) == 4 and c.input_spec.axes[-1] == x.shape[-1]
                and min(x.shape[1:3]) > 2 * max(c.kernel_size)]  # fmt: skip
        return self.choose(fits)(x) if fits else None

    def depthwise(self, x):
        if len(x.shape) != 4 or min(x.shape[1:3]) < 3:
            return None
        stride = self.choose((1, 1, 2))
        dilation = self.choose((1, 2)) if stride == 1 and min(x.shape[1:3]) > 4 else 1
        return layers.DepthwiseConv2D(self.choose((2, 3)), stride, self.choose(("same", "valid")),
                                      dilation_rate=dilation, depth_multiplier=self.choose((1, 1, 2)),
                                      activation=self.choose(ACTIVATIONS), name=self.name("depthwise"))(x)  # fmt: skip

    def separable(self, x):
        if len(x.shape) != 4 or min(x.shape[1:3]) < 3:
            return None
        return layers.SeparableConv2D(self.choose((2, 4)), 3, padding=self.choose(("same", "valid")),
                                      activation=self.choose(ACTIVATIONS), name=self.name("separable"))(x)  # fmt: skip

    def dense(self, x):
        return layers.Dense(self.choose((2, 4, 8)), self.choose(ACTIVATIONS), self.choose((True, False)),
                            name=self.name("dense"))(x)  # fmt: skip

    def conv_norm_relu(self, x):
        y = None if len(x.shape) != 4 else layers.Conv2D(4, 1, use_bias=False, name=self.name("conv"))(x)
        return None if y is None else layers.ReLU(6.0, name=self.name("relu"))(self.norm(y))

    def dense_norm(self, x):
        y = None if len(x.shape) != 2 else layers.Dense(6, use_bias=False, name=self.name("dense"))(x)
        return None if y is None else layers.BatchNormalization(name=self.name("norm"))(y)

    def norm(self, x):
        return layers.BatchNormalization(name=self.name("norm"))(x) if len(x.shape) == 4 else None

    def relu(self, x):
        return layers.ReLU(self.choose((None, 6.0, 4.0, 1.0)), name=self.name("relu"))(x)

    def leaky(self, x):
        return layers.LeakyReLU(self.choose((0.1, 0.3)), name=self.name("leaky"))(x)

    def activation(self, x):
        return layers.Activation(self.choose(ACTIVATIONS), name=self.name("activation"))(x)

    def hard_swish(self, x):
        return layers.Multiply(name=self.name("hard_swish"))([x, self.hard_sigmoid(x)])

    def hard_sigmoid(self, x):
        return layers.ReLU(1.0, name=self.name("gate"))(layers.Rescaling(1 / 6, 0.5, name=self.name("shift"))(x))

    def softmax(self, x):
        return layers.Softmax(name=self.name("softmax"))(x)

    def unit(self, x):
        return layers.UnitNormalization(name=self.name("unit"))(x)

    def rescaling(self, x):
        return layers.Rescaling(self.choose((0.5, 2.0, 1.0)), self.choose((0.0, 1.0)), name=self.name("rescaling"))(x)

    def arithmetic(self, x):
        other = self.choose(self.partners(x, slice(1, None)))
        self.used.add(id(other))
        kind = self.choose((layers.Add, layers.Multiply) + (layers.Subtract,) * (other is not x))  # x - x is always 0
        more = [x] * (kind is not layers.Subtract and self.choose((False, False, True)))
        return kind(name=self.name("arithmetic"))([x, other, *more])

    def operator(self, x):
        other = self.choose(self.partners(x, slice(1, None)))
        self.used.add(id(other))
        found = (lambda: x + other, lambda: x * other, lambda: x + 0.5, lambda: x * 2.0, lambda: 1.0 - x)
        return self.choose(found + (lambda: x - other,) * (other is not x))()

    def concatenate(self, x):
        others = [self.choose(self.partners(x, slice(1, -1))) for _ in range(self.choose((1, 1, 2)))]
        self.used.update(map(id, others))
        return layers.Concatenate(name=self.name("concatenate"))([x, *others])

    def pooling(self, x):
        if len(x.shape) != 4 or min(x.shape[1:3]) < 3:
            return None
        kind = self.choose((layers.MaxPooling2D, layers.AveragePooling2D))
        return kind(self.choose((2, 3)), self.choose((1, 2)), self.choose(("same", "valid")), name=self.name("pool"))(x)

    def global_pooling(self, x):
        kind = self.choose((layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D))
        return kind(keepdims=self.choose((True, False)), name=self.name("global"))(x) if len(x.shape) == 4 else None

    def reshape(self, x):
        if len(x.shape) == 4:
            shape = (x.shape[1] * x.shape[2], x.shape[3])
        elif len(x.shape) == 2 and x.shape[1] % 4 == 0:
            shape = (2, 2, x.shape[1] // 4)
        else:
            shape = (int(np.prod(x.shape[1:])),)
        return layers.Reshape(shape, name=self.name("reshape"))(x)

    def flatten(self, x):
        return layers.Flatten(name=self.name("flatten"))(x)

    def permute(self, x):
        return layers.Permute((2, 1, 3), name=self.name("permute"))(x) if len(x.shape) == 4 else None

    def padding(self, x):
        pads = self.choose((1, ((0, 1), (1, 0)), ((2, 0), (0, 0))))
        return layers.ZeroPadding2D(pads, name=self.name("pad"))(x) if len(x.shape) == 4 else None

    def cropping(self, x):
        return layers.Cropping2D(1, name=self.name("crop"))(x) if len(x.shape) == 4 and min(x.shape[1:3]) > 2 else None

    def upsampling(self, x):
        if len(x.shape) != 4 or max(x.shape[1:3]) > SIDE:
            return None
        return layers.UpSampling2D(2, interpolation=self.choose(("nearest", "bilinear")), name=self.name("up"))(x)

    def dropout(self, x):
        return layers.Dropout(0.5, name=self.name("dropout"))(x)


KINDS = (
    *(
        "conv",
        "conv",
        "conv_norm_relu",
        "conv_norm_relu",
        "shared_conv",
        "depthwise",
        "separable",
        "dense",
        "dense_norm",
    ),
    *("norm", "relu", "leaky", "activation", "hard_swish", "hard_sigmoid", "softmax", "unit", "rescaling"),
    *("arithmetic", "arithmetic", "operator", "concatenate", "concatenate", "pooling", "pooling", "global_pooling"),
    *("reshape", "flatten", "permute", "padding", "cropping", "upsampling", "dropout"),
)


def shuffle(model: tf_keras.Model, seed: int) -> None:
    """Gives kernels, biases and batch norms random values that a training might have left."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape, name = tuple(variable.shape), variable.name
        if any(part in name for part in ("gamma", "variance")):
            variable.assign(random.uniform(0.5, 2, shape))
        elif len(shape) == 1:
            variable.assign(random.normal(0, 0.2, shape))
        else:
            inputs = np.prod(shape[:2]) if "depthwise" in name else np.prod(shape[:-1])
            variable.assign(random.normal(0, 1.4 / np.sqrt(inputs), shape))
