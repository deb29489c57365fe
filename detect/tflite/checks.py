"""What is measured of every exported file: how near it is to the float network, and how fast."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detect.tflite import flatbuffer
from detect.tflite.runner import Runner

HEADS = ("codes", "logits")
LIMITS = {"none": 1e-4, "float16": 1e-2}  # largest difference of the heads, relative to the largest head (at least 1)
QUANTA = 16  # the histogram's last bin holds what is further off
SECONDS, LEAST_RUNS = 20.0, 10  # timing stops after so long, but not before so many runs


def sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    """Signal to quantisation noise in dB: 10 log10 of the energy of `reference` over that of the difference."""
    noise = float(np.sum(np.square(found.astype(np.float64) - reference)))
    signal = float(np.sum(np.square(reference.astype(np.float64))))
    return 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")


def parity(
    reference: Sequence[Mapping[str, np.ndarray]],
    found: Sequence[Mapping[str, np.ndarray]],
    scales: Mapping[str, tuple[float, int] | None],
    quantize: str,
) -> dict[str, Any]:
    """Compares the heads of the float network with those of a file, frame by frame.

    scales: step and zero point of the heads of an int8 file, None of float ones.
    Returns for each head `largest` (difference), `relative` (to the largest value of the float network's, at least 1),
    `sqnr_db`, of an int8 file `quanta`: how many values are so many steps off, the last of them or more, and `within`
    where LIMITS has a limit for `quantize`.
    """
    report: dict[str, Any] = {"frames": len(reference), "limit": LIMITS.get(quantize), "within": True}
    for head in HEADS:
        wanted, got = (np.stack([outputs[head] for outputs in side]) for side in (reference, found))
        largest = float(np.abs(got - wanted).max())
        relative = largest / max(1.0, float(np.abs(wanted).max()))
        report[head] = {"largest": largest, "relative": relative, "sqnr_db": sqnr(wanted, got)}
        if (scale := scales.get(head)) is not None:
            report[head] |= {"step": scale[0], "quanta": quanta(wanted, got, *scale)}
        if quantize in LIMITS and not relative <= LIMITS[quantize]:  # a NaN is not within
            report["within"] = False
    return report


def quanta(reference: np.ndarray, found: np.ndarray, step: float, zero: int) -> list[int]:
    """How many values of an int8 file are 0, 1, ... steps off from the float values rounded to int8."""
    rounded = np.clip(np.rint(reference / step) + zero, -128, 127)
    off = np.abs(np.rint(found / step) + zero - rounded).astype(np.int64)
    return np.bincount(np.minimum(off, QUANTA).reshape(-1), minlength=QUANTA + 1).tolist()


def share_within(counts: Sequence[int], steps: int) -> float:
    """The share of a histogram of `quanta` that is at most `steps` off."""
    return sum(counts[: steps + 1]) / max(1, sum(counts))


def layers(reference: bytes, content: bytes, frames: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """SQNR of each result that a file and its float twin both have by the same name, worst first.

    reference, content: the two files. Returns rows of `tensor`, `operator`, `sqnr_db`.
    """
    runners = [Runner(file, keep_all=True) for file in (reference, content)]
    names = [_results(runner.model) for runner in runners]
    shared = [name for name in names[0] if name in names[1]]
    energies = {name: np.zeros(2) for name in shared}
    for frame in frames:
        for runner in runners:
            runner.set(frame)
            runner.invoke()
        for name in shared:
            wanted, got = (r.tensor(n[name][0]).astype(np.float64) for r, n in zip(runners, names, strict=True))
            if wanted.shape == got.shape:
                energies[name] += np.sum(np.square(wanted)), np.sum(np.square(got - wanted))
    rows = [
        {"tensor": name, "operator": names[1][name][1], "sqnr_db": 10 * float(np.log10(signal / noise))}
        for name, (signal, noise) in energies.items()
        if signal and noise
    ]
    return sorted(rows, key=lambda row: row["sqnr_db"])


def _results(model: Any) -> dict[str, tuple[int, str]]:
    """{name: (tensor, operator)} of what the operators of a file give, conversions of types left out.

    The heads have their names in the signature.
    """
    heads = {index: name for name, index in flatbuffer.ends(model)[1].items()}
    operators = [(operator, flatbuffer.operator_name(model, operator)) for operator in model.subgraphs[0].operators]
    for operator, kind in operators:
        if kind == "DEQUANTIZE" and operator.outputs[0] in heads:
            heads[int(operator.inputs[0])] = heads[int(operator.outputs[0])]
    results = ((int(o.outputs[0]), kind) for o, kind in operators if kind not in ("QUANTIZE", "DEQUANTIZE", "CAST"))
    return {heads.get(index) or flatbuffer.tensor_name(model, index): (index, kind) for index, kind in results}


def detections(
    reference: Sequence[tuple[np.ndarray, ...]], found: Sequence[tuple[np.ndarray, ...]], shown: int = 20
) -> dict[str, float]:
    """The largest difference of the `shown` best scores, in order; (boxes, scores, classes) of each frame."""
    pairs = [(a[1][:shown], b[1][:shown]) for a, b in zip(reference, found, strict=True)]
    differences = [float(np.abs(_padded(a, shown) - _padded(b, shown)).max()) for a, b in pairs]
    return {"largest_score_difference": max(differences)}


def _padded(scores: np.ndarray, length: int) -> np.ndarray:
    return np.pad(scores, (0, length - len(scores)))


def latency(files: Mapping[str, bytes], frame: np.ndarray, threads: Sequence[int], runs: int) -> dict[str, Any]:
    """Median milliseconds of one frame, {threads: {name: ms}}: files in turn, so that a busy moment meets them all."""
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


def timed(call: Any, runs: int) -> float:
    """Median milliseconds of a call, after one to warm up."""
    call()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < runs and not (len(times) >= LEAST_RUNS and time.perf_counter() - started > SECONDS):
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))
    return float(np.median(times))
