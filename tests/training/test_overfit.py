"""Can every pair learn at all? `debug=overfit` on eight real photographs must reach AP50 .9 (`make test-slow`)."""

import json
import subprocess
import sys

import pytest

from detect.config.check import CONFIG_DIR

pytestmark = pytest.mark.slow
SMALL = {
    "ssd": ["backbone.depth_multiplier=0.5", "detector.size=[160,160]", "schedule.steps=200"],
    "faster_rcnn": [
        "backbone.depth_multiplier=0.25",
        "detector.size=[128,128]",
        "detector.anchors.base=128",
        "detector.rpn_head.channels=128",
        "detector.roi.crop=8",
        "detector.roi.pool=1",
        "detector.proposals.count=50",
        "detector.box_sampler.size=32",
    ],
    "fcos": ["backbone.depth_multiplier=0.5", "detector.size=[160,160]", "detector.neck.channels=64"],
}
BACKBONES = sorted(file.stem for file in (CONFIG_DIR / "backbone").glob("*.yaml"))
HEAVY = ("inception_v2", "inception_v3", "vgg16")  # half of the others' width is enough


@pytest.mark.parametrize("detector", SMALL)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_pair_learns_eight_photographs(backbone, detector, shared, tmp_path):
    overrides = [*SMALL[detector], f"backbone={backbone}", f"detector={detector}"]
    if backbone in HEAVY:
        overrides += ["backbone.depth_multiplier=0.25", "detector.size=[128,128]"]
    data = ["dataset=voc", f"dataset.root={shared / 'data' / 'microcontrollers'}", "init=none", "debug=overfit"]
    command = [sys.executable, "-m", "detect.cli", "train", *data, *overrides, f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "summary.json").read_text())["scores"]["val"]
    assert scores["AP50"] >= 0.9, scores
