"""The figures of an export, by hand and on files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from detect.tflite import package, parity


def outputs(codes: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"codes": np.array(codes, np.float32), "logits": np.ones(2, np.float32)}]


def test_quanta_by_hand():
    """Step .5, zero point 10: 0, 1.2 and 90 are the levels 10, 12 and 127 (clipped)."""
    counts = parity.quanta(np.array([0.0, 1.2, 90.0, 0.2]), np.array([0.0, 1.5, 40.0, 0.0]), 0.5, 10)
    assert counts[:2] == [2, 1] and counts[parity.QUANTA] == 1 and sum(counts) == 4
    assert parity.share_within(counts, 1) == 0.75


@pytest.mark.parametrize("scale", [200.0, 0.5, 1e-4])
def test_parity_is_relative_to_the_largest_value(scale):
    wanted = outputs([scale, 0.1 * scale])
    report = parity.parity(wanted, outputs([1.0005 * scale, 0.1 * scale]), {}, "none")
    assert report["within"] and report["limit"] == {"sqnr_db": 60, "relative": 1e-3}
    assert report["codes"]["relative"] == pytest.approx(5e-4, rel=1e-2)
    assert report["codes"]["sqnr_db"] == pytest.approx(10 * np.log10(1.01 / 0.0005**2), abs=0.01)
    assert not parity.parity(wanted, outputs([1.002 * scale, 0.1 * scale]), {}, "none")["within"]
    assert parity.parity(wanted, outputs([1.002 * scale, 0.1 * scale]), {}, "float16")["within"]
    assert not parity.parity(wanted, outputs([1.02 * scale, 0.1 * scale]), {}, "float16")["within"]
    assert parity.parity(wanted, outputs([1.8 * scale, 0.1 * scale]), {}, "ptq")["within"]  # no limit there


def test_parity_has_a_limit_of_a_single_value_and_one_of_them_all():
    wanted = [{"codes": np.ones(10_000, np.float32), "logits": np.ones(2, np.float32)}]
    one = [{**wanted[0], "codes": np.where(np.arange(10_000) == 7, 1.01, 1.0).astype(np.float32)}]
    report = parity.parity(wanted, one, {}, "none")
    assert report["codes"]["sqnr_db"] > 75 and not report["within"]
    assert package.disagreement(report) == (
        "the file's codes have 80.0 dB and 1.0e-02: SQNR to the float network's, and the largest difference over the "
        "largest value; legal are an SQNR of at least 60 dB and a difference of at most 0.001"
    )
    report = parity.parity(wanted, [{**wanted[0], "codes": wanted[0]["codes"] * np.float32(1.00099)}], {}, "none")
    assert report["codes"]["relative"] < 1e-3 and report["codes"]["sqnr_db"] == pytest.approx(60.1, abs=0.1)


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


def test_the_report_and_its_table(tiny, settings, frames):
    options = package.Options("ptq", nms="tflite_op")
    file = package.build(tiny.model, settings, options, frames)
    reference = package.build(tiny.model, settings, package.Options(nms="tflite_op"))
    report = package.report(file, reference, tiny.model, settings, options, frames, 5)
    assert report["bytes"] == len(file.content) and report["inputs"]["image"]["type"] == "uint8"
    assert report["operators"]["TFLite_Detection_PostProcess"] == {"float32": 1}
    assert report["operators"]["CONV_2D"] == {"int8": 4}
    assert report["parity"]["detections"]["largest_score_difference"] < 1e-5  # of the same int8 heads
    assert report["parity"]["detections"]["partners"] == 1 and package.disagreement(report["parity"]) is None
    assert set(report["latency_ms"]["1"]) == {"file", "float32"}
    assert sum(report["parity"]["codes"]["quanta"]) == 3 * 16 * 24 * 4
    lines = package.table(report)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  codes") and "within 1 step" in line for line in lines)


def test_detections_are_those_that_the_heads_tell(tiny, settings, frames):
    """A file of right heads whose end swaps the classes, or decodes by other anchors, is told."""
    options = package.Options("ptq", nms="in_graph")
    swapped = tf_keras.models.clone_model(tiny.model)
    swapped.set_weights(tiny.model.get_weights())
    kernel, bias = swapped.get_layer("classes").get_weights()
    swapped.get_layer("classes").set_weights([kernel[..., [0, 2, 1]], bias[[0, 2, 1]]])
    right = package.build(tiny.model, settings, options, frames)
    contents = [
        right.content,
        package.build(swapped, settings, options, frames).content,
        package.build(tiny.model, replace(settings, anchors=settings.anchors + 1), options, frames).content,
    ]
    told = []
    for content in contents:
        file = package.File(content, right.body)
        report = package.report(file, right, tiny.model, settings, options, frames, 2)
        assert report["parity"]["within"]
        told.append(package.disagreement(report["parity"]))
    assert told[0] is None
    assert all("decoding and suppression" in one and "50%" in one for one in told[1:])


def test_a_file_that_finds_nothing_is_told(tiny, settings, frames):
    options = package.Options(nms="in_graph")
    strict = replace(settings, score=1.0)
    file = package.build(tiny.model, strict, options)
    report = package.report(file, file, tiny.model, strict, options, frames, 2)
    assert package.disagreement(report["parity"]) is None
    assert any("nothing was found" in line for line in package.table(report))
