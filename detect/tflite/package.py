"""The TFLite export of a detector: the file, and the measurements of it."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from detect.errors import WeightsError
from detect.evaluation import agreement
from detect.evaluation.sqnr import Limit
from detect.tflite import accuracy, detection_output, edge_tpu, flatbuffer, operators, task_metadata, trial
from detect.tflite import parity as checks
from detect.tflite.convert import convert, float_kernels
from detect.tflite.metadata import Settings
from detect.tflite.options import INT8, OUTPUTS, Options
from detect.tflite.runner import Runner

THREADS = (1, 2)
ONE_THREAD = "  run it with 1 thread: with fewer than classes, the operation leaves one out"
WORST = 5  # the number of layers in the table
LAYER_FRAMES = 2  # the number of frames on which the noise of layers is measured


@dataclass(frozen=True)
class File:
    """content: the bytes of the file. body: the file without decoding and suppression, whose heads can be compared."""

    content: bytes = field(repr=False)
    body: bytes = field(repr=False)


def build(model: tf_keras.Model, settings: Settings, options: Options, frames: Sequence[np.ndarray] = ()) -> File:
    """Converts a network; adds decoding, suppression and metadata.

    model, frames: see `convert`. Raises WeightsError for an int8 file with a convolution that is float by mistake.
    """
    settings = settings.with_nms(options.nms)
    kind = (options.quantize, options.weights, options.takes or "", options.gives or "")
    graph = convert(model, *kind, frames, options.batch)
    if options.quantize in INT8:
        operators.refuse_float_convolutions(graph, float_kernels(model) if options.quantize == "qat" else {})
    body = flatbuffer.write(graph)
    whole = detection_output.attach(flatbuffer.read(body), settings)
    flatbuffer.set_metadata(whole, settings.entries() | task_metadata.entries(settings))
    return File(task_metadata.with_labels(flatbuffer.write(whole), settings), body)


def report(
    file: File,
    reference: File,
    model: tf_keras.Model,
    settings: Settings,
    options: Options,
    frames: Sequence[np.ndarray],
    runs: int,
) -> dict[str, Any]:
    """Operator counts, parity, size and speed, for `export.json`.

    reference: the float32 file of the same network with the same `nms`. model: the network whose heads are the
        reference: the float one, or for `qat` the fake-quantised one in evaluation.
    frames: real images [H, W, 3] in the network's frame; at least one. runs: the repetitions of each latency.
    """
    settings = settings.with_nms(options.nms)
    wanted = [heads(model, frame) for frame in frames]
    body = Runner(file.body)
    found = [body(frame) for frame in frames]
    scales = {head: body.scale(head) for head in checks.HEADS}
    parity = checks.parity(wanted, found, scales, options.quantize)
    if options.nms != "none":
        whole = Runner(file.content)
        ours = [detection_output.detections(settings.with_nms("none"), outputs) for outputs in found]
        theirs = [detection_output.detections(settings, whole(frame)) for frame in frames]
        side = max(settings.size)
        # Many scores of an int8 file are equal, and the custom operation takes another one of two equal ones.
        limit = agreement.LIMIT | (agreement.ROUNDED if options.quantize in INT8 else {})
        parity["detections"] = {**agreement.agreement(ours, theirs, side), "limit": limit}
        if detection_output.right_threads(settings, max(THREADS)) < max(THREADS):
            several = Runner(file.content, max(THREADS))
            wrong = [detection_output.detections(settings, several(frame)) for frame in frames]
            parity["detections"][f"with_{max(THREADS)}_threads"] = agreement.agreement(theirs, wrong, side)
    parsed = flatbuffer.read(file.content)
    inputs, outputs = flatbuffer.ends(parsed)
    timed = {"file": file.content} | ({} if options.quantize == "none" else {"float32": reference.content})
    return {
        "options": asdict(options),
        "bytes": len(file.content),
        "float32_bytes": len(reference.content),
        "inputs": _described(parsed, inputs),
        "outputs": _described(parsed, outputs),
        "operators": operators.census(parsed),
        "constants_bytes": operators.constants(parsed),
        "parity": parity,
        "layers": [] if options.quantize == "none" else checks.layers(reference.body, file.body, frames[:LAYER_FRAMES]),
        "latency_ms": checks.latency(timed, frames[0], THREADS, runs),
        "targets": {
            "mediapipe": task_metadata.objections(settings, options.takes or ""),
            "edge_tpu": edge_tpu.report(parsed),
        },
        "settings": settings.to_dict(),
    }


def heads(model: tf_keras.Model, frame: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a network for one frame: {"codes": [1, A, 4], "logits": [1, A, C + 1]}."""
    outputs = model(frame[np.newaxis].astype(np.float32), training=False)
    return {head: outputs[head].numpy() for head in checks.HEADS}


