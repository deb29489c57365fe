"""Makes the fake-quantised twin of a float model, as tf.contrib.quantize did for graphs."""

from collections import Counter
from typing import Any

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization.activations import Cap, FakeQuant
from detect.quantization.arithmetic import OF_LAYER, RoundedMultiply, rounded_kind
from detect.quantization.folded import Folded
from detect.quantization.fusion import Unit, units
from detect.quantization.graph import Graph, Op, Tensor
from detect.quantization.hard_swish import RoundedHardSwish, shifted_relu6, sixth
from detect.quantization.leaky_relu import RoundedLeakyReLU
from detect.quantization.shared_ranges import SharedRanges, unsigned
from detect.quantization.spec import Spec
from detect.quantization.supported_layers import FLOAT, JOIN, OWN, ROUND, SAME, cap, changes_nothing, ties

layers = tf_keras.layers
FOLDING = ("kernel", "linear", "scale")  # kinds of units that become a `Folded`


def fake_quant(model: tf_keras.Model, spec: Spec | None) -> tf_keras.Model:
    """The fake-quantised twin of a flat functional or Sequential tf_keras model, with its weights. It is not compiled.

    spec: `Spec()` is TFLite's int8; None returns the model itself.

    Convolutions (Conv2D, DepthwiseConv2D, SeparableConv2D) and Dense layers are fused with the batch norm and the ReLU
    after them. Batch norm is folded into the kernel, and the kernel is rounded (`Folded`). Every tensor that is int8 in
    TFLite is rounded, too (`FakeQuant`). Poolings, reshapes, croppings, upsamplings and a ReLU alone keep the range of
    their input; the inputs of a concatenation share a range. A batch norm that follows no kernel becomes a depthwise
    1x1 convolution. Inputs and outputs of the model keep names and structure, and variables keep their names. The
    variables of ranges are named `.../range_*` (`detect.quantization.spec.RANGE_VARIABLES`). The twin is float32, also
    if the model has another or mixed precision. Keras can save, load and clone it, and the copy gives the same bits.
    Where a kernel is folded with several batch norms, saving and cloning raise ConfigError; weights can be saved.

    With `training=True` the twin is contrib's training graph, with `training=False` its evaluation graph, which is
    scored and exported. `detect.quantization.callbacks` tells the twin the step, for the delay and the freezes.

    Raises ConfigError, with the names of the layers and what is legal, for nested models, for unsupported layers that
    `spec.keep_float` does not name, for models of Keras 3, and for models without a layer to quantise.
    """
    if spec is None:
        return model
    if spec.shares:
        raise ConfigError(
            f"quantize.spec: {', '.join(spec.shares)} is a share of the training, legal are steps: use spec.over(steps)"
        )
    graph = Graph(model)
    return _Builder(graph, spec, units(graph, spec)).build()


