"""The nearest cell of a study, from a csv that is written by hand: which one it is, and which arm it speaks for."""

import csv

import pytest

from detect.studies.nearest import STUDIES, best_rate, nearest

ABOUT = {"classes": 4, "images": 100, "boxes": 120, "box_share": 0.3}


def row(
    arm, seed, ap, fraction=1.0, dataset="boards", images=100, boxes=110, share=0.3, network="SSD MobileNetV1", **more
):
    return {
        "arm": arm, "seed": seed, "split": "test", "AP": ap, "data": f"{dataset}{fraction}", "dataset": dataset,
        "study": "two_stage", "fraction": fraction, "budget": 100, "variant": "", "baseline": "", "steps": 100,
        "network": network, "images": images, "boxes": boxes, "box share": share,
    } | more  # fmt: skip


def write(folder, rows, name="two_stage"):
    (folder / name).mkdir()
    with (folder / name / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def arms(gain, noise=0.01, **cell):
    """B, B+ and C over three seeds; C is `gain` above B+, within `noise`."""
    rows = []
    for seed, shift in enumerate((-noise, 0, noise)):
        rows += [row("generic", seed, 0.3, **cell), row("generic_extra", seed, 0.32, **cell)]
        rows += [row("crops", seed, 0.32 + gain + shift, **cell)]
    return rows


def test_the_cell_of_as_many_images_and_boxes_of_that_size(tmp_path):
    rows = [
        *arms(0.1),
        *arms(0.1, fraction=0.2, images=20, boxes=22),
        *arms(0.1, dataset="cells", boxes=1400, share=0.1),
    ]
    write(tmp_path, rows)
    like = nearest(ABOUT, "SSD MobileNetV2", tmp_path)
    assert (like.dataset, like.fraction, like.images, like.boxes) == ("boards", 1.0, 100, 110)
    assert like.distance == pytest.approx(0.1255, abs=1e-3)  # log2 of 1.2 / 1.1 boxes an image; the rest is equal
    assert nearest(ABOUT | {"images": 24, "boxes": 25}, "SSD MobileNetV1", tmp_path).fraction == 0.2
    assert nearest(ABOUT | {"boxes": 2000, "box_share": 0.12}, "SSD MobileNetV1", tmp_path).dataset == "cells"


def test_a_study_of_the_same_meta_architecture_comes_first(tmp_path):
    write(tmp_path, [*arms(0.1), *arms(0.1, dataset="far", images=9000, network="FasterRCNN InceptionV3")])
    assert nearest(ABOUT, "FasterRCNN VGG16", tmp_path).dataset == "far"
    assert nearest(ABOUT, "SSD VGG16", tmp_path).dataset == "boards"


@pytest.mark.parametrize(
    ("gain", "noise", "arm"), [(0.1, 0.01, "crops"), (0.1, 0.2, "generic"), (-0.1, 0.01, "generic")]
)
def test_stage_1_is_advised_where_it_was_worth_more_beyond_the_noise(tmp_path, gain, noise, arm):
    write(tmp_path, arms(gain, noise))
    like = nearest(ABOUT, "SSD MobileNetV1", tmp_path)
    assert like.best_arm == arm
    text = "\n".join(like.lines())
    assert "C crops" in text and "n = 3" in text and max(map(len, like.lines())) <= 80


def test_variants_studies_of_other_questions_and_other_csv_files_are_left_out(tmp_path):
    write(tmp_path, [row("fpn", 0, 0.3), row("plain", 0, 0.3)], "extras")
    write(tmp_path, arms(0.1, variant="schedule.batch_norm=frozen"))
    write(tmp_path, [{"run": "a", "file": "b"}], "exports")
    write(tmp_path, [row(arm, 0, 0.1) for arm in ("generic", "crops")], "fixed")  # stage 1 without an arm of equal cost
    assert nearest(ABOUT, "SSD MobileNetV1", tmp_path) is None


def test_what_is_committed_can_be_read():
    assert STUDIES.name == "experiments" and STUDIES.is_dir()
    nearest(ABOUT, "SSD MobileNetV1")


def rates(found, network="SSD MobileNetV1", **more):
    """Rows on val of one comparison: {rate: AP}."""
    variants = {rate: f"schedule.rate={rate}" for rate in found}
    return [row("generic", 0, ap, network=network, split="val", variant=variants[r], **more) for r, ap in found.items()]


def test_the_rate_that_was_best_most_often(tmp_path):
    rows = [
        *rates({0.001: 0.2, 0.003: 0.4, 0.01: 0.3}),
        *rates({0.001: 0.2, 0.003: 0.3}, dataset="cells"),
        *rates({0.003: 0.2, 0.01: 0.3}, dataset="digits"),
        *rates({0.001: 0.2, 0.003: 0.1}, network="SSD VGG16"),
        *rates({0.01: 0.9}, network="FasterRCNN VGG16"),  # nothing to compare it with
        row("generic", 0, 0.9, split="val", variant="schedule.rate=0.1 schedule.batch_norm=frozen"),
        row("generic", 0, 0.9, split="test", variant="schedule.rate=0.1"),
    ]
    write(tmp_path, rows)
    assert best_rate("SSD MobileNetV1", tmp_path) == 0.003
    assert best_rate("SSD InceptionV2", tmp_path) == 0.003  # of the same meta-architecture
    assert best_rate("SSD VGG16", tmp_path) == 0.001
    assert best_rate("FasterRCNN VGG16", tmp_path) is None and best_rate("FCOS VGG16", tmp_path) is None
    assert best_rate("SSD MobileNetV1", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("network", "rate"),
    [
        ("SSD MobileNetV1", 0.003),
        ("SSD MobileNetV2", 0.003),
        ("SSD VGG16", 0.001),
        ("FasterRCNN InceptionV3", 0.001),
        ("FCOS MobileNetV2", None),
    ],
)
def test_the_rates_of_the_committed_studies(network, rate):
    assert best_rate(network) == rate