def disagreement(parity: dict[str, Any]) -> str | None:
    """The problem, if a file's heads differ from the reference network's by more than the limit, or its detections from
    those that its heads tell."""
    if parity["within"]:
        found = parity.get("detections")
        told = found and agreement.disagreement(found, found["limit"])
        return told and f"decoding and suppression inside the file: {told}"
    if "near" in parity["limit"]:
        worst = min(checks.HEADS, key=lambda head: checks.share_within(parity[head]["quanta"], 1))
        counts = parity[worst]["quanta"]
        most = max(steps for steps, count in enumerate(counts) if count)
        return (
            f"{checks.share_within(counts, 1):.2%} of the file's {worst} are within one step of the evaluation graph's "
            f"and the furthest is {most} off; {checks.NEAR:.0%} and {checks.MOST} are the limits"
        )
    limit = Limit(**parity["limit"])
    wrong = [head for head in checks.HEADS if not limit.holds(parity[head]["sqnr_db"], parity[head]["relative"])]
    told = ", ".join(
        f"{head} have {parity[head]['sqnr_db']:.1f} dB and {parity[head]['relative']:.1e}" for head in wrong
    )
    return (
        f"the file's {told}: SQNR to the float network's, and the largest difference over the largest value; legal are "
        f"{limit}"
    )


def unfit(targets: dict[str, Any], target: str | None) -> str | None:
    """Why a file is not for the client that `target` names, from the part `targets` of its report; None if it is."""
    if target == "edge_tpu":
        return edge_tpu.problem(targets["edge_tpu"])
    told = "; ".join(targets["mediapipe"]) if target == "mediapipe" else ""
    return f"MediaPipe does not take the file: {told}" if told else None


def table(report: dict[str, Any]) -> list[str]:
    """The report for the console, in 80 columns."""
    parity, latency = report["parity"], report["latency_ms"]
    lines = [f"size {_bytes(report['bytes'])} (float32: {_bytes(report['float32_bytes'])})"]
    counts = [f"{n} {op} {kind}" for op, kinds in report["operators"].items() for kind, n in kinds.items()]
    lines += textwrap.wrap(f"operators {', '.join(counts)}", 80, subsequent_indent="  ")
    lines.append(f"{'on ' + str(parity['frames']) + ' real images':<24}{'largest':>10}{'relative':>10}{'SQNR':>10}")
    for head in checks.HEADS:
        row = parity[head]
        text = f"  {head:<22}{row['largest']:>10.1e}{row['relative']:>10.1e}{row['sqnr_db']:>7.1f} dB"
        if "quanta" in row:
            text += f"  within 1 step {checks.share_within(row['quanta'], 1):.1%}"
        lines.append(text)
    if "detections" in parity:
        lines.append(f"  scores behind the end{'':<1}{parity['detections']['largest_score_difference']:>10.1e}")
        lines += textwrap.wrap(f"  {agreement.NOTHING}", 80) * (parity["detections"]["partners"] is None)
        lines += [ONE_THREAD] * (f"with_{max(THREADS)}_threads" in parity["detections"])
    if report.get("scores"):
        lines.append(accuracy.line(report["scores"]))
    for row in report["layers"][:WORST]:
        lines.append(f"  {short(row['tensor'])[:52]:<52}{row['sqnr_db']:>7.1f} dB")
    for threads, times in latency.items():
        beside = f" (float32: {times['float32']:.2f} ms)" if "float32" in times else ""
        lines.append(f"latency, {threads} thread{'s' if threads != '1' else ' '}  {times['file']:.2f} ms{beside}")
    refused = "; ".join(report["targets"]["mediapipe"])
    told = f"MediaPipe  {'does not take it: ' + refused if refused else 'its ObjectDetector takes this file'}"
    lines += textwrap.wrap(told, 80, subsequent_indent=" " * 11)
    return lines + [edge_tpu.line(report["targets"]["edge_tpu"])] * (report["options"]["quantize"] in INT8)


def short(tensor: str) -> str:
    """The layer in a tensor's name: `ssd/Conv2d_0/Relu6/Relu6;ssd/...` -> `Conv2d_0/Relu6`."""
    parts = tensor.split(";")[0].split("/")
    return "/".join(parts[1:-1]) if len(parts) > 2 else tensor


def _described(model: schema.ModelT, end: dict[str, int]) -> dict[str, dict[str, Any]]:
    described = {}
    for name, index in end.items():
        tensor = model.subgraphs[0].tensors[index]
        row: dict[str, Any] = {"shape": [int(n) for n in tensor.shape], "type": flatbuffer.dtype_name(tensor)}
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            row |= {"step": float(tensor.quantization.scale[0]), "zero": int(tensor.quantization.zeroPoint[0])}
        described[name] = row
    return described


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def open_file(path: Path, threads: int = 1) -> tuple[Runner, Settings]:
    """A file of `detect export`, ready to run with so many threads, or with one if more would give wrong results.

    Raises WeightsError for any other file.
    """
    content = trial.read(Path(path))
    runner = Runner(content, threads, name=str(path))
    settings = Settings.read(runner.model, str(path))
    if detection_output.right_threads(settings, threads) != threads:
        runner = Runner(content, detection_output.right_threads(settings, threads), name=str(path))
    wanted = set(OUTPUTS) if settings.nms != "none" else set(checks.HEADS)
    if set(runner.outputs) != wanted:
        given, promised = ", ".join(runner.outputs), ", ".join(sorted(wanted))
        raise WeightsError(f"{path}: the file gives {given}, but its metadata promise {promised}")
    runner.check_shapes(settings.size, detection_output.shapes(settings))
    return runner, settings
