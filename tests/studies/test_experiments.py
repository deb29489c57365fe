"""Every experiment composes and builds; debug settings do what they say; committed tables are those of their csv."""

import html
import json
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from detect.config.check import CONFIG_DIR, check
from detect.config.compose import compose
from detect.studies.blocks import Table, markdown
from detect.studies.writer import readme_with, tables
from tests import program
from tests.verbs import composed

CONFIGURATIONS = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*/*/experiment/*.yaml"))
STUDIES = sorted(path.parent for path in (Path(__file__).resolve().parents[2] / "experiments").glob("*/results.csv"))
FOLDER = CONFIG_DIR / "experiment"
EXPERIMENTS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


QUICK = ("bccd_ssd_mobilenet_v1", "demo")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name not in QUICK else ()) for name in EXPERIMENTS]
)
def test_experiment_builds_and_says_how_to_run_it(name):
    from detect.training import build

    head = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:10]
    assert any(line.startswith("# Command:") and f"experiment={name}" in line for line in head)
    assert any(line.startswith("# Expected:") for line in head)
    cfg = composed("train", f"experiment={name}", "backbone.depth_multiplier=0.25")
    if OmegaConf.is_missing(cfg.dataset, "root"):
        cfg.dataset.root = "."
    check(cfg)
    detector = build.detector(cfg, num_classes=2)
    assert detector.model.output_shape["logits"][-1] == 3


@pytest.mark.slow
def test_overfitting_eight_images_works(tmp_path):
    done = program.run("train", "experiment=demo", "debug=overfit", f"hydra.run.dir={tmp_path}", timeout=900)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["scores"]["val"]["AP50"] >= 0.9


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_answers_first_in_two_sentences(folder):
    title, answer, question, *_ = (folder / "README.md").read_text().split("\n\n", 3)
    assert title.startswith("# ") and question.startswith("## Question")
    assert answer.startswith("**") and answer.endswith(".**")
    assert 1 <= len(re.findall(r"\.(?=\s|\*\*$)", answer)) <= 2


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_committed_tables_are_those_of_the_csv(folder):
    blocks, readme = tables(folder), (folder / "README.md").read_text()
    assert (folder / "table.md").read_text() == markdown(blocks), "make it anew: detect report"
    assert readme_with(readme, markdown(blocks)) == readme, "make it anew: detect report"
    if (folder / "report.html").is_file():
        cells = re.findall(r"<td[^>]*>(.*?)</td>", (folder / "report.html").read_text())
        wanted = [cell for block in blocks if isinstance(block, Table) for row in block.rows for cell in row]
        assert [html.unescape(cell) for cell in cells] == wanted, "make it anew: detect report"


def test_a_planted_disagreement_is_found(tmp_path):
    folder = next(folder for folder in STUDIES if folder.name == "digits_demo")
    text = (folder / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(text.replace(",0.5918,", ",0.5928,"))
    lines = zip((folder / "table.md").read_text().splitlines(), markdown(tables(tmp_path)).splitlines(), strict=True)
    ((committed, made),) = [pair for pair in lines if pair[0] != pair[1]]
    assert "| 0.592 |" in committed and "| 0.593 |" in made


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda file: file.stem)
def test_a_committed_configuration_composes(file):
    """With the paths that the page of its study gives in the command."""
    known = yaml.safe_load(file.read_text(encoding="utf-8"))
    paths = {"dataset.root": known["dataset"].get("root"), "init.path": known["init"].get("path")}
    given = [f"{key}=x" for key, value in paths.items() if value == "???"]
    cfg = compose([f"experiment={file.stem}", *given], config_dir=file.parent.parent)
    assert cfg.name == known["name"]
