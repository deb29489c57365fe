"""Run folders of a study as a finished training leaves them, made in a moment."""

import json
from pathlib import Path

import pytest

from detect.evaluation.coco import FIGURES

VERSIONS = {"python": "3.11.7", "tensorflow": "2.20.0", "missing": None}
HOST = {"cpu": "Made Up", "cores": 2, "memory_gb": 8.0, "gpus": [], "system": "Linux"}
SPEED = 20.0  # images/s


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(autouse=True)
def undrawn(blank_figures) -> None:
    """Figures of these tests are blank."""


@pytest.fixture
def make_run():
    """make_run(folder, arm, seed, ap, ...) -> folder: a run of 100 steps of 4 images, 20 images a second.

    ap: AP at steps 50 and 100; the better one is val's in the summary, test has .1 less. first: seconds of stage 1.
    extra: further steps, scored once more with the AP of step 100. every: steps between two lines of metrics.jsonl.
    about: more keys of summary.json.
    """

    def make(
        folder: Path, arm: str = "generic", seed: int = 0, ap: tuple[float, float] = (0.2, 0.4), fraction: float = 1.0,
        first: float = 0.0, extra: int = 0, study: str | None = "study", kind: str = "cat",
        overrides: tuple[str, ...] = (), every: int = 10, **about,
    ) -> Path:  # fmt: skip
        steps = 100 + extra
        best = max(ap)
        scores = {
            split: dict.fromkeys(FIGURES, 0.25)
            | {"AP": value, "AP50": value / 2, "per_class": {kind: {"AP": value, "AP50": None}}}
            for split, value in (("val", best), ("test", best - 0.1))
        }
        words = [f"arm={arm}", f"seed={seed}", *overrides, "dataset.root=/somewhere/far/cats"]
        summary = {
            "name": "two_stage", "seed": seed, "seconds": steps * 4 / SPEED, "steps": steps, "best_step": 100,
            "images_per_second": SPEED, "git": None, "dataset": {"name": "cats", "fingerprint": f"{fraction}"},
            "study": study, "arm": arm, "fraction": fraction, "budget": 100, "scores": scores, "host": HOST,
            "versions": VERSIONS, "command": " ".join(["detect train", *words]),
            "cost": {"stage_1_macs": 50 if first else None, "detector_macs": steps, "extra_steps": extra},
        }  # fmt: skip
        write(folder / "summary.json", summary | about)
        evaluations = list(zip((50, 100, *([steps] if extra else [])), (*ap, ap[1]), strict=False))
        rows = []
        for step in range(every, steps + 1, every):
            rows.append({"kind": "train", "step": step, "images_per_second": SPEED, "loss/classification": 1 / step})
            rows += [{"kind": "eval", "step": at, "val/AP": v, "val/AP50": v} for at, v in evaluations if at == step]
        (folder / "detector").mkdir()
        lines = "\n".join(json.dumps({"stage": "detector", "time": 0} | row) for row in rows)
        (folder / "detector" / "metrics.jsonl").write_text(lines + "\n")
        if first:
            write(folder / "classify" / "summary.json", {"seconds": first, "steps": 30, "scores": {"val": {"top1": 1}}})
        return folder

    return make


@pytest.fixture
def study(tmp_path, make_run):
    """Arms B, B+ and C: three seeds of all images, and seed 0 of a fifth of them; the folder of the runs."""
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        make_run(tmp_path / f"generic_s{seed}", "generic", seed, (0.2, 0.4 + shift))
        make_run(tmp_path / f"extra_s{seed}", "generic_extra", seed, (0.2, 0.41 + shift), extra=50)
        make_run(tmp_path / f"crops_s{seed}", "crops", seed, (0.37, 0.44 + 2 * shift), first=9.0)
    make_run(tmp_path / "generic_f20", "generic", 0, (0.1, 0.2), 0.2)
    make_run(tmp_path / "crops_f20", "crops", 0, (0.05, 0.15), 0.2, first=9.0)
    return tmp_path
