"""The measurements of every exported file: its difference from the reference network, and its speed."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.evaluation.sqnr import SAME, SAME_IN_FLOAT16, decibels, relative, sqnr
from detect.tflite import flatbuffer
from detect.tflite.runner import Runner

HEADS = ("codes", "logits")
LIMITS = {"none": SAME, "float16": SAME_IN_FLOAT16}  # for each head
NEAR, MOST = 0.99, 3  # qat: the least share of a head's values within one step of the evaluation graph; the most steps
QUANTA = 16  # the last bin of the histogram holds this distance and all larger ones
SECONDS, LEAST_RUNS = 20.0, 10  # timing stops after this time, but not before this number of runs


def parity(
    reference: Sequence[Mapping[str, np.ndarray]],
    found: Sequence[Mapping[str, np.ndarray]],
    scales: Mapping[str, tuple[float, int] | None],
    quantize: str,
) -> dict[str, Any]:
    """Compares the heads of a network with those of a file, frame by frame.

    reference: the heads of the float network; for `qat`, those of the evaluation graph. scales: step and zero point of
    each head of an int8 file, None for a float head.
    Returns for each head `largest` (difference), `relative` (to the reference's largest value), `sqnr_db`, and for an
    int8 file `quanta`: how many values are 0, 1, ... steps off; the last bin also counts larger distances. Also returns
    `limit`, the limit for `quantize` or None, and `within`, whether it holds.
    """
    limit: dict[str, float] | None = {"near": NEAR, "most": MOST} if quantize == "qat" else None
    if quantize in LIMITS:
        limit = LIMITS[quantize].to_dict()
    report: dict[str, Any] = {"frames": len(reference), "limit": limit, "within": True}
    for head in HEADS:
        wanted, got = (np.stack([outputs[head] for outputs in side]) for side in (reference, found))
        largest = float(np.abs(got - wanted).max())
        report[head] = {"largest": largest, "relative": relative(wanted, got), "sqnr_db": sqnr(wanted, got)}
        scale: tuple[float, int | None] | None = scales.get(head)
        if scale is None and quantize == "qat":  # a head that is kept float: 255 steps from least to greatest value
            scale = float(np.ptp(wanted)) / 255 or 1.0, None
        if scale is not None:
            report[head] |= {"step": scale[0], "quanta": quanta(wanted, got, *scale)}
        if not _is_within(report[head], quantize):
            report["within"] = False
    return report


def _is_within(head: Mapping[str, Any], quantize: str) -> bool:
    if quantize == "qat":
        return share_within(head["quanta"], 1) >= NEAR and share_within(head["quanta"], MOST) == 1
    return quantize not in LIMITS or LIMITS[quantize].holds(head["sqnr_db"], head["relative"])


def quanta(reference: np.ndarray, found: np.ndarray, step: float, zero: int | None) -> list[int]:
    """How many values of an int8 file are 0, 1, ... steps off from the float values rounded to int8.

    zero: the zero point; None compares the values of a float head without rounding.
    """
    if zero is None:
        off = np.rint(np.abs(found - reference) / step)
    else:
        rounded = np.clip(np.rint(reference / step) + zero, -128, 127)
        off = np.abs(np.rint(found / step) + zero - rounded)
    levels = np.minimum(np.nan_to_num(off, nan=QUANTA), QUANTA).astype(np.int64)
    return np.bincount(levels.reshape(-1), minlength=QUANTA + 1).tolist()


def share_within(counts: Sequence[int], steps: int) -> float:
    """The share of the values in a histogram of `quanta` that are at most `steps` off."""
    return sum(counts[: steps + 1]) / max(1, sum(counts))


def layers(reference: bytes, content: bytes, frames: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """SQNR of each output of an operator that a file and its float twin have in common, worst first.

    reference, content: the two files. Returns rows of `tensor`, `operator`, `sqnr_db`.
    """
    runners = [Runner(file, keep_all=True) for file in (reference, content)]
    results = [_results(runner.model) for runner in runners]
    pairs = _pairs(*results)
    energies = {name: np.zeros(2) for name in pairs}
    for frame in frames:
        for runner in runners:
            runner.set(frame)
            runner.invoke()
        for name, other in pairs.items():
            tensors = (results[0][name][0], results[1][other][0])
            wanted, got = (r.tensor(index).astype(np.float64) for r, index in zip(runners, tensors, strict=True))
            if wanted.shape == got.shape:
                energies[name] += np.sum(np.square(wanted)), np.sum(np.square(got - wanted))
    rows = [
        {"tensor": name, "operator": results[1][pairs[name]][1], "sqnr_db": decibels(signal, noise)}
        for name, (signal, noise) in energies.items()
        if signal and noise
    ]
    return sorted(rows, key=lambda row: row["sqnr_db"])


def _pairs(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """{name: the other name of the same tensor}: an equal name, or else a name that shares an operation with it.

    A batch norm that was folded before the conversion is missing from a name: `a/Relu6;a/BatchNorm;a/Conv2D` becomes
    `a/Relu6;a/Conv2D`.
    """
    others = list(others)
    places = {part: other for other in reversed(others) for part in reversed(other.split(";")) if part}
    pairs: dict[str, str] = {}
    for name in names:
        candidates = [name] if name in others else [places[part] for part in name.split(";") if part in places]
        if candidates and candidates[0] not in pairs.values():
            pairs[name] = candidates[0]
    return pairs


def _results(model: schema.ModelT) -> dict[str, tuple[int, str]]:
    """{name: (tensor, operator)} of the outputs of a file's operators, without conversions of types.

    The heads have the names of the signature.
    """
    heads = {index: name for name, index in flatbuffer.ends(model)[1].items()}
    operators = [(operator, flatbuffer.operator_name(model, operator)) for operator in model.subgraphs[0].operators]
    for operator, kind in operators:
        if kind == "DEQUANTIZE" and operator.outputs[0] in heads:
            heads[int(operator.inputs[0])] = heads[int(operator.outputs[0])]
    results = ((int(o.outputs[0]), kind) for o, kind in operators if kind not in ("QUANTIZE", "DEQUANTIZE", "CAST"))
    return {heads.get(index) or flatbuffer.tensor_name(model, index): (index, kind) for index, kind in results}


def latency(files: Mapping[str, bytes], frame: np.ndarray, threads: Sequence[int], runs: int) -> dict[str, Any]:
    """Median milliseconds of one frame, {threads: {name: ms}}. Files run in turn, so other load affects all alike."""
    report = {}
    for count in threads:
        runners = {name: Runner(content, threads=count) for name, content in files.items()}
        times: dict[str, list[float]] = {name: [] for name in files}
        for runner in runners.values():
            runner.set(frame)
            for _ in range(3):
                runner.invoke()
        started = time.perf_counter()
        for run in range(runs):
            for name, runner in runners.items():
                before = time.perf_counter()
                runner.invoke()
                times[name].append(1000 * (time.perf_counter() - before))
            if run + 1 >= LEAST_RUNS and time.perf_counter() - started > SECONDS:
                break
        report[str(count)] = {name: float(np.median(values)) for name, values in times.items()}
    return report


def timed(call: Callable[[], object], runs: int) -> float:
    """Median milliseconds of a call, after one warm-up call."""
    call()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < runs and not (len(times) >= LEAST_RUNS and time.perf_counter() - started > SECONDS):
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))
    return float(np.median(times))
