"""Exported files and other measurements: their lines in the csv, and the tables of these."""

import json
from dataclasses import asdict

import pytest

from detect.errors import DataError
from detect.studies import csv_file
from detect.studies.export_rows import export_rows, file_kind, latencies, measured_rows
from detect.studies.export_tables import export_tables, measured, measured_tables
from detect.studies.pictures import timed
from detect.studies.records import collect
from detect.studies.statistics import detectable
from detect.studies.writer import write
from detect.tflite.options import Options

OPTIONS = {"quantize": "ptq", "weights": "per_tensor", "nms": "tflite_op", "batch": 1}
EXPORT = {
    "format": "tflite",
    "options": OPTIONS,
    "bytes": 2_500_000,
    "scores": {"split": "test", "images": 72, "run": {"AP": 0.5, "AP50": 0.75}, "file": {"AP": 0.25, "AP50": 0.5}},
    "latency_ms": {"1": {"file": 4.125, "float32": 11.25}, "2": {"file": 3.5, "float32": 7.0}},
}


def through_csv(rows, path):
    csv_file.write_csv(path, rows)
    return csv_file.read_csv(path)


def leave(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_a_file_that_lies_in_its_run(tmp_path, make_run):
    leave(make_run(tmp_path / "run", "crops", 3, first=10.0) / "tflite_ptq", "export.json", EXPORT)
    (table,) = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))
    assert table.caption == "**Exported files** on test (72 images)"
    assert dict(zip(table.heads, table.rows[0], strict=True)) == {
        "run": "crops (3)", "file": "ptq per_tensor, tflite_op", "AP": "0.250", "AP50": "0.500",
        "AP of the run": "0.500", "change": "-0.250", "MB": "2.50", "ms 1 thread": "4.12 (11.25)",
        "ms 2 threads": "3.50 (7.00)", "minutes": "0.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ran", "told"),
    [
        ("detect export run=runs/a format=tflite", "detect export run=runs/a format=tflite"),
        ("python3.11 -m detect.cli export run=/data/a", "detect export run=a"),
        ("python /data/scripts/bits.py '/data/my run'", "python bits.py 'my run'"),
        ("a 'quotation mark without its second", ""),
    ],
)
def test_a_row_has_the_command_that_made_the_file_without_local_paths(tmp_path, ran, told):
    leave(tmp_path / "file", "export.json", EXPORT | {"command": ran})
    leave(tmp_path / "other", "measured.json", {"study": "s", "columns": {"ms": 3.0}, "command": ran})
    records = collect(tmp_path)
    assert [row["command"] for row in [*export_rows(records), *measured_rows(records)]] == [told, told]


def test_files_of_several_seeds_have_a_mean_change_with_its_interval(tmp_path, make_run):
    for seed, lost in enumerate((0.01, 0.02, 0.03)):
        run = make_run(tmp_path / f"run{seed}", "crops", seed, first=10.0)
        for kind, after in (("none", 0.5), ("ptq", 0.5 - lost)):
            scores = {"split": "test", "images": 72, "run": {"AP": 0.5}, "file": {"AP": after}}
            about = EXPORT | {"options": OPTIONS | {"quantize": kind}, "scores": scores}
            leave(run / kind, "export.json", about)
    over, costs, each = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))
    assert len(each.rows) == 6 and over.caption == "**Over seeds** on test (72 images)"
    assert over.heads == ("arm", "file", "seeds", "AP before", "AP", "change", "95% interval", "resolved", "resolvable")
    unlike = ("crops", "ptq per_tensor, tflite_op", "3", "0.500 ± 0.000", "0.480 ± 0.025")
    assert over.rows == (
        (
            "crops",
            "float32 per_tensor, tflite_op",
            "3",
            "0.500 ± 0.000",
            "0.500 ± 0.000",
            "+0.000",
            "[+0.000, +0.000]",
            "no",
            "0.000",
        ),
        (*unlike, "-0.020", "[-0.045, +0.005]", "no", f"{detectable(0.01, 3):.3f}"),
    )  # t(.975, 2) s / sqrt(3) = 4.303 x .01 / 1.732 = .0248
    assert costs.rows[1][2:] == ("3", "2.50", "0.37 (0.37 to 0.37)", "0.50 (0.50 to 0.50)")  # 4.125 / 11.25, 3.5 / 7


