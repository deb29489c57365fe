"""The tables of a study by hand.

AP on val: B .40 .41 .42, B+ .41 .42 .43, C .44 .46 .48 for seeds 0, 1, 2; of a fifth of the images B .20, C .15.
"""

import pytest

from detect.studies import csv_file
from detect.studies.blocks import markdown
from detect.studies.cells import figure, rivals, study_of
from detect.studies.records import collect
from detect.studies.rows import completed, reported, run_rows
from detect.studies.statistics import detectable
from detect.studies.tables import compute, difference, interval, run_tables


def rows_of(folder, path, baseline=None):
    """What results.csv says of the runs below a folder."""
    runs = completed([reported(run, ["test", "val"]) for run in collect(folder).runs], baseline)
    csv_file.write_csv(path, run_rows(runs))
    return csv_file.read_csv(path)


@pytest.fixture
def rows(study, tmp_path):
    return rows_of(study, tmp_path / "results.csv")


def by_caption(blocks, start):
    (found,) = (block for block in blocks if block.caption.startswith(f"**{start}"))
    return found


def test_means_and_paired_differences(rows):
    table = by_caption(run_tables(rows), "On val")
    assert table.heads == ("data", "images", "arm", "seeds", "AP", "AP50", "minutes")
    assert table.rows == (
        ("cats", "100%", "B generic", "3", "0.410 ± 0.025", "0.205 ± 0.012", "0.3"),
        ("cats", "100%", "B+ generic_extra", "3", "0.420 ± 0.025", "0.210 ± 0.012", "0.5"),
        ("cats", "100%", "C crops", "3", "0.460 ± 0.050", "0.230 ± 0.025", "0.5"),
        ("cats", "20%", "B generic", "1", "0.200", "0.100", "0.3"),
        ("cats", "20%", "C crops", "1", "0.150", "0.075", "0.5"),
    )
    assert by_caption(run_tables(rows), "On test").rows[0][4] == "0.310 ± 0.025"
    table = by_caption(run_tables(rows), "Differences on val")
    assert table.heads == ("data", "images", "arm", "minus", "AP", "95% interval", "pairs", "resolved")
    assert table.rows == (
        ("cats", "100%", "B+ generic_extra", "B generic", "+0.010", "[+0.010, +0.010]", "3", "yes"),
        ("cats", "100%", "C crops", "B generic", "+0.050", "[+0.025, +0.075]", "3", "yes"),
        ("cats", "100%", "C crops", "B+ generic_extra", "+0.040", "[+0.015, +0.065]", "3", "yes"),
        ("cats", "20%", "C crops", "B generic", "-0.050", "", "1", "no"),
    )


def test_the_compute_counts_each_training_once(rows):
    """Eight trainings on two splits: 3 x .3 + 3 x .5 + 3 x .5 minutes of all images, and .3 + .5 of a fifth."""
    assert len(rows) == 2 * len({(row["arm"], row["seed"], row["fraction"]) for row in rows})
    seconds = {(row["arm"], row["seed"], row["fraction"]): float(row["minutes"]) for row in rows}
    assert compute(rows) == [f"compute: 11 trainings, {sum(seconds.values()):.1f} minutes in all"]
    assert compute([row | {"minutes": "90"} for row in rows]) == ["compute: 11 trainings, 16.5 hours in all"]
    file = {"run": "a (0)", "seed": "0", "minutes": "2"}
    files = [file | {"file": kind, "command": f"detect export quantize={kind}"} for kind in ("ptq", "none")]
    assert compute(files) == ["compute: 1 training, 2.0 minutes in all"]
    assert compute([{"file": "saved model", "minutes": "n/a"}]) == []


def test_a_difference_whose_interval_holds_zero_is_unresolved(tmp_path, make_run):
    for seed, (generic, crops) in enumerate(((0.40, 0.41), (0.42, 0.41), (0.41, 0.43))):
        make_run(tmp_path / f"b{seed}", "generic", seed, (0.1, generic))
        make_run(tmp_path / f"c{seed}", "crops", seed, (0.1, crops))
    table = by_caption(run_tables(rows_of(tmp_path, tmp_path / "results.csv")), "Differences on val")
    # .01 -.01 .02: mean .00667, deviation .01528
    assert table.rows == (("cats", "C crops", "B generic", "+0.007", "[-0.031, +0.045]", "3", "no"),)


