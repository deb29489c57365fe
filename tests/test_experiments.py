"""Every experiment composes and builds; the debug settings do what they say."""

import json
import subprocess
import sys

import hydra
import pytest

from detect.config import CONFIG_DIR, check

EXPERIMENTS = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_builds_and_says_how_to_run_it(name):
    from detect import stages

    head = (CONFIG_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()[:10]
    assert any(line.startswith("# Command:") and f"experiment={name}" in line for line in head)
    assert any(line.startswith("# Expected:") for line in head)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", [f"experiment={name}", "backbone.depth_multiplier=0.25"])
    cfg.dataset.root = "."
    check(cfg)
    detector = stages.build_detector(cfg, num_classes=2)
    assert detector.model.output_shape["logits"][-1] == 3


@pytest.mark.slow
def test_overfitting_eight_images_works(tmp_path):
    command = [sys.executable, "-m", "detect.train", "experiment=demo", "debug=overfit", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["scores"]["val"]["AP50"] >= 0.9
