"""A whole study written: files, README, page, TensorBoard; the tables again from the csv alone; its cost."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from detect.errors import DataError
from detect.studies import pictures
from detect.studies.cells import study_of
from detect.studies.csv_file import read_csv
from detect.studies.records import collect
from detect.studies.rows import reported
from detect.studies.sweep_tables import conclude
from detect.studies.writer import rewrite, write

FILES = "results.csv", "curves.csv"
README = "# Study\n<!-- table -->\nold\n<!-- end of table -->\nverdict\n"


@pytest.mark.drawn
def test_a_study_is_written(study, tmp_path):
    output = tmp_path / "experiments" / "mine"
    output.mkdir(parents=True)
    (output / "README.md").write_text(README)
    text = write(study, output)
    assert text.startswith("**On test**") and "resolved" in text
    assert {path.name for path in output.iterdir()} == {
        "README.md", "results.csv", "curves.csv", "table.md", "curves.png", "compute.png", "report.html"
    }  # fmt: skip
    table = (output / "table.md").read_text()
    assert (output / "README.md").read_text() == README.replace("old\n", table)
    points = list(csv.DictReader((output / "curves.csv").open()))
    assert len(points) == 8 * 2 + 3 * 3
    assert [(p["step"], p["seconds"], p["AP"]) for p in points if p["arm"] == "crops" and p["fraction"] == "0.2"] == [
        ("50", "19.0", "0.05"), ("100", "29.0", "0.15")
    ]  # fmt: skip
    assert "data:image/png;base64," in (output / "report.html").read_text()
    assert (output / "curves.png").read_bytes()[1:4] == b"PNG"
    assert (study / "events.out.tfevents.layout").is_file()
    assert {path.name for path in (study / "mean_of_seeds").iterdir()} == {
        "B_generic", "B+_generic_extra", "C_crops"
    }  # fmt: skip


def test_the_cost_of_each_arm_is_that_of_both_stages(study, tmp_path, make_run):
    write(study, tmp_path / "out")
    groups = pictures.spent(study_of(read_csv(tmp_path / "out" / "results.csv"), "test"))
    assert {
        title: {arm: [(cost, round(ap.mean, 3), ap.count) for cost, ap in found] for arm, found in arms.items()}
        for title, arms in groups.items()
    } == {
        "cats, 100% of the images": {
            "B generic": [(100, 0.31, 3)],
            "B+ generic_extra": [(150, 0.32, 3)],
            "C crops": [(150, 0.36, 3)],
        },
        "cats, 20% of the images": {"B generic": [(100, 0.1, 1)], "C crops": [(150, 0.05, 1)]},
    }
    for seed in range(2):
        make_run(tmp_path / "equal" / f"generic_s{seed}", "generic", seed, (0.2, 0.4))
        make_run(tmp_path / "equal" / f"random_s{seed}", "random", seed, (0.1, 0.2))
    write(tmp_path / "equal", tmp_path / "out")
    assert not (tmp_path / "out" / "compute.png").exists()  # all arms cost the same


def test_the_csv_alone_gives_the_same_tables(study, tmp_path):
    write(study, tmp_path / "out")
    first = {name: (tmp_path / "out" / name).read_text() for name in ("table.md", "report.html", "results.csv")}
    for name in ("table.md", "report.html"):
        (tmp_path / "out" / name).unlink()
    rewrite(tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_text() for name in first} == first


def test_the_folder_of_the_runs_may_take_the_report(study):
    before = write(study, study)
    assert write(str(study), study) == before


def test_every_file_is_read_once(study, monkeypatch):
    reads, read_text = Counter(), Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: reads.update([path]) or read_text(path, *a, **k))
    for run in study.glob("crops*"):
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text("[]")
        about = (run / "summary.json").read_text().replace("detect train", "detect train -m")
        (run / "summary.json").write_text(about)
    reads.clear()
    write(study, study / "out")
    inside = {path: count for path, count in reads.items() if path.suffix in (".json", ".jsonl", ".yaml")}
    assert len(inside) == 11 * 2 + 4 + 4 and set(inside.values()) == {1}


def test_several_kinds_are_several_tables(tmp_path, make_run):
    run = make_run(tmp_path / "a", "mine", study=None)
    (run / "export.json").write_text('{"format": "saved_model", "bytes": 1000}')
    (tmp_path / "measured.json").write_text('{"study": "s", "columns": {"x": 1}}')
    write([tmp_path], tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    places = [text.index(f"**{caption}**") for caption in ("Training runs", "Measured", "Exported files")]
    assert places == sorted(places)
    names = ("results.csv", "measured.csv", "exports.csv", "exports.png")
    assert all((tmp_path / "out" / name).is_file() for name in names)
    write([tmp_path], tmp_path / "out", rows="measured")
    assert not any((tmp_path / "out" / name).exists() for name in (*names[1:], "curves.png"))
    assert (tmp_path / "out" / "table.md").read_text() == "| x |\n|---|\n| 1 |\n"


@pytest.mark.parametrize(
    ("rows", "missing"), [(None, "no finished run"), ("exports", "no export.json"), ("measured", "no measured.json")]
)
def test_nothing_to_report(tmp_path, rows, missing):
    with pytest.raises(DataError, match=missing):
        write(tmp_path, tmp_path / "out", rows=rows)
    assert not (tmp_path / "out").exists()


def test_an_error_leaves_the_last_report_in_place(study, make_run):
    write(study, study)
    before = (study / "results.csv").read_text()
    make_run(study / "again", "crops", 0)
    with pytest.raises(DataError, match="the same cell"):
        write(study, study)
    assert (study / "results.csv").read_text() == before


def test_a_csv_of_something_else_is_refused(tmp_path):
    (tmp_path / "results.csv").write_text("arm,seed,split\nx,0,val\n")
    with pytest.raises(DataError, match=r"results\.csv does not have the columns of a report"):
        rewrite(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text + b"<<<<<<< HEAD\n", r"results\.csv:\d+: the row has 1 cell, and the head has \d+"),
        (lambda text: text.replace(b"\ngeneric,", b"\ngeneric,more,"), r"results\.csv:\d+: the row has \d+ cells"),
        (lambda text: text.replace(b"\ngeneric,", b"\n"), r"results\.csv:\d+: the row has \d+ cells"),
        (lambda text: text + b"gr\xfcn", r"results\.csv is not a CSV file in UTF-8"),
    ],
)
def test_an_edited_csv_is_one_message(study, change, told):
    write(study, study)
    path = study / "results.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=told):
        rewrite(study)


def test_the_mark_of_a_spreadsheet_changes_nothing(study):
    write(study, study)
    path = study / "results.csv"
    before = rewrite(study)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rewrite(study) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[: text.index(b"\n") + 1], r"results\.csv has no rows"),
        (lambda text: b"", r"results\.csv has no rows"),
        (lambda text: text.replace(b",", b";"), r"results\.csv: its cells are separated by ';': save it with commas"),
        (lambda text: text.replace(b",", b"\t"), r"results\.csv: its cells are separated by '\\t'"),
    ],
)
def test_a_csv_without_rows_or_commas_is_one_message(study, change, told):
    write(study, study)
    (study / "results.csv").write_bytes(change((study / "results.csv").read_bytes().partition(b'"')[0] + b"\n"))
    with pytest.raises(DataError, match=told):
        rewrite(study)


def test_a_mean_of_some_of_the_seeds_tells_their_number(tmp_path, make_run):
    for seed in range(3):
        make_run(tmp_path / "runs" / f"{seed}", seed=seed, ap=(0.2, 0.4 + seed / 10))
    file = tmp_path / "runs" / "0" / "summary.json"
    summary = json.loads(file.read_text())
    summary["scores"]["test"]["AP"] = None
    file.write_text(json.dumps(summary))
    write(tmp_path / "runs", tmp_path / "out")
    assert "| 0.450 ± 0.635 (2 of 3) |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize("place", ["runs", "runs/m", "elsewhere/deep"])
def test_a_report_from_another_working_directory_has_the_same_rows(tmp_path, make_run, monkeypatch, place):
    for name in ("a", "b"):
        measure(tmp_path / "runs" / "m" / name, variant=name, ms=1.5)
        export(tmp_path / "runs" / "m" / name / "tflite", command=f"detect export run={name}")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "m", tmp_path / "out", keep=None)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    write(tmp_path / "runs" / "m", tmp_path / "out", keep=None)
    assert [row["variant"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["a", "b"]


def test_arms_whose_names_differ_in_signs_have_folders_of_their_own_for_tensorboard(tmp_path, make_run):
    for number, arm in enumerate(("a/b", "a_b", "a b")):
        make_run(tmp_path / "runs" / str(number), arm)
    write(tmp_path / "runs", tmp_path / "out")
    assert len(list((tmp_path / "runs" / "mean_of_seeds").iterdir())) == 3


def test_a_picture_has_the_best_groups_and_the_csv_has_all(tmp_path, make_run, monkeypatch, caplog):
    drawn = []
    caplog.set_level("INFO")
    monkeypatch.setattr(pictures, "MOST", 3)
    monkeypatch.setattr(pictures.plots, "bands_figure", lambda bands, watched: drawn.append((bands, watched)))
    monkeypatch.setattr(pictures, "save", lambda path, figure: None)
    for number in range(5):
        make_run(tmp_path / "runs" / str(number), ap=(0.1, number / 10), overrides=(f"schedule.rate=.00{number + 1}",))
    write(tmp_path / "runs", tmp_path / "out")
    ((bands, watched),) = drawn
    assert [title.rpartition("=")[2] for title in bands] == ["0.003", "0.004", "0.005"] and list(watched) == list(bands)
    assert len({row["variant"] for row in read_csv(tmp_path / "out" / "curves.csv")}) == 5
    assert "curves.png shows 3 of 5 groups, those with the highest AP: curves.csv has all" in caplog.text


def test_no_csv(tmp_path):
    with pytest.raises(DataError, match=r"has no results\.csv"):
        rewrite(tmp_path)


MEASURED = """
import sys, time
from pathlib import Path
start = time.process_time()
import psutil
from detect.studies import pictures
from detect.studies.cells import study_of
from detect.studies.csv_file import read_csv
from detect.studies.writer import write
write(Path(sys.argv[1]), Path(sys.argv[2]))
memory = psutil.Process().memory_info().rss / 1e9  # GB
print(time.process_time() - start, memory, "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_two_hundred_runs_cost_seconds_and_no_tensorflow(tmp_path, make_run):
    runs = tmp_path / "runs"
    for number, arm in enumerate(("random", "generic", "generic_extra", "crops", "random_crops") * 40):
        seed, fraction = number // 5 % 10, (1.0, 0.5, 0.2, 0.1)[number // 50]
        ap, first = (0.1, 0.3 + seed / 100), 5.0 * ("crops" in arm)
        make_run(runs / f"{number}", arm, seed, ap, fraction, first, every=1)  # a hundred lines of figures
    command = [sys.executable, "-c", MEASURED, str(runs), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seconds, gigabytes, tensorflow = done.stdout.split()
    assert float(seconds) < 20 and float(gigabytes) < 1 and tensorflow == "False"
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 2 * 200


def test_debug_runs_are_left_out_and_rows_name_their_folders(tmp_path, make_run, caplog):
    caplog.set_level("INFO")
    make_run(tmp_path / "runs" / "real", study=None, name="mine")
    make_run(tmp_path / "runs" / "tried", study=None, name="mine", overrides=("debug=step",), seed=1)
    text = write(tmp_path / "runs", tmp_path / "out")
    assert "run  " in text and "real" in text and "tried" not in text
    assert "1 debug runs are left out: tried" in caplog.text
    with pytest.raises(DataError, match="1 runs with debug= are left out"):
        write(tmp_path / "runs" / "tried", tmp_path / "out")


def test_runs_that_ran_elsewhere_keep_their_rows(study, tmp_path_factory):
    base = tmp_path_factory.mktemp("studies")
    write(study, base / "whole")
    write(study, base / "parts")
    (base / "elsewhere").mkdir()
    for name in ("generic_s1", "crops_s0"):
        shutil.move(study / name, base / "elsewhere")
    before = contents(base / "parts")
    with pytest.raises(DataError, match=r"results\.csv has 2 training runs .*: crops_s0, generic_s1\. keep=true"):
        write(study, base / "parts", keep=None)
    assert contents(base / "parts") == before
    for _ in range(2):  # rows of rows stay what they are
        write(study, base / "parts", keep=True)
        assert contents(base / "parts") == contents(base / "whole")
    write(base / "elsewhere", base / "parts", keep=True)  # the other machine goes on
    assert contents(base / "parts") == contents(base / "whole")
    write(study, base / "parts")
    assert not {"generic_s1", "crops_s0"} & {row["run"] for row in read_csv(base / "parts" / "results.csv")}


def contents(folder):
    """The rows of both CSV files in any order, and the tables."""
    tables = (folder / "table.md").read_text()
    return [sorted(map(sorted, (row.items() for row in read_csv(folder / name)))) for name in FILES], tables


def test_kept_runs_follow_the_names_of_new_variants(tmp_path, make_run):
    for seed in (0, 1):
        make_run(tmp_path / "here" / f"plain{seed}", seed=seed)
    write(tmp_path / "here", tmp_path / "out")
    for seed in (0, 1):
        make_run(tmp_path / "there" / f"fast{seed}", seed=seed, overrides=("schedule.rate=1",))
    write(tmp_path / "there", tmp_path / "out", keep=True)
    found = {(row["run"], row["variant"]) for row in read_csv(tmp_path / "out" / "results.csv")}
    assert found == {("plain0", ""), ("plain1", ""), ("fast0", "rate=1"), ("fast1", "rate=1")}
    assert {row["variant"] for row in read_csv(tmp_path / "out" / "curves.csv")} == {"", "rate=1"}


def test_kept_rows_do_not_tell_the_times_to_another_baseline(tmp_path, make_run):
    make_run(tmp_path / "here" / "a")
    write(tmp_path / "here", tmp_path / "out")
    make_run(tmp_path / "there" / "b", "fpn")
    write(tmp_path / "there", tmp_path / "out", keep=True, baseline="none of them")
    assert not any(row.get("steps to 50%") for row in read_csv(tmp_path / "out" / "results.csv"))


def test_the_table_of_speed_needs_no_rows_of_the_split_of_the_curves(study, tmp_path):
    write(study, tmp_path / "both")
    write(study, tmp_path / "one", splits=["test"])
    both, one = (read_csv(tmp_path / name / "results.csv") for name in ("both", "one"))
    assert one == [row for row in both if row["split"] == "test"] and one[0]["steps to 80%"]
    assert "Steps and seconds to a share" in (tmp_path / "one" / "table.md").read_text()


def test_a_cell_is_not_kept_beside_its_repetition(tmp_path, make_run):
    make_run(tmp_path / "first" / "a", "crops", 3)
    write(tmp_path / "first", tmp_path / "out")
    make_run(tmp_path / "second" / "b", "crops", 3)
    with pytest.raises(DataError, match=r"results\.csv: a and .*b are the same cell|b and .*: a are the same cell"):
        write(tmp_path / "second", tmp_path / "out", keep=True)


def test_the_same_folder_trained_again_replaces_its_rows(tmp_path, make_run):
    make_run(tmp_path / "runs" / "a", ap=(0.1, 0.2), study=None, fraction=0.5)
    write(tmp_path / "runs", tmp_path / "out")
    shutil.rmtree(tmp_path / "runs")
    make_run(tmp_path / "runs" / "a", ap=(0.1, 0.3), study=None, fraction=0.5)
    write(tmp_path / "runs", tmp_path / "out", keep=None)
    assert [row["AP"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["0.2", "0.3"]


def export(folder, **about):
    """An exported file of a run, as `detect export` leaves it."""
    folder.mkdir(parents=True)
    scores = {"split": "test", "images": 72, "run": {"AP": 0.5, "AP50": 0.75}, "file": {"AP": 0.25, "AP50": 0.5}}
    about = {"format": "tflite", "options": {"quantize": "ptq"}, "bytes": 2_500_000, "scores": scores} | about
    (folder / "export.json").write_text(json.dumps(about))


def measure(folder, **columns):
    folder.mkdir(parents=True)
    (folder / "measured.json").write_text(json.dumps({"study": "speed", "columns": columns}))


@pytest.mark.parametrize("whole", ["exports", "measured", "together"])
def test_exports_and_measurements_that_are_elsewhere_keep_their_rows(tmp_path, make_run, whole):
    """Two runs share a name and a seed, and two measurements share all words."""
    here, there = tmp_path / "runs", tmp_path / "elsewhere"
    for name in ("a", "b"):
        if whole != "measured":
            export(here / name / "tflite_ptq", command=f"detect export run=runs/{name}", latency_ms=4.0)
        if whole != "exports":
            measure(here / "speed" / name, variant="int8", ms=None if name == "a" else 1.5)
    if whole == "together":
        make_run(here / "run")
    write(here, tmp_path / "whole")
    write(here, tmp_path / "parts")
    there.mkdir()
    for k, place in enumerate(("b", "speed/b")):
        if (here / place).exists():
            shutil.move(here / place, there / f"{k}")
    told = "1 exported file" if whole == "exports" else "1 measurement"
    with pytest.raises(DataError, match=rf"parts/\w+\.csv has {told} whose folders are not here: .*b.* keep=true"):
        write(here, tmp_path / "parts", keep=None)
    for _ in range(2):
        write(here, tmp_path / "parts", keep=True)
        for name in ("results.csv", "exports.csv", "measured.csv"):
            files = [tmp_path / folder / name for folder in ("whole", "parts")]
            first, second = (sorted(map(sorted, map(dict.items, read_csv(f)))) if f.exists() else [] for f in files)
            assert first == second, name
    write(here, tmp_path / "parts")
    left = [row.get("folder") or "" for file in (tmp_path / "parts").glob("*.csv") for row in read_csv(file)]
    assert not any(place.endswith(("b/tflite_ptq", "speed/b")) for place in left)


def test_a_table_whose_files_are_all_elsewhere_stays(tmp_path, make_run):
    make_run(tmp_path / "runs" / "a")
    export(tmp_path / "runs" / "a" / "tflite")
    write(tmp_path / "runs", tmp_path / "out")
    shutil.rmtree(tmp_path / "runs" / "a" / "tflite")
    with pytest.raises(DataError, match=r"exports\.csv has 1 exported file .* not here, and this report has no table"):
        write(tmp_path / "runs", tmp_path / "out", keep=True, rows="runs")
    write(tmp_path / "runs", tmp_path / "out", keep=True)
    assert len(read_csv(tmp_path / "out" / "exports.csv")) == 1


def test_what_is_exported_and_measured_again_replaces_its_rows(tmp_path):
    export(tmp_path / "runs" / "a" / "tflite")
    measure(tmp_path / "runs" / "b", variant="int8", ms=1.5)
    write(tmp_path / "runs", tmp_path / "out")
    shutil.rmtree(tmp_path / "runs")
    export(tmp_path / "runs" / "a" / "tflite", bytes=1000)
    measure(tmp_path / "runs" / "b", variant="int8", ms=2.5)
    write(tmp_path / "runs", tmp_path / "out", keep=None)
    assert [row["ms"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["2.5"]
    assert [row["MB"] for row in read_csv(tmp_path / "out" / "exports.csv")] == ["0.001"]


def test_rows_of_an_earlier_version_are_known_by_their_words(tmp_path):
    export(tmp_path / "runs" / "a" / "tflite")
    (tmp_path / "out").mkdir()
    head, rows = "run,file,split,images,AP,AP50,AP of the run,MB,minutes,host,versions\n", "{},ptq,test,72,,,,1,,,\n"
    (tmp_path / "out" / "results.csv").write_text(head + rows.format("a"))
    write(tmp_path / "runs", tmp_path / "out", keep=None)
    (tmp_path / "out" / "results.csv").write_text(head + rows.format("a") + rows.format("b"))
    write(tmp_path / "runs", tmp_path / "out", keep=True)
    assert [row["run"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["a", "b"]


def test_an_earlier_file_of_another_kind_is_not_taken_as_runs(tmp_path, make_run):
    make_run(tmp_path / "runs" / "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.csv").write_text("study,x\ns,1\n")
    write(tmp_path / "runs", tmp_path / "out", keep=True)
    assert len(read_csv(tmp_path / "out" / "results.csv")) == 2
    assert read_csv(tmp_path / "out" / "measured.csv") == [{"study": "s", "x": "1"}]
    (tmp_path / "out" / "results.csv").write_text("arm,seed,split,run\na,none,test,b\n")
    with pytest.raises(DataError, match=r"results\.csv does not have the columns"):
        write(tmp_path / "runs", tmp_path / "out", keep=True)
    write(tmp_path / "runs", tmp_path / "out")


def test_a_report_that_is_stopped_while_it_draws_has_lost_nothing(study, make_run, tmp_path, monkeypatch):
    make_run(tmp_path / "gone" / "far", "crops", 9)
    write(tmp_path / "gone", study)
    shutil.rmtree(tmp_path / "gone")
    write(study, study, keep=True)
    before = [read_csv(study / name) for name in FILES]

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures.plots, "bands_figure", stop)
    with pytest.raises(KeyboardInterrupt):
        write(study, study, keep=True)
    assert [read_csv(study / name) for name in FILES] == before


def test_files_of_an_earlier_report_that_this_one_does_not_write_are_removed(tmp_path, make_run):
    make_run(tmp_path / "study" / "a")
    make_run(tmp_path / "single" / "a", study=None)
    write(tmp_path / "study", tmp_path / "out")
    assert (tmp_path / "out" / "curves.csv").exists()
    write(tmp_path / "single", tmp_path / "out")
    assert not (tmp_path / "out" / "curves.csv").exists() and (tmp_path / "out" / "curves.png").exists()


def test_runs_on_a_disk_that_can_not_be_written_are_reported(study, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(30, "Read-only file system", "events")

    monkeypatch.setattr(pictures.tensorboard_layout, "write_layout", full)
    write(study, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").exists() and "no means for TensorBoard" in caplog.text


def test_exports_of_debug_runs_are_left_out(tmp_path, make_run, monkeypatch):
    export(make_run(tmp_path / "runs" / "real", study=None) / "tflite")
    tried = make_run(tmp_path / "runs" / "tried", study=None, seed=1, overrides=("debug=overfit",))
    export(tried / "tflite")
    export(tmp_path / "files" / "of_tried", command=f"detect export run={tried}")
    monkeypatch.chdir(tmp_path)
    write([tmp_path / "runs", tmp_path / "files"], tmp_path / "out", rows="exports")
    assert [row["folder"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["runs/real/tflite"]


def configured(run, **values):
    values = {"seed": 0, "schedule": {"rate": 0.01}, "init": {"path": "x"}} | values
    (run / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))


@pytest.mark.parametrize("more", [{}, {"minutes": None}])
def test_runs_of_one_cell_that_a_file_made_unlike_are_named(tmp_path, make_run, caplog, more):
    for seed, rate in ((0, 0.01), (1, 0.01), (2, 0.3)):
        run = make_run(tmp_path / "runs" / f"s{seed}", seed=seed)
        place = {"path": f"runs/float_s{seed}"}
        configured(run, seed=seed, schedule={"rate": rate}, init=place, threads=seed, **(more if seed else {}))
    write(tmp_path / "runs", tmp_path / "out")
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("s0 and s2 count as one cell, but schedule.rate is 0.01 in the first and 0.3 in the second")


def test_runs_of_one_cell_that_are_alike_are_not_named(tmp_path, make_run, caplog):
    for seed in (0, 1, 2):
        configured(make_run(tmp_path / "runs" / f"s{seed}", seed=seed), seed=seed)
    (tmp_path / "runs" / "s2" / "config.yaml").write_text("x: [")
    write(tmp_path / "runs", tmp_path / "out")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_small_shares_of_the_images_are_told_apart(tmp_path, make_run):
    for fraction in (0.001, 0.005, 0.125):
        for seed in (0, 1):
            make_run(
                tmp_path / "runs" / f"{fraction}_{seed}", seed=seed, fraction=fraction, ap=(0.1, 10 * fraction / 2)
            )
    text = write(tmp_path / "runs", tmp_path / "out")
    assert all(f"  {share}  " in text for share in ("12.5%", "0.5%", "0.1%"))
    assert len(pictures.by_group([reported(run, ["val"]) for run in collect(tmp_path / "runs").runs])) == 3


def test_a_run_that_was_extended_replaces_its_rows(tmp_path, make_run):
    make_run(tmp_path / "runs" / "a")
    write(tmp_path / "runs", tmp_path / "out")
    about = json.loads((tmp_path / "runs" / "a" / "summary.json").read_text())
    about |= {"budget": 200, "command": about["command"] + " schedule.patience=5"}
    (tmp_path / "runs" / "a" / "summary.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="1 training run"):  # nothing says that it is the same run
        write(tmp_path / "runs", tmp_path / "out", keep=None)
    about["extended"] = [{"changed": {"schedule.steps": [100, 200]}}]
    (tmp_path / "runs" / "a" / "summary.json").write_text(json.dumps(about))
    write(tmp_path / "runs", tmp_path / "out", keep=None)
    assert {row["budget"] for row in read_csv(tmp_path / "out" / "results.csv")} == {"200"}


@pytest.mark.parametrize("study", [None, "study"])
def test_runs_whose_folders_have_one_name_keep_their_rows(tmp_path, make_run, study):
    """As sweeps leave them, whose jobs have the number 0."""
    make_run(tmp_path / "plain" / "0", study=study)
    make_run(tmp_path / "rate" / "0", study=study, overrides=("schedule.rate=.02",))
    make_run(tmp_path / "steps" / "0", study=study, overrides=("schedule.steps=200",), budget=200)
    make_run(tmp_path / "images" / "0", study=study, overrides=("limit.fraction=.5",), fraction=0.5)
    make_run(tmp_path / "patience" / "0", study=study, overrides=("schedule.patience=3",))
    write(tmp_path, tmp_path / "out")
    before = sorted(row["command"] for row in read_csv(tmp_path / "out" / "results.csv"))
    with pytest.raises(DataError, match="4 training runs"):
        write(tmp_path / "plain", tmp_path / "out", keep=None)
    write(tmp_path / "plain", tmp_path / "out", keep=True)
    assert sorted(row["command"] for row in read_csv(tmp_path / "out" / "results.csv")) == before


def test_an_export_whose_run_has_a_new_name_replaces_its_row(tmp_path, make_run):
    export(make_run(tmp_path / "runs" / "a") / "tflite")
    write(tmp_path / "runs", tmp_path / "out", rows="exports")
    export(make_run(tmp_path / "runs" / "b", overrides=("schedule.rate=.01",)) / "tflite")
    write(tmp_path / "runs", tmp_path / "out", rows="exports", keep=None)
    assert [row["run"] for row in read_csv(tmp_path / "out" / "results.csv")] == [
        "generic (0)",
        "generic rate=0.01 (0)",
    ]


def test_the_end_of_a_sweep_keeps_the_rows_whose_runs_are_gone(tmp_path, make_run):
    make_run(tmp_path / "a", seed=0)
    conclude(tmp_path)
    shutil.rmtree(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    conclude(tmp_path)
    assert {row["seed"] for row in read_csv(tmp_path / "results.csv")} == {"0", "1"}


@pytest.mark.parametrize(
    ("git", "told"), [({"commit": "abc", "dirty": True}, "abc (changed)"), ({"commit": "abc"}, "abc")]
)
def test_a_checkout_with_changes_is_no_commit(tmp_path, make_run, git, told):
    make_run(tmp_path / "runs" / "a", git=git)
    write(tmp_path / "runs", tmp_path / "out")
    assert {row["commit"] for row in read_csv(tmp_path / "out" / "results.csv")} == {told}


def test_a_single_run_beside_a_study_has_no_curve(tmp_path, make_run):
    make_run(tmp_path / "runs" / "alone", study=None)
    make_run(tmp_path / "runs" / "cell", "crops")
    write(tmp_path / "runs", tmp_path / "out")
    lines = (tmp_path / "out" / "curves.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 and all("crops" in line for line in lines[1:])


def test_exports_of_two_sweeps_with_folders_of_one_name_keep_their_rows(tmp_path, make_run):
    """As `hydra.sweep.dir=runs/mine/plain` and `.../mosaic` leave them: their cells are 0 and 1."""
    for name in ("plain", "mosaic"):
        for seed in range(2):
            folder = make_run(tmp_path / name / str(seed), name, seed) / "tflite_ptq"
            folder.mkdir()
            (folder / "export.json").write_text('{"format": "tflite", "bytes": 1000, "options": {"quantize": "ptq"}}')
    write([tmp_path / "plain", tmp_path / "mosaic"], tmp_path / "out", rows="exports")
    shutil.rmtree(tmp_path / "mosaic")
    write(tmp_path / "plain", tmp_path / "out", rows="exports", keep=True)
    runs = [line.partition(",")[0] for line in (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]]
    assert runs == ["mosaic (0)", "mosaic (1)", "plain (0)", "plain (1)"]


def test_a_folder_that_was_read_again_replaces_its_row(tmp_path):
    """As another format that is scored on another split; a folder of the same name elsewhere is another one."""
    export(tmp_path / "mine" / "0" / "tflite")
    export(tmp_path / "yours" / "mine" / "0" / "tflite", bytes=7_000_000)
    measure(tmp_path / "mine" / "speed", variant="int8")
    measure(tmp_path / "yours" / "mine" / "speed", variant="int8")
    write(tmp_path, tmp_path / "out")
    shutil.rmtree(tmp_path / "mine")
    export(tmp_path / "mine" / "0" / "tflite", options={"quantize": "none"}, scores={"split": "val", "images": 3})
    measure(tmp_path / "mine" / "speed", variant="float")
    write(tmp_path / "mine", tmp_path / "out", keep=True)
    exports, measured = (read_csv(tmp_path / "out" / name) for name in ("exports.csv", "results.csv"))
    assert [(row["file"], row["split"]) for row in exports] == [("float32", "val"), ("ptq", "test")]
    assert [row["variant"] for row in measured] == ["float", "int8"]


def test_records_of_an_earlier_version_are_known_by_their_ends(tmp_path):
    export(tmp_path / "runs" / "a" / "tflite")
    (tmp_path / "out").mkdir()
    row = "{},ptq,test,72,,,,1,,,{},,\n"
    rows = row.format("a", "a/tflite") + row.format("a", "runs/a/tflite") + row.format("b", "runs/b/tflite")
    head = "run,file,split,images,AP,AP50,AP of the run,MB,minutes,seed,record,host,versions\n"
    (tmp_path / "out" / "results.csv").write_text(head + rows)
    write(tmp_path / "runs", tmp_path / "out", keep=True)
    assert [row["run"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["a", "b"]


def test_exports_of_seed_0_are_known_by_their_folder(tmp_path, make_run):
    """A further rate gives the runs of the first one another name."""

    def export(rate, seed):
        folder = make_run(tmp_path / "runs" / f"{rate}_{seed}", "crops", seed, overrides=(f"schedule.rate={rate}",))
        (folder / "tflite").mkdir()
        (folder / "tflite" / "export.json").write_text('{"format": "tflite", "bytes": 1000, "options": {}}')

    for rate in (0.003, 0.01):
        for seed in range(2):
            export(rate, seed)
        write(tmp_path / "runs", tmp_path / "out", rows="exports", keep=None)
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 4


def test_runs_of_another_name_keep_their_rows(tmp_path, make_run):
    for name in ("old", "new"):
        make_run(tmp_path / name / "crops_s0", "crops", 0, name=name)
    write([tmp_path / "old"], tmp_path / "out")
    with pytest.raises(DataError, match="1 training run"):
        write([tmp_path / "new"], tmp_path / "out", keep=None)
    write([tmp_path / "new"], tmp_path / "out", keep=True)
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 2 * 2


@pytest.mark.parametrize("keep", [None, True])
def test_a_run_of_a_folder_of_configurations_is_the_same_run_the_next_time(tmp_path, make_run, keep):
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"s{seed}", seed=seed, overrides=("--config-dir", "/far/advice", "experiment=e"))
    write(tmp_path / "runs", tmp_path / "out")
    before = (tmp_path / "out" / "results.csv").read_text()
    write(tmp_path / "runs", tmp_path / "out", keep=keep)
    assert (tmp_path / "out" / "results.csv").read_text() == before


def test_an_augmentation_that_only_some_seeds_have_is_named(tmp_path, make_run, caplog):
    for seed in (0, 1):
        more = {"augment": {"transforms": {"noise": {"_target_": "detect.data.Noise", "p": 0.5}}}} if seed else {}
        configured(make_run(tmp_path / "runs" / f"s{seed}", seed=seed), seed=seed, **more)
    write(tmp_path / "runs", tmp_path / "out")
    assert "augment.transforms.noise.p is no such key in the first and 0.5 in the second" in caplog.text


def test_a_training_of_any_cost_and_any_loss_is_reported(tmp_path, make_run):
    """VGG16 in batches of 32 costs more than 1e15 multiply-accumulates in 1000 steps."""
    make_run(tmp_path / "runs" / "a", cost={"stage_1_macs": 10**17, "detector_macs": 10**18, "extra_steps": 0})
    assert "generic" in write(tmp_path / "runs", tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({}, {}, True),
        ({"root": "/a"}, {"root": "/b"}, True),
        ({"seed": 0}, {"seed": 1}, False),  # each draws its own split
        ({"limit": {"fraction": 1.0}}, {"limit": {"fraction": 1.0}}, True),
        ({"limit": {"fraction": 0.5}}, {"limit": {"fraction": 0.5}}, False),  # each draws its own images
    ],
)
def test_data_that_changed_between_the_runs_of_a_cell_are_told(tmp_path, make_run, caplog, first, second, told):
    for seed, more in enumerate((first, second, second)):
        data = {"name": "cats", "fingerprint": "before" if seed == 0 else "after"}
        run = make_run(tmp_path / "runs" / f"s{seed}", seed=seed, dataset=data)
        node = {"_target_": "read", **{key: value for key, value in more.items() if key != "limit"}}
        configured(run, seed=seed, dataset=node, limit=more.get("limit", {"fraction": None, "overfit": False}))
    write(tmp_path / "runs", tmp_path / "out")
    assert caplog.text.count("s0 and s1 count as one cell, but were trained on other data") == told


@pytest.mark.parametrize("rows", [None, "runs"])
@pytest.mark.parametrize(
    "name",
    [*pictures.FILES, "results.csv", "runs.csv", "measured.csv", "exports.csv", "table.md", "report.html"],
)
def test_a_users_own_files_are_not_replaced(tmp_path, make_run, name, rows):
    make_run(tmp_path / "runs" / "a", study=None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("date,distance\n1,2\n")
    with pytest.raises(DataError, match=rf"^output={tmp_path}/out: .* {re.escape(name)} there, which no report wrote"):
        write(tmp_path / "runs", tmp_path / "out", rows=rows)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_a_csv_of_the_user_beside_a_report_is_not_replaced(tmp_path, make_run):
    make_run(tmp_path / "runs" / "a", study=None)
    write(tmp_path / "runs", tmp_path / "out")
    (tmp_path / "out" / "exports.csv").write_text("date,distance\n1,2\n")
    with pytest.raises(DataError, match=r"exports\.csv there, which no report wrote"):
        write(tmp_path / "runs", tmp_path / "out")


def test_a_run_folder_keeps_its_page_and_takes_a_report(tmp_path, make_run):
    run = make_run(tmp_path / "a", study=None)
    (run / "config.yaml").write_text("{}")
    (run / "report.html").write_text("the page of the run")
    write(run, run)
    assert (run / "results.csv").is_file() and (run / "report.html").read_text() == "the page of the run"


def test_a_readme_that_is_not_utf8_is_named_and_stays(study, tmp_path, caplog):
    output = tmp_path / "out"
    output.mkdir()
    text = README.replace("verdict", "größer").encode("latin-1")
    (output / "README.md").write_bytes(text)
    write(study, output)
    assert f"{output / 'README.md'}: its table stays as it is" in caplog.text
    assert (output / "README.md").read_bytes() == text and (output / "report.html").is_file()


def test_a_readme_keeps_the_ends_of_its_lines(study, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "README.md").write_bytes(README.replace("\n", "\r\n").encode())
    write(study, output)
    table = (output / "table.md").read_text()
    assert (output / "README.md").read_bytes() == README.replace("old\n", table).replace("\n", "\r\n").encode()