def test_single_files_of_several_seeds_are_on_the_page_and_not_in_markdown(tmp_path, make_run):
    for seed in (0, 1):
        leave(make_run(tmp_path / f"run{seed}", "crops", seed) / "tflite_ptq", "export.json", EXPORT)
    write(tmp_path, tmp_path / "study", rows="exports")
    text, page = ((tmp_path / "study" / name).read_text() for name in ("table.md", "report.html"))
    assert "**Exported files** on test (72 images)\n\n2 rows: report.html and the csv file have them.\n" in text
    assert "crops (0)" not in text and "crops (0)" in page and "crops (1)" in page


def test_the_change_of_a_fake_quantised_file_counts_from_the_float_detector_that_it_started_from(tmp_path, make_run):
    def ship(run, kind, before, after, **more):
        scores = {"split": "test", "images": 72, "run": {"AP": before}, "file": {"AP": after}} | more
        leave(run / kind, "export.json", EXPORT | {"options": OPTIONS | {"quantize": kind}, "scores": scores})

    for seed, (before, after) in enumerate(((0.5, 0.48), (0.6, 0.59))):
        start = make_run(tmp_path / f"float{seed}", "crops", seed)
        ship(start, "none", before, before)
        agnostic = {"options": OPTIONS | {"quantize": "none", "class_agnostic": True}}
        scores = {"split": "test", "images": 72, "run": {"AP": 0.1}, "file": {"AP": 0.1}}
        leave(start / "none_agnostic", "export.json", EXPORT | agnostic | {"scores": scores})
        weights = {"weights": str(start / "detector" / "best")}
        alone = make_run(tmp_path / f"alone{seed}", "alone", seed, init=weights)
        ship(alone, "qat", 0.9, after, float={"AP": 0.7}, float_stage="quantized")  # .7: its own weights, not rounded
        ship(alone, "ptq", 0.9, after)  # a float file has no other detector before it
        together = make_run(tmp_path / f"together{seed}", "together", seed)
        ship(together, "qat", 0.9, after, float={"AP": before - 0.1}, float_stage="detector")
        elsewhere = make_run(tmp_path / f"elsewhere{seed}", "elsewhere", seed, init={"weights": "gone/detector/best"})
        ship(elsewhere, "qat", 0.9, after)
    over, *_ = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))
    assert {(row[0], row[1].split()[0] + row[1][-9:] * ("agnostic" in row[1])): row[3:6:2] for row in over.rows} == {
        ("crops", "float32"): ("0.550 ± 0.635", "+0.000"),
        ("crops", "float32-agnostic"): ("0.100 ± 0.000", "+0.000"),
        ("alone", "qat"): ("0.550 ± 0.635", "-0.015"),
        ("alone", "ptq"): ("0.900 ± 0.000", "-0.365"),
        ("together", "qat"): ("0.450 ± 0.635", "+0.085"),
        ("elsewhere", "qat"): ("0.900 ± 0.000", "-0.365"),
    }


