"""The figures of an export, by hand and on files."""

import math

import numpy as np
import pytest

from detect.tflite import checks, ship


def outputs(codes: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"codes": np.array(codes, np.float32), "logits": np.ones(2, np.float32)}]


def test_sqnr_by_hand():
    assert checks.sqnr(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)  # 25 over .25
    assert checks.sqnr(np.ones(2), np.ones(2)) == math.inf


def test_quanta_by_hand():
    """Step .5, zero point 10: 0, 1.2 and 90 are the levels 10, 12 and 127 (clipped)."""
    counts = checks.quanta(np.array([0.0, 1.2, 90.0, 0.2]), np.array([0.0, 1.5, 40.0, 0.0]), 0.5, 10)
    assert counts[:2] == [2, 1] and counts[checks.QUANTA] == 1 and sum(counts) == 4
    assert checks.share_within(counts, 1) == 0.75


def test_parity_is_relative_to_the_largest_value_from_1_on():
    report = checks.parity(outputs([200.0, 1.0]), outputs([200.01, 1.0]), {}, "none")
    assert report["within"] and report["codes"]["relative"] == pytest.approx(5e-5, rel=1e-2)
    assert not checks.parity(outputs([0.5, 0.1]), outputs([0.501, 0.1]), {}, "none")["within"]
    assert checks.parity(outputs([0.5, 0.1]), outputs([0.9, 0.1]), {}, "ptq")["within"]  # no limit there


def test_nan_is_not_within():
    report = checks.parity(outputs([1.0, 2.0]), outputs([math.nan, 2.0]), {}, "float16")
    assert not report["within"] and "codes" in ship.disagreement(report)


def test_layers_are_named_and_sorted_by_damage(files, frames):
    rows = checks.layers(files["float32"].body, files["int8"].body, frames[:2])
    names = [ship.short(row["tensor"]) for row in rows]
    assert {"first/Relu6", "third", "codes", "logits"} <= set(names) and len(rows) >= 6
    noise = [row["sqnr_db"] for row in rows]
    assert noise == sorted(noise) and 20 < noise[0] < noise[-1] < 80
    assert {row["operator"] for row in rows} >= {"CONV_2D", "DEPTHWISE_CONV_2D"}


def test_latency_times_every_file_with_every_number_of_threads(files, frames):
    pair = {"file": files["int8"].content, "float32": files["float32"].content}
    report = checks.latency(pair, frames[0], (1, 2), 12)
    assert set(report) == {"1", "2"} and all(0 < ms < 1000 for times in report.values() for ms in times.values())


def test_the_report_and_its_table(tiny, settings, files, frames):
    options = ship.Options("ptq", nms="tflite_op")
    file = ship.build(tiny.model, settings, options, frames)
    reference = ship.build(tiny.model, settings, ship.Options(nms="tflite_op"))
    report = ship.report(file, reference, tiny.model, settings, options, frames, 5)
    assert report["bytes"] == len(file.content) and report["inputs"]["image"]["type"] == "uint8"
    assert report["operators"]["TFLite_Detection_PostProcess"] == {"float32": 1}
    assert report["operators"]["CONV_2D"] == {"int8": 4}
    assert report["parity"]["detections"]["largest_score_difference"] < 1e-5  # of the same int8 heads
    assert set(report["latency_ms"]["1"]) == {"file", "float32"}
    assert sum(report["parity"]["codes"]["quanta"]) == 3 * 16 * 24 * 4
    lines = ship.table(report)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  codes") and "within 1 step" in line for line in lines)
