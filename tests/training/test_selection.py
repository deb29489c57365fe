"""A whole run on data whose val images show nothing that could be scored."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detect.runs.folder import RunFolder, chosen_split
from tests import program

HEAD = "filename,width,height,class,xmin,ymin,xmax,ymax,split"


@pytest.fixture
def root(tmp_path) -> Path:
    """Four training images with a box each, and two of val without any."""
    folder, rows = tmp_path / "data", [HEAD]
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (96, 96), (40 * number, 90, 120)).save(folder / f"{number}.jpg")
        rows.append(f"{number}.jpg,96,96,{'cat,10,12,60,70,train' if number < 4 else ',,,,,val'}")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_run_ends_with_the_scores_of_its_training_images(root, tmp_path, small_overrides):
    own = [line for line in small_overrides if not line.startswith("dataset")]
    words = [
        f"dataset.root={root}",
        "dataset=csv",
        *own,
        "classify.enabled=false",
        "debug=step",
        "schedule.warmup=null",
    ]
    run = tmp_path / "run"
    done = program.run("train", *words, f"hydra.run.dir={run}", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "its val images have no boxes, so the best checkpoint is chosen on train" in done.stdout + done.stderr
    scores = json.loads((run / "summary.json").read_text())["scores"]
    assert list(scores) == ["val", "train"] and scores["val"]["AP"] is None
    assert RunFolder(run).objective() == scores["train"]["AP"] and (run / "report.html").is_file()


@pytest.mark.parametrize(
    ("scores", "split"),
    [
        ({"val": {"AP": 0.1}, "test": {"AP": 0.2}}, "val"),
        ({"val": {"AP": None}, "test": {"AP": 0.0}}, "test"),
        ({"val": {"AP": None}, "train": {"AP": None}}, "val"),
        ({}, None),
    ],
)
def test_the_split_that_chose_the_checkpoint(scores, split):
    assert chosen_split(scores) == split