def test_a_seed_whose_float_detector_is_not_known_does_not_change_what_the_row_is_about(tmp_path, make_run, caplog):
    for seed, after in enumerate((0.45, 0.4, 0.35)):
        start = make_run(tmp_path / f"float{seed}", "crops", seed)
        run = make_run(tmp_path / f"qat{seed}", "mine", seed, init={"weights": str(start / "detector" / "best")})
        scores = {"split": "test", "images": 72, "run": {"AP": after}, "file": {"AP": after}}
        leave(run / "qat", "export.json", EXPORT | {"options": OPTIONS | {"quantize": "qat"}, "scores": scores})
        if seed:
            plain = {"options": OPTIONS | {"quantize": "none"}, "scores": scores | {"run": {"AP": 0.5}}}
            leave(start / "none", "export.json", EXPORT | plain)
    over = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))[0]
    (row,) = (row for row in over.rows if row[0] == "mine")
    assert row[2:6:3] == ("2", "-0.125")  # .40 and .35 of .50: not 0 with the AP of the run itself

    leave(run / "again", "export.json", EXPORT | {"options": OPTIONS | {"quantize": "qat"}, "scores": scores})
    over = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))[0]
    assert not any(row[0] == "mine" for row in over.rows)
    assert "mine, qat per_tensor, tflite_op: a seed has several files of this kind" in caplog.text
    assert "qat2/again" in caplog.text and "qat2/qat" in caplog.text


def test_only_seeds_of_one_cell_have_a_common_mean(tmp_path, make_run):
    for share in (0.25, 1.0):
        for seed in (0, 1):
            run = make_run(tmp_path / f"{share}_{seed}", "crops", seed, fraction=share)
            about = EXPORT | {"scores": EXPORT["scores"] | {"file": {"AP": 0.5 - share / 10}}}
            leave(run / "tflite_ptq", "export.json", about)
    for seed in (0, 1):  # another data set
        run = make_run(
            tmp_path / f"single{seed}", "crops", seed, study=None, dataset={"name": f"data{seed}", "fingerprint": "0"}
        )
        leave(run / "tflite_ptq", "export.json", EXPORT)
    over, *_ = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))
    assert [(row[0], row[3], row[6]) for row in over.rows] == [
        ("25% of the images", "2", "-0.025"),
        ("100% of the images", "2", "-0.100"),
    ]


def test_runs_that_differ_in_a_setting_are_named_by_it_and_have_no_common_mean(tmp_path, make_run):
    for rate in ("0.001", "0.003"):
        run = make_run(tmp_path / rate, "crops", overrides=(f"schedule.rate={rate}",))
        leave(run / "tflite_ptq", "export.json", EXPORT)
    (table,) = export_tables(through_csv(export_rows(collect(tmp_path)), tmp_path / "x.csv"))
    assert [row[0] for row in table.rows] == ["crops rate=0.001 (0)", "crops rate=0.003 (0)"]


def test_a_file_that_lies_elsewhere_names_its_run(tmp_path, make_run):
    run = make_run(tmp_path / "runs" / "a", "mine", study=None)
    leave(tmp_path / "files" / "one", "export.json", EXPORT | {"command": f"detect export run={run} format=tflite"})
    leave(tmp_path / "files" / "two", "export.json", {"format": "saved_model", "bytes": 1000, "latency_ms": 25.0,
                                                      "command": "detect export run=gone"})  # fmt: skip
    rows = export_rows(collect(tmp_path))
    assert [row["run"] for row in rows] == ["gone", "mine (0)"]
    (table,) = export_tables(through_csv(rows, tmp_path / "x.csv"))
    first = dict(zip(table.heads, table.rows[0], strict=True))
    assert (first["file"], first["AP"], first["change"], first["ms"], first["minutes"]) == (
        "SavedModel", "n/a", "n/a", "25.00", "n/a"
    )  # fmt: skip
    assert first["ms 1 thread"] == "" and table.rows[1][-1] == "0.3"


