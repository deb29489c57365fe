"""Runs a TFLite file with ai-edge-litert, the interpreter of devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from detect.errors import WeightsError
from detect.tflite import flatbuffer, trial
from detect.tflite.quiet import quiet


class Runner:
    """A TFLite file. A call with one frame, or with several frames, returns its outputs by name as float32.

    file: a path, or the file's bytes. A path's file is first tried in a process of its own (`detect.tflite.trial`).
    threads: those of the interpreter. name: what the bytes are, for messages.
    keep_all: keep every tensor of the last run, for `tensor`; this is slower, because it runs without XNNPACK.
    Raises WeightsError if the file is not a TFLite file or can't run here.
    """

    def __init__(self, file: Path | bytes, threads: int = 1, keep_all: bool = False, name: str = "the file"):
        content, name = (file, name) if isinstance(file, bytes) else (trial.read(Path(file)), str(file))
        self.model = flatbuffer.read(content, name)
        options: dict[str, Any] = {}
        if keep_all:
            plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": plain}
        try:
            with quiet():
                self.interpreter = Interpreter(model_content=content, num_threads=threads, **options)
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"{name}: ai-edge-litert can't run this file: {error}") from error
        self._tensors: dict[int, dict[str, Any]] = {d["index"]: d for d in self.interpreter.get_tensor_details()}
        self.inputs, self.outputs = flatbuffer.ends(self.model)
        if len(self.inputs) != 1:
            raise WeightsError(f"{name}: the file has the inputs {', '.join(self.inputs)}; one image is expected")
        (self.input,) = self.inputs.values()
        self._check_ends(name)
        self._batch, self._name = int(self._details(self.input)["shape"][0]), name

    def _check_ends(self, name: str) -> None:
        """Raises WeightsError unless the input takes images, and the outputs are numbers with steps of their shape."""
        image = self._tensors.get(self.input)
        if image is None or len(image["shape"]) != 4 or _kind(image) not in "fiu":
            shape = [] if image is None else image["shape"].tolist()
            raise WeightsError(f"{name}: the file takes a tensor of the shape {shape}; legal is [N, height, width, C]")
        for output, index in self.outputs.items():
            found = self._tensors.get(index)
            if found is None or _kind(found) not in "fiu":
                raise WeightsError(f"{name}: the output {output} is not an array of numbers")
            steps, axis = (found["quantization_parameters"][key] for key in ("scales", "quantized_dimension"))
            side = found["shape"][axis] if 0 <= axis < len(found["shape"]) else None
            if len(steps) > 1 and (len(steps) != side or len(found["quantization_parameters"]["zero_points"]) != side):
                raise WeightsError(f"{name}: the output {output} has {len(steps)} steps, which its shape does not have")

    def check_shapes(self, size: Sequence[int], outputs: Mapping[str, Sequence[int | None]]) -> None:
        """Raises WeightsError unless the file takes frames of a size and gives these shapes. None: any side."""
        if tuple(self._details(self.input)["shape"][1:]) != (*size, 3):
            found = self._details(self.input)["shape"].tolist()
            raise WeightsError(f"{self._name}: the file takes {found}, but its metadata promise frames of {list(size)}")
        for name, wanted in outputs.items():
            found = self.interpreter.get_tensor(self.outputs[name]).shape
            if len(found) != len(wanted) or any(b not in (a, None) for a, b in zip(found, wanted, strict=True)):
                raise WeightsError(
                    f"{self._name}: the file's {name} have the shape {list(found)}; promised is {list(wanted)}"
                )

    @property
    def input_type(self) -> np.dtype:
        """The type of the frame that the file takes."""
        return np.dtype(self._details(self.input)["dtype"])

    def scale(self, name: str) -> tuple[float, int] | None:
        """(step, zero point) of an output that is int8, also if the last operation dequantises it; None for float."""
        index = self.outputs[name]
        for operator in self.model.subgraphs[0].operators:
            if index in operator.outputs and flatbuffer.operator_name(self.model, operator) == "DEQUANTIZE":
                index = int(operator.inputs[0])
        step, zero = self._details(index)["quantization"]
        return (float(step), int(zero)) if step else None

    def set(self, frame: np.ndarray) -> None:
        """frame: [*size, 3], or [N, *size, 3], levels 0..255 in uint8 or float32; converted to the file's input type.

        Raises WeightsError if the file does not take this number of frames in one call.
        """
        details = self._details(self.input)
        frames = frame if frame.ndim == len(details["shape"]) else frame[np.newaxis]
        if len(frames) != self._batch:
            self._resize(len(frames))
        if details["dtype"] != np.float32:
            step, zero = details["quantization"]
            bounds = np.iinfo(details["dtype"])
            zero = zero if step else max(bounds.min, -128)  # int8 without a step: the file adds 128 itself
            levels = np.rint(frames.astype(np.float32) / (step or 1.0)) + zero
            frames = np.clip(levels, bounds.min, bounds.max)
        self.interpreter.set_tensor(self.input, frames.astype(details["dtype"]))

    def invoke(self) -> None:
        """Runs the file on the frames of `set`."""
        self.interpreter.invoke()

    def tensor(self, index: int) -> np.ndarray:
        """One tensor after a run, dequantised to float32."""
        details, values = self._details(index), self.interpreter.get_tensor(index)
        parameters = details["quantization_parameters"]
        steps, zeros = parameters["scales"], parameters["zero_points"]
        if values.dtype.kind == "f" or not len(steps):
            return values.astype(np.float32)
        shape = [1] * values.ndim
        if len(steps) > 1:
            shape[parameters["quantized_dimension"]] = -1
        return (values.astype(np.float32) - zeros.reshape(shape).astype(np.float32)) * steps.reshape(shape)

    def __call__(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """frame: [*size, 3] or [N, *size, 3], levels 0..255. Returns the outputs by name, float32."""
        self.set(frame)
        self.invoke()
        return {name: self.tensor(index) for name, index in self.outputs.items()}

    def _resize(self, count: int) -> None:
        details = self._details(self.input)
        if details["shape_signature"][0] != -1:
            raise WeightsError(
                f"{self._name}: the file takes {self._batch} images in a call, this call has {count}: give them one by "
                "one, or export the file with nms=none and batch=null"
            )
        self.interpreter.resize_tensor_input(self.input, [count, *details["shape"][1:]], strict=True)
        self.interpreter.allocate_tensors()
        self._batch = count

    def _details(self, index: int) -> dict[str, Any]:
        return self._tensors[index]


def _kind(details: dict[str, Any]) -> str:
    return np.dtype(details["dtype"]).kind


def apart(arguments: Sequence[str], stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Runs the file in `stdin` on empty frames: `detect.tflite.trial`. arguments: its name. Raises WeightsError."""
    runner = Runner(stdin.read(), name=arguments[0])
    try:
        runner(np.zeros(runner.interpreter.get_input_details()[0]["shape"], np.float32))
    except (ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{arguments[0]}: ai-edge-litert can't run this file: {error}") from error
