"""The figures of an export, by hand and on files."""

import math

import numpy as np
import pytest

from detect.export.tflite import package, parity


def outputs(codes: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"codes": np.array(codes, np.float32), "logits": np.ones(2, np.float32)}]


def test_sqnr_by_hand():
    assert parity.sqnr(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)  # 25 over .25
    assert parity.sqnr(np.ones(2), np.ones(2)) == math.inf


def test_quanta_by_hand():
    """Step .5, zero point 10: 0, 1.2 and 90 are the levels 10, 12 and 127 (clipped)."""
    counts = parity.quanta(np.array([0.0, 1.2, 90.0, 0.2]), np.array([0.0, 1.5, 40.0, 0.0]), 0.5, 10)
    assert counts[:2] == [2, 1] and counts[parity.QUANTA] == 1 and sum(counts) == 4
    assert parity.share_within(counts, 1) == 0.75


def test_parity_is_relative_to_the_largest_value_from_1_on():
    report = parity.parity(outputs([200.0, 1.0]), outputs([200.01, 1.0]), {}, "none")
    assert report["within"] and report["codes"]["relative"] == pytest.approx(5e-5, rel=1e-2)
    assert not parity.parity(outputs([0.5, 0.1]), outputs([0.501, 0.1]), {}, "none")["within"]
    assert parity.parity(outputs([0.5, 0.1]), outputs([0.9, 0.1]), {}, "ptq")["within"]  # no limit there


def test_nan_is_not_within():
    report = parity.parity(outputs([1.0, 2.0]), outputs([math.nan, 2.0]), {}, "float16")
    assert not report["within"] and "codes" in package.disagreement(report)


def quantum_report(steps: dict[int, int], scale=(0.5, 10)) -> dict:
    """A head of 1000 values, of which so many are so many steps off."""
    off = np.concatenate([[0] * (1000 - sum(steps.values())), *([n] * count for n, count in steps.items())])
    wanted = [{"codes": np.zeros(1000, np.float32), "logits": np.array([0.0, 127.5], np.float32)}]
    found = [wanted[0] | {"codes": (0.5 * off).astype(np.float32)}]
    return parity.parity(wanted, found, {"codes": scale, "logits": None}, "qat")


def test_a_fake_quantised_file_may_be_a_step_off_in_one_of_a_hundred_values():
    assert quantum_report({1: 900})["within"] and quantum_report({1: 500, 2: 9, 3: 1})["within"]
    told = package.disagreement(quantum_report({2: 11}))
    assert told.startswith("98.90% of the file's codes are within one step of the evaluation graph's and the furthest")
    assert "the furthest is 2 off; 99% and 3 are the limits" in told
    assert not quantum_report({4: 1})["within"] and not quantum_report({1: 1}, (math.nan, 0))["within"]


def test_a_float_head_of_a_fake_quantised_file_is_measured_in_255ths_of_its_range():
    report = parity.parity(outputs([0.0, 510.0, 100.0]), outputs([0.0, 510.0, 103.0]), {}, "qat")
    assert report["codes"]["step"] == 2.0 and report["codes"]["quanta"][:3] == [2, 0, 1] and not report["within"]


def test_results_are_found_by_the_operations_that_became_one():
    names = ["m/a/Relu6;m/a/BatchNorm/FusedBatchNormV3;m/a/Conv2D", "m/b/BatchNorm/FusedBatchNormV3;m/b/Conv2D", "m/c"]
    others = ["m/b/BiasAdd;m/b/Conv2D;", "m/a/Relu6;m/a/BiasAdd;m/a/Conv2D;", "m/d"]
    assert parity._pairs(names, others) == {names[0]: others[1], names[1]: others[0]}
    assert parity._pairs(["x;y", "y"], ["y", "x;y"]) == {"x;y": "x;y", "y": "y"}


def test_layers_of_a_fake_quantised_file(files, qat, frames):
    rows = parity.layers(files["float32"].body, qat.body, frames[:1])
    assert {"first/Relu6", "second", "third", "codes", "logits"} <= {package.short(row["tensor"]) for row in rows}
    assert rows[0]["sqnr_db"] > 20


def test_layers_are_named_and_sorted_by_damage(files, frames):
    rows = parity.layers(files["float32"].body, files["int8"].body, frames[:2])
    names = [package.short(row["tensor"]) for row in rows]
    assert {"first/Relu6", "third", "codes", "logits"} <= set(names) and len(rows) >= 6
    noise = [row["sqnr_db"] for row in rows]
    assert noise == sorted(noise) and 20 < noise[0] < noise[-1] < 80
    assert {row["operator"] for row in rows} >= {"CONV_2D", "DEPTHWISE_CONV_2D"}


def test_latency_times_every_file_with_every_number_of_threads(files, frames):
    pair = {"file": files["int8"].content, "float32": files["float32"].content}
    report = parity.latency(pair, frames[0], (1, 2), 12)
    assert set(report) == {"1", "2"} and all(0 < ms < 1000 for times in report.values() for ms in times.values())


def test_the_report_and_its_table(tiny, settings, files, frames):
    options = package.Options("ptq", nms="tflite_op")
    file = package.build(tiny.model, settings, options, frames)
    reference = package.build(tiny.model, settings, package.Options(nms="tflite_op"))
    report = package.report(file, reference, tiny.model, settings, options, frames, 5)
    assert report["bytes"] == len(file.content) and report["inputs"]["image"]["type"] == "uint8"
    assert report["operators"]["TFLite_Detection_PostProcess"] == {"float32": 1}
    assert report["operators"]["CONV_2D"] == {"int8": 4}
    assert report["parity"]["detections"]["largest_score_difference"] < 1e-5  # of the same int8 heads
    assert set(report["latency_ms"]["1"]) == {"file", "float32"}
    assert sum(report["parity"]["codes"]["quanta"]) == 3 * 16 * 24 * 4
    lines = package.table(report)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  codes") and "within 1 step" in line for line in lines)