@pytest.mark.parametrize(
    ("about", "kind"),
    [
        ({"options": OPTIONS | {"quantize": "none", "weights": "per_channel", "nms": "none"}}, "float32"),
        ({"options": OPTIONS | {"quantize": "dynamic", "nms": "none"}}, "dynamic per_tensor"),
        ({"options": OPTIONS | {"quantize": "qat", "weights": "per_channel", "batch": None}, "by": "tfmot"},
         "tfmot qat, tflite_op, any batch"),
        ({"format": "onnx", "options": {"quantize": "none", "batch": None}}, "ONNX float32, any batch"),
        ({"format": "openvino", "options": {"quantize": "none", "batch": None}}, "OpenVINO float32, any batch"),
        ({"format": "tflite", "options": asdict(Options("ptq", takes="int8"))}, "ptq, int8 image"),
        ({"format": "tflite", "options": asdict(Options("ptq", takes="float32"))}, "ptq, float32 image"),
        ({"format": "tflite", "options": asdict(Options("ptq"))}, "ptq"),
        ({"format": "saved_model", "options": {"quantize": "qat"}}, "SavedModel qat"),
        ({"format": "saved_model", "options": {"quantize": "none"}}, "SavedModel"),
        ({}, "folder"),
    ],
)  # fmt: skip
def test_what_makes_a_file_another_one(about, kind, tmp_path):
    assert file_kind(about, tmp_path / "folder") == kind


def test_latencies():
    assert latencies({"1": {"file": 4.1234}}) == {"ms 1 thread": 4.123}
    assert latencies(12.3456) == {"ms": 12.35} and latencies(None) == {}


def test_the_picture_tells_the_threads_of_its_times():
    assert timed(["ms 1 thread"] * 2) == "milliseconds, 1 thread" and timed([]) == "milliseconds"
    assert timed(["ms"]) == "milliseconds, all cores"
    assert timed(["ms", "ms 2 threads", "ms 1 thread"]) == "milliseconds, 1 thread, 2 threads, others all cores"


def test_measurements_are_tables_of_their_columns(tmp_path):
    for number, (study, columns) in enumerate([
        ("top-1", {"variant": "float", "agreement": 1.0, "photographs": 300}),
        ("top-1", {"variant": "int8", "agreement": None, "photographs": 300}),
        ("boxes", {"variant": "int8", "change": -0.0001234567}),
    ]):  # fmt: skip
        leave(tmp_path / f"{number}", "measured.json", {"study": study, "columns": columns, "host": {"cpu": "X"}})
    rows = through_csv(measured_rows(collect(tmp_path)), tmp_path / "x.csv")
    assert rows[2]["change"] == "-0.000123457" and rows[2]["agreement"] == ""
    first, second = measured_tables(rows)
    assert (first.caption, first.heads) == ("**top-1**", ("variant", "agreement", "photographs"))
    assert first.rows == (("float", "1.000", "300"), ("int8", "n/a", "300"))
    assert (second.caption, second.rows) == ("**boxes**", (("int8", "-1.2e-04"),))


@pytest.mark.parametrize("name", ["study", "folder", "command", "host", "versions"])
def test_a_measurement_has_no_columns_of_the_report(tmp_path, name):
    leave(tmp_path, "measured.json", {"study": "s", "columns": {name: "raspberry", "ms": 3.0}})
    with pytest.raises(DataError, match=rf"measured\.json: columns\.{name}: "):
        measured_rows(collect(tmp_path))


def test_one_study_of_measurements_needs_no_caption(tmp_path):
    leave(tmp_path, "measured.json", {"study": "s", "columns": {"a": 1}})
    assert [
        table.caption for table in measured_tables(through_csv(measured_rows(collect(tmp_path)), tmp_path / "x"))
    ] == [""]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (["0.12345", "n/a", "-0.5", "0.0"], ["0.123", "n/a", "-0.500", "0.000"]),
        (["4.287", "16.95"], ["4.29", "16.95"]),
        (["4.287", "1e3"], ["4.3", "1000.0"]),
        (["1e-35", "0.25"], ["1.0e-35", "0.250"]),
        (["300", "12.5"], ["300", "12.5"]),
        (["3 of 5", "7"], ["3 of 5", "7"]),
    ],
)
def test_a_column_has_the_digits_that_one_reads(column, shown):
    assert measured(column) == shown