def test_pairs_need_the_same_seed_and_the_same_data(tmp_path, make_run):
    other = {"name": "cats", "fingerprint": "split otherwise"}
    for seed in (0, 1, 2):
        make_run(tmp_path / f"b{seed}", "generic", seed, (0.1, 0.4))
    make_run(tmp_path / "c1", "crops", 1, (0.1, 0.5))
    make_run(tmp_path / "c2", "crops", 2, (0.1, 0.5), dataset=other)
    make_run(tmp_path / "c3", "crops", 3, (0.1, 0.5))
    make_run(tmp_path / "d7", "random", 7, (0.1, 0.5))
    table = by_caption(run_tables(rows_of(tmp_path, tmp_path / "results.csv")), "Differences on val")
    assert [row[1:] for row in table.rows] == [
        ("A random", "B generic", "no pair", "", "0", "no"), ("C crops", "B generic", "+0.100", "", "1", "no")
    ]  # fmt: skip


def test_the_difference_that_seeds_can_resolve(rows, tmp_path, make_run):
    # On test: B+ - B is .01 three times; C - B is .03 .04 .05 and C - B+ .02 .03 .04: deviations 0, .01, .01.
    table = by_caption(run_tables(rows), "Which difference the seeds can resolve on test")
    assert table.heads[:6] == ("data", "arm", "minus", "pairs", "deviation of a pair", "3 seeds")
    found = f"{detectable(0.01, 3):.3f}"
    assert [row[1:6] for row in table.rows] == [  # of a fifth of the images there is a single pair
        ("B+ generic_extra", "B generic", "3", "0.000", "0.000"),
        ("C crops", "B generic", "3", "0.010", found),
        ("C crops", "B+ generic_extra", "3", "0.010", found),
    ]
    make_run(tmp_path / "alone" / "a")
    make_run(tmp_path / "alone" / "b", "crops")
    blocks = run_tables(rows_of(tmp_path / "alone", tmp_path / "alone.csv"))
    assert not any(block.caption.startswith("**Which") for block in blocks)


def test_steps_and_seconds_to_a_share_of_the_baseline(rows):
    # B ends with .41: .205, .328 and .369 are asked for; of a fifth of the images .10, .16 and .18.
    table = by_caption(run_tables(rows), "Steps and seconds")
    assert table.heads[2:6] == ("arm", "steps to 50%", "steps to 80%", "steps to 90%")
    assert [row[2:] for row in table.rows] == [
        ("B generic", "100", "100", "100", "20", "20", "20"),
        ("B+ generic_extra", "100", "100", "100", "20", "20", "20"),
        ("C crops", "50", "50", "50", "19", "19", "19"),
        ("B generic", "50", "100", "100", "10", "20", "20"),
        ("C crops", "100", "-", "-", "29", "-", "-"),
    ]


def test_extra_steps_against_the_stage_1_that_they_replace(study, tmp_path, make_run):
    make_run(study / "a_plus", "random_extra", 0, (0.0, 0.1), extra=20)
    make_run(study / "d", "random_crops", 0, (0.1, 0.2), first=8.0)
    for seed, first in ((1, 5.0), (2, 80.0)):  # the last run was disturbed
        make_run(study / f"a_plus{seed}", "random_extra", seed, (0.0, 0.1), extra=20)
        make_run(study / f"d{seed}", "random_crops", seed, (0.1, 0.2), first=first)
    table = by_caption(run_tables(rows_of(study, tmp_path / "results.csv")), "Compute of the further steps")
    assert table.rows == (
        ("cats", "A+ random_extra", "20", "4", "8", "D random_crops", "0.50"),
        ("cats", "B+ generic_extra", "50", "10", "9", "C crops", "1.11"),
    )


