"""Commands that repeat a run, and what sets runs of one cell apart."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from detect.config.grammar import parse, quoted
from detect.errors import DataError
from detect.studies.commands import _short, command, member, portable, settings, variants
from detect.studies.records import collect


def members(folder):
    return [member(run) for run in collect(folder).runs]


def variants_of(folder):
    return variants(members(folder))


@pytest.mark.parametrize(
    ("word", "short"),
    [
        ("dataset.root=/data/far/bccd", "dataset.root=bccd"),
        ("init.path='/weights/net 1/x.ckpt'", "init.path=x.ckpt"),
        ("dataset.root=/my data/the cells/", "dataset.root=the cells"),
        ("init.path='/weights/net_1.0'", "init.path=net_1.0"),
        ("runs=[/a/b,/a/c/]", "runs=[b,c]"),
        ("detector/neck=fpn", "detector/neck=fpn"),
        ('init.skip=["Mixed_*/Branch_[23]/*"]', 'init.skip=["Mixed_*/Branch_[23]/*"]'),
        ("dataset.root=data/bccd", "dataset.root=data/bccd"),
        ("arm='A B'", "arm='A B'"),
        ("name='plain'", "name=plain"),
        ("study='2024'", "study='2024'"),
        ("name='1e3'", "name='1e3'"),
        ("name='null'", "name='null'"),
    ],
)
def test_of_a_place_the_last_part_is_left(word, short):
    assert portable(word) == short


@limits(max_examples=200)
@given(st.text(max_size=12) | st.text("aß1./\\'\" ,=[", max_size=12))
@example("größe")
@example("/\\/")
def test_hydra_reads_the_value_of_a_command_again(text):
    (override,) = parse([portable(f"name={quoted(text)}")])
    assert isinstance(override.value(), str) and ("/" in text or override.value() == text)


def test_a_run_of_a_sweep_has_its_own_command(tmp_path, make_run):
    run = make_run(tmp_path / "a", command="detect train -m seed=0,1 arm=generic,crops")
    assert command(collect(tmp_path).runs[0]) == ""
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text("- seed=1\n- arm=crops\n- dataset.root=/far/away\n- resume=x\n")
    assert command(collect(tmp_path).runs[0]) == "detect train seed=1 arm=crops dataset.root=away"


def test_its_own_command_comes_first(tmp_path, make_run):
    make_run(tmp_path / "a", command="detect train seed=3 detector.size=[96,96] hydra.run.dir=/x/y")
    assert command(collect(tmp_path).runs[0]) == "detect train seed=3 'detector.size=[96,96]'"


def test_cells_mostly_have_no_variant(study):
    assert set(variants_of(study)) == {""}


def test_an_override_that_differs_makes_variants(tmp_path, make_run):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=0, overrides=("+schedule.batch_norm=frozen",))
    make_run(tmp_path / "c", seed=1, overrides=("+schedule.batch_norm=frozen",))
    make_run(tmp_path / "d", "crops", seed=0, overrides=("schedule.rate=1",))  # alone in its cell
    runs = collect(tmp_path).runs
    texts = dict(zip([run.folder.name for run in runs], variants_of(tmp_path), strict=True))
    frozen = "batch_norm=frozen"
    assert texts == {"a": "", "b": frozen, "c": frozen, "d": ""}


def test_a_variant_has_as_many_parts_of_a_key_as_tell_it_from_others():
    assert _short({"detector.anchors.base", "schedule.rate"}) == {
        "detector.anchors.base": "base",
        "schedule.rate": "rate",
    }
    keys = ("rate", "schedule.rate", "classify.schedule.rate", "steps")
    assert _short({*keys}) == {key: key for key in keys}


def test_what_follows_the_seed_is_no_variant(tmp_path, make_run):
    for seed in range(3):
        make_run(tmp_path / f"{seed}", seed=seed, overrides=(f"dataset.split_seed={seed}", f"init=/m{seed}/net"))
    assert set(variants_of(tmp_path)) == {""}


def test_paths_that_end_alike_are_told_apart_but_for_their_seeds(tmp_path, make_run):
    for seed in (0, 1):
        for start in ("a", "b"):
            make_run(tmp_path / f"{start}{seed}", seed=seed, overrides=(f"init=/w/{start}{seed}/detector/best",))
    texts = {Path(one.place).name: v for one, v in zip(members(tmp_path), variants_of(tmp_path), strict=True)}
    assert texts == {
        "a0": "init=aSEED/detector/best", "a1": "init=aSEED/detector/best",
        "b0": "init=bSEED/detector/best", "b1": "init=bSEED/detector/best",
    }  # fmt: skip


def test_the_same_name_in_another_folder_is_another_file(tmp_path, make_run):
    make_run(tmp_path / "a", seed=0, overrides=("init=/old/net.ckpt",))
    make_run(tmp_path / "b", seed=1, overrides=("init=/new/net.ckpt",))
    assert variants_of(tmp_path) == ["init=old/net.ckpt", "init=new/net.ckpt"]


def test_a_number_that_happens_to_be_the_seed_stays(tmp_path, make_run):
    for seed, rate, start in ((0, 0.1, "runs/v1/x"), (1, 0.1, "runs/v1/x"), (2, 0.2, "runs/v2/x")):
        make_run(tmp_path / f"{seed}", seed=seed, overrides=(f"schedule.rate={rate}", f"init={start}"))
    assert variants_of(tmp_path) == [
        "rate=0.1 init=runs/v1/x", "rate=0.1 init=runs/v1/x", "rate=0.2 init=runs/v2/x"
    ]  # fmt: skip


def test_a_relative_path_that_follows_the_seed_is_no_variant(tmp_path, make_run):
    for seed in (0, 1):
        make_run(tmp_path / f"{seed}", seed=seed, overrides=(f"init=runs/float/seed={seed}",))
    assert set(variants_of(tmp_path)) == {""}


def test_runs_of_one_name_are_told_apart_by_what_differs_among_them(tmp_path, make_run):
    for name in ("x", "y"):
        for rate in (0.01, 0.02):
            make_run(tmp_path / f"{name}{rate}", name=name, overrides=(f"name={name}", f"schedule.rate={rate}"))
    assert sorted(variants_of(tmp_path)) == ["x rate=0.01", "x rate=0.02", "y rate=0.01", "y rate=0.02"]


def test_names_come_first(tmp_path, make_run):
    make_run(tmp_path / "a", name="frozen", overrides=("schedule.batch_norm=frozen", "name=frozen"))
    make_run(tmp_path / "b", name="trained", overrides=("name=trained",))
    assert variants_of(tmp_path) == ["frozen", "trained"]


def test_the_same_cell_twice_is_refused(tmp_path, make_run):
    make_run(tmp_path / "a", "crops", 3)
    make_run(tmp_path / "b", "crops", 3)
    with pytest.raises(DataError, match=r"b and .*a are the same cell of the study study \(crops, seed 3, 100%"):
        variants_of(tmp_path)


def test_runs_on_their_own_may_be_alike(tmp_path, make_run):
    make_run(tmp_path / "a", study=None)
    make_run(tmp_path / "b", study=None)
    assert variants_of(tmp_path) == ["", ""]


@pytest.mark.parametrize(
    ("written", "also"),
    [
        ("schedule.rate=.003", "schedule.rate=0.003"),
        ("schedule.rate=3e-3", "schedule.rate=0.003"),
        ("detector.size=[160, 224]", "detector.size=[160,224]"),
        ("dataset.images={train: 4, val: 2.0}", "dataset.images={train: 4,val: 2}"),
    ],
)
def test_a_value_is_one_setting_however_it_is_written(written, also):
    assert settings([written], "a") == settings([also], "a")


@pytest.mark.parametrize("text", ["mobilenet_v1_1.0_224", "runs/a-1.50", "1.0.0", "v2.0", "[a1.0,b]"])
def test_a_number_within_a_name_stays(text):
    assert settings([f"init.path={text}"], "a") == {"init.path": text, "name": "a"}


@pytest.mark.parametrize(
    "more",
    [
        ("logger=mlflow", "graph=true", "histograms=true", "validation_loss=0"),
        ("distribute.kind=mirrored", "distribute.devices=2"),
        ("classify.dataset.root=/elsewhere", "dataset.roots=[/a,/b]"),
        ("--config-dir", "/far/advice"),
        ("--config-dir=/far/advice",),
    ],
)
def test_what_changes_no_result_makes_no_variant(tmp_path, make_run, more):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, overrides=more)
    assert variants_of(tmp_path) == ["", ""]


def test_the_rates_of_a_study_make_variants(tmp_path, make_run):
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", seed=seed)
        make_run(tmp_path / f"b{seed}", seed=seed, overrides=("rates.detector.generic=.01",))
    assert sorted(set(variants_of(tmp_path))) == ["", "generic=0.01"]