class _Builder:
    """Builds the twin, unit by unit. `tensors`: tensor of the float model -> tensor of the twin."""

    def __init__(self, graph: Graph, spec: Spec, parts: list[Unit]):
        self.graph, self.spec, self.parts = graph, spec, parts
        self.shared = SharedRanges(parts, spec.activation_bits)
        self.inputs: dict[Tensor, Any] = {}
        self.tensors: dict[Tensor, Any] = {}
        self.quantisers: dict[Tensor, FakeQuant] = {}
        self.copies: dict[Any, Any] = {}  # by layer of the float model: a layer that is called twice stays one
        self.folded: dict[tuple[Any, Any], Folded] = {}  # by layer and batch norm: a kernel may have several of these
        self.pixels = {self.shared.root(unit.output) for unit in parts if self._scales_pixels(unit)}
        self.made: dict[str, tf_keras.layers.Layer] = {}
        self.calls: Counter[str] = Counter()
        self.changes: dict[tuple[Tensor, Tensor], int] = {}  # of a tensor's grid to that of a concatenation: its number

    def build(self) -> tf_keras.Model:
        """The twin, with the float model's weights."""
        for unit in self.parts:
            self.tensors[unit.output] = self._round(unit, self._compute(unit))
        model = self.graph.model
        twin = tf_keras.Model(
            tf.nest.map_structure(lambda tensor: self.inputs[id(tensor)], model.input),
            tf.nest.map_structure(lambda tensor: self.tensors[id(tensor)], model.output),
            name=model.name,
        )
        for layer, copy in self.copies.items():
            copy.set_weights(layer.get_weights())
        return twin

    def _round(self, unit: Unit, x):
        """x, the twin's version of the output of the unit, rounded to the range of its set.

        The converter moves operations, and loses the range after a concatenation, a pooling or a reshape. There the
        range is added again.
        """
        root = self.shared.root(unit.output)
        if root not in self.shared.ranges:
            return x
        quantiser = self._quantiser(root)
        if unit.after in (JOIN, SAME):
            return quantiser(x, member=None, only_ships=True)
        if unit.after == ROUND:
            return quantiser(x, member=None, ties=ties(unit.ops[-1]))
        return quantiser(x, member=self.shared.member(unit.output))

    def _quantiser(self, root: Tensor) -> FakeQuant:
        if root not in self.quantisers:
            shared = self.shared.ranges[root]
            calls = sum(layer.name.startswith(f"{shared.name}/fake_quant") for layer in self.quantisers.values())
            name = f"{shared.name}/fake_quant" + (f"_{calls}" if calls else "")  # a layer may be called more than once
            self.quantisers[root] = FakeQuant(
                self.spec, len(shared.members), shared.fixed, root in self.pixels, name=name
            )
        return self.quantisers[root]

    def _compute(self, unit: Unit):
        """The output of the unit before rounding."""
        first, *rest = unit.ops
        if unit.kind == "input":
            config = first.layer.get_config()
            dtype = "float32" if tf.as_dtype(config["dtype"]).is_floating else config["dtype"]
            x = tf_keras.Input(batch_shape=config["batch_input_shape"], dtype=dtype, name=first.name)
            self.inputs[first.output] = x
            return x
        if unit.kind in ("hard_swish", "hard_sigmoid", "swish", "activation"):
            return self._activate(unit, self.tensors[unit.inputs[0]])
        if unit.kind in FOLDING:
            norm = _norm(unit)
            rest = [op for op in rest if op is not norm]
            x = self._fold(unit, first, norm, self.tensors[unit.inputs[0]])
        elif unit.kind == "partial":  # TFLite has sums of two
            name = first.name if unit.output == first.output or rest else unit.name
            x = self._of_two(OF_LAYER[type(first.layer)], name, unit)
        elif unit.kind == "scaled":
            x = self._once(layers.Rescaling, unit.name, first.layer.scale)(self.tensors[unit.inputs[0]])
        elif unit.kind == "shifted":
            x = self._once(layers.Rescaling, first.name, 1.0, first.layer.offset)(self.tensors[unit.inputs[0]])
        elif type(first.layer) is layers.LeakyReLU and unit.after == OWN:
            leaky = self._once(RoundedLeakyReLU, unit.name, float(first.layer.alpha))
            x = self._call(leaky, self.tensors[unit.inputs[0]])
        elif unit.after == ROUND and cap(first) is not None:
            x = self._capped(first, self.tensors[unit.inputs[0]], ships=True)
            return self._once(layers.ReLU, first.name)(self._quantiser(self.shared.root(unit.output))(x, member=None))
        elif unit.after != FLOAT and (kind := rounded_kind(first)) is not None:
            x = self._of_two(kind, first.name, unit)
        else:
            x = self._copy(first, {t: self._operand(unit, t) for t in unit.inputs})
        for relu in rest:
            if cap(relu) is None:
                x = self._copy(relu, {relu.inputs[0]: x})
            else:
                x = self._capped(relu, self._once(layers.ReLU, relu.name)(x), ships=False)
        return x

    def _of_two(self, kind: type, name: str, unit: Unit):
        return self._call(self._once(kind, name), [self._operand(unit, tensor) for tensor in unit.inputs])

    def _capped(self, relu: Op, x, ships: bool):
        return self._once(Cap, f"{relu.name}/cap", self.spec, cap(relu), ships)(x)

    def _scales_pixels(self, unit: Unit) -> bool:
        images = {id(tensor) for tensor in self.graph.model.inputs}
        return unit.kind == "copy" and unit.after == OWN and set(unit.inputs) <= images

    def _reshaped(self, tensor: Tensor) -> bool:
        """Whether the tensor comes from a reshape, perhaps through layers that vanish in the file."""
        op = self.graph.producer.get(tensor)
        while op is not None and changes_nothing(op):
            op = self.graph.producer[op.inputs[0]]
        return op is not None and type(op.layer) in (layers.Reshape, layers.Flatten)

    def _operand(self, unit: Unit, tensor: Tensor):
        """An input of a layer that is copied. If all inputs come from a reshape, it is kept apart from the layer."""
        root = self.shared.root(tensor)
        arithmetic = len(unit.inputs) > 1 and unit.after != JOIN and root in self.shared.ranges
        if arithmetic and all(self._reshaped(other) for other in unit.inputs):
            return self._quantiser(root)(self.tensors[tensor], member=None, only_ships=True, reshaped=True)
        return self._joined(unit, tensor)

    def _joined(self, unit: Unit, tensor: Tensor):
        """An input; rounded again if it goes into a concatenation whose range it could not share."""
        x, root = self.tensors[tensor], self.shared.root(unit.output)
        if unit.after != JOIN or root not in self.shared.ranges or self.shared.root(tensor) == root:
            return x
        member, number = self.shared.member((unit.output, tensor), root), 0
        if self.shared.root(tensor) in self.shared.ranges:
            number = self.changes.setdefault((tensor, root), len(self.changes) + 1)
        return self._quantiser(root)(x, member=member, from_other_grid=number)

    def _activate(self, unit: Unit, x):
        name = unit.name
        if unit.kind == "hard_swish":
            return self._call(self._once(RoundedHardSwish, name), x)
        if unit.kind == "activation":
            return self._function(unit.ops[0].layer.activation, f"{name}/activation")(x)
        if unit.kind == "swish":  # TFLite has no such operation: it rounds the sigmoid
            gate = self._fixed(self._function("sigmoid", f"{name}/sigmoid")(x), *unsigned(self.spec.activation_bits))
            own = isinstance(unit.ops[0].layer, layers.Activation)
            return self._call(self._once(RoundedMultiply, name if own else f"{name}/activation"), [x, gate])
        x = self._fixed(self._function(shifted_relu6, f"{name}/relu6")(x), 0.0, 6.0)
        return self._function(sixth, name)(x)

    def _function(self, function, name: str):
        return self._once(layers.Activation, name, function)

    def _fixed(self, x, low: float, high: float):
        """x, the output of a layer, rounded to a fixed range."""
        name = f"{x._keras_history.layer.name}/fake_quant"
        return self._once(FakeQuant, name, self.spec, fixed=(low, high))(x)

    def _once(self, kind: type, name: str, *args, **kwargs):
        """The layer of this name, which is made by the first call: an activation that is called twice stays one."""
        if name not in self.made:
            self.made[name] = kind(*args, name=name, **kwargs | {"dtype": "float32"})
        return self.made[name]

    def _fold(self, unit: Unit, first: Op, norm: Op | None, x):
        """Calls the layer that holds copies of the unit's layers with variables. Each call has grids of its own."""
        key = _key(first, norm)
        if key not in self.folded:
            kernel = None if unit.kind == "scale" else self._layer(first.layer, linear=unit.kind == "linear")
            copied = None if norm is None else self._layer(norm.layer)
            sharers = [layer for (other, _), layer in self.folded.items() if other == key[0]]
            name = norm.name if sharers and norm is not None else first.name + "/plain" * bool(sharers)
            calls = sum(_key(u.ops[0], _norm(u)) == key for u in self.parts if u.kind in FOLDING)
            self.folded[key] = Folded(self.spec, kernel, copied, calls, name=name)
            for layer in [*sharers, self.folded[key]] if sharers else ():
                layer.shares_kernel = True
        return self._call(self.folded[key], x)

    def _call(self, layer, x):
        number = self.calls[layer.name]
        self.calls[layer.name] += 1
        return layer(x, number=number) if number else layer(x)  # a plain call can be cloned

    def _layer(self, layer, linear: bool = False):
        """The copy of a layer, without its weights. linear: also without its activation."""
        if layer not in self.copies:
            config = layer.get_config() | ({"activation": "linear"} if linear else {})
            if layer.compute_dtype and tf.as_dtype(layer.compute_dtype).is_floating:  # also with mixed precision
                config["dtype"] = "float32"
            self.copies[layer] = type(layer).from_config(config)
        return self.copies[layer]

    def _copy(self, op: Op, tensors: dict[Tensor, Any]):
        """Calls the copy of a layer as in the float model, but on these tensors."""
        args, kwargs = op.arguments(tensors)
        return self._layer(op.layer)(*args, **kwargs)


def _norm(unit: Unit) -> Op | None:
    """The batch norm of a unit with a kernel, or that is one."""
    if unit.kind == "scale":
        return unit.ops[0]
    return next((op for op in unit.ops[1:2] if isinstance(op.layer, layers.BatchNormalization)), None)


def _key(first: Op, norm: Op | None) -> tuple[Any, Any]:
    return first.layer, None if norm is None else norm.layer