def test_ap_per_class_for_each_data_set(study, make_run):
    for seed in (0, 1):
        make_run(study / f"dogs{seed}", seed=seed, kind="dog", dataset={"name": "dogs", "fingerprint": "d"})
    tables = [t for t in run_tables(rows_of(study, study / "results.csv")) if t.caption.startswith("**AP per class")]
    assert [table.heads for table in tables] == [("data", "images", "arm", "cat"), ("data", "arm", "dog")]
    assert tables[0].rows[0] == ("cats", "100%", "B generic", "0.310 ± 0.025")
    assert tables[1].rows == (("dogs", "B generic", "0.300 ± 0.000"),)


def test_a_command_for_every_cell(rows):
    listing = by_caption(run_tables(rows), "Commands")
    assert listing.lines[:2] == (
        "# cats, 100% of the images, 100 steps, B generic: seeds 0, 1, 2",
        "detect train arm=generic seed=0 dataset.root=cats",
    )
    assert len(listing.lines) == 2 * 5


def test_another_baseline(tmp_path, make_run):
    for seed in (0, 1):
        make_run(tmp_path / f"p{seed}", "plain", seed, (0.1, 0.3))
        make_run(tmp_path / f"f{seed}", "fpn", seed, (0.1, 0.4))
    rows = rows_of(tmp_path, tmp_path / "results.csv")
    assert not any(block.caption.startswith("**Differences") for block in run_tables(rows))
    rows = rows_of(tmp_path, tmp_path / "results.csv", "plain")
    table = by_caption(run_tables(rows), "Differences on val")
    assert table.rows == (("cats", "fpn", "plain", "+0.100", "[+0.100, +0.100]", "2", "yes"),)
    assert by_caption(run_tables(rows), "Steps and seconds").caption.endswith("of plain's AP**")


def test_arms_of_other_steps_or_variants_are_not_compared(tmp_path, make_run):
    make_run(tmp_path / "b", "generic")
    make_run(tmp_path / "c", "crops", budget=200)
    make_run(tmp_path / "d", "crops", overrides=("schedule.batch_norm=frozen",))
    make_run(tmp_path / "e", "crops")
    blocks = run_tables(rows_of(tmp_path, tmp_path / "results.csv"))
    assert by_caption(blocks, "On val").heads[:4] == ("data", "steps", "variant", "arm")
    found = [row[-6:-3] for row in by_caption(blocks, "Differences on val").rows]
    assert found == [("C crops", "B generic", "+0.000"), ("C crops", "no variant", "+0.000")]


def test_a_variant_may_be_the_baseline(tmp_path, make_run, caplog):
    """As in a grid over one setting, where every run has a value of it."""
    for seed in (0, 1):
        for crop, ap in ((17, 0.4), (8, 0.5), (4, 0.4 + 0.1 * seed)):
            overrides = (f"detector.roi.crop={crop}",)
            make_run(tmp_path / f"crop{crop}_{seed}", "generic", seed, (0.1, ap), overrides=overrides)
    table = by_caption(run_tables(rows_of(tmp_path, tmp_path / "results.csv", "crop=17")), "Differences on val")
    assert [row[1:] for row in table.rows] == [
        ("crop=4", "B generic", "crop=17", "+0.050", "[-0.585, +0.685]", "2", "no"),
        ("crop=8", "B generic", "crop=17", "+0.100", "[+0.100, +0.100]", "2", "yes"),
    ]
    assert "nothing is compared" not in caplog.text


def test_a_variant_is_held_against_the_same_arm_without_it(tmp_path, make_run):
    for seed in (0, 1):
        for arm, plain, frozen in (("generic", 0.4, 0.1 + 0.1 * seed), ("crops", 0.5, 0.5)):
            make_run(tmp_path / f"{arm}{seed}", arm, seed, (0.1, plain))
            make_run(tmp_path / f"{arm}{seed}f", arm, seed, (0.1, frozen), overrides=("schedule.batch_norm=frozen",))
    table = by_caption(run_tables(rows_of(tmp_path, tmp_path / "results.csv")), "Differences on val")
    assert [row[1:-2] for row in table.rows if row[3] == "no variant"] == [
        ("batch_norm=frozen", "B generic", "no variant", "-0.250", "[-0.885, +0.385]"),
        ("batch_norm=frozen", "C crops", "no variant", "+0.000", "[+0.000, +0.000]"),
    ]
    assert [row[1:-3] for row in table.rows if row[3] == "B generic"] == [
        ("", "C crops", "B generic", "+0.100"),
        ("batch_norm=frozen", "C crops", "B generic", "+0.350"),
    ]


def test_where_training_ended(rows):
    # 1 / step, every ten steps: of 100 the last tenth is step 100; of B+'s 150 it is 140 and 150
    table = by_caption(run_tables(rows), "The end of training")
    assert table.heads == ("data", "images", "arm", "classification loss")
    assert [row[2:] for row in table.rows[:2]] == [
        ("B generic", "0.010 ± 0.000"), ("B+ generic_extra", "0.007 ± 0.000")
    ]  # fmt: skip


def test_runs_on_their_own_have_a_line_each(tmp_path, make_run):
    make_run(tmp_path / "a", "mine", study=None)
    rows = rows_of(tmp_path, tmp_path / "results.csv")
    (table,) = run_tables(rows)
    assert table.heads == ("split", "arm", "run", "seed", "AP", "AP50", "AP75", "AR100", "cat", "minutes")
    assert table.rows[1] == ("val", "mine", "a", "0", "0.400", "0.200", "0.250", "0.250", "0.400 / n/a", "0.3")
    assert markdown([table]).startswith("| split | arm | run | seed | AP |") and markdown([table]).count("\n") == 4


def test_runs_on_their_own_beside_a_study_are_no_cell_of_it(tmp_path, make_run):
    for name, study in (("a", None), ("b", None), ("c", "study")):
        make_run(tmp_path / name, study=study)
    alone, means = run_tables(rows_of(tmp_path, tmp_path / "results.csv"))[:2]
    assert len(alone.rows) == 2 * 2 and alone.heads[:4] == ("split", "arm", "run", "seed")
    assert [row[:3] for row in means.rows] == [("cats", "B generic", "1")]


def test_a_data_set_with_val_alone_is_in_all_tables(tmp_path, make_run):
    """And a data set without the baseline has no time to a share of its AP."""
    for seed in range(2):
        make_run(tmp_path / f"a{seed}", "generic", seed)
        make_run(tmp_path / f"b{seed}", "crops", seed, dataset={"name": "dogs", "fingerprint": "d"})
    rows = [
        row for row in rows_of(tmp_path, tmp_path / "results.csv") if (row["dataset"], row["split"]) != ("dogs", "test")
    ]
    blocks = run_tables(rows)
    assert [row[:2] for row in by_caption(blocks, "The end of training").rows] == [
        ("cats", "B generic"),
        ("dogs", "C crops"),
    ]
    reached = by_caption(blocks, "Steps and seconds").rows
    assert reached[-1][:2] == ("dogs", "C crops") and set(reached[-1][2:]) == {""}
    assert "dogs" in markdown(blocks).partition("**Commands**")[2]


@pytest.mark.parametrize(
    ("value", "found"), [(0.0, 0.0), ("0.0", 0.0), ("", None), (None, None), ("n/a", None), ("-", None)]
)
def test_a_figure_of_zero_is_one(value, found):
    assert figure({"AP": value}, "AP") == found


def test_rivals():
    assert rivals("crops", "generic") == ["generic", "generic_extra"]
    assert rivals("random_crops", "generic") == ["generic"] and rivals("generic", "generic") == []
    assert rivals("crops", "random") == ["random"]
    assert rivals("random_crops", "random") == ["random", "random_extra"]


def test_cells_are_in_the_protocols_order(rows):
    assert [cell.arm for cell in study_of(rows, "val").cells][:3] == ["generic", "generic_extra", "crops"]


def test_nothing_to_show():
    assert interval(None) == "n/a" and difference(None) == "no pair"
