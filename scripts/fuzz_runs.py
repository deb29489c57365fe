"""A small run folder for `scripts/fuzz.py`, and everything that is read of one."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.files import write_json

CLASSES = ("cat", "dog")


def make_run(folder: Path, dataset: DetectionDataset) -> None:
    from detect.evaluation.coco import FIGURES
    from detect.runs import data_record
    from detect.runs.folder import RunFolder

    run = RunFolder(folder)
    stage = run.stage("detector")
    stage.path.mkdir()
    scores = dict.fromkeys(FIGURES, 0.25) | {"per_class": {"cat": {"AP": 0.1, "AP50": None, "boxes": 3}}}
    common = {"seconds": 9.5, "steps": 20, "images_per_second": 3.5, "best_step": 10, "seed": 0, "name": "run"}
    about = common | {
        "study": "s", "arm": "none", "fraction": 0.5, "budget": 20, "network": "SSD", "cost": {"extra_steps": 1},
        "dataset": {"fingerprint": "abc", "name": "seed", "images": 4, "boxes": 5, "box_share": 0.1, "classes": 2},
        "git": {"commit": "abc"}, "host": {"cpu": "x", "cores": 2, "memory_gb": 2.5, "gpus": []},
        "versions": {"python": "3"}, "command": "detect train dataset=x", "scores": {"val": scores},
    }  # fmt: skip
    write_json(run.summary, about)
    write_json(stage.summary, common)
    rows = [
        {
            "kind": "train",
            "step": k,
            "images_per_second": 2.0,
            "loss/classification": 0.5,
            "loss/box_classification": 0.5,
            "box/positives_per_image": 4.0,
            "anchors/recall_50": 0.5,
            "rpn/recall_50": 0.5,
        }
        for k in (5, 10, 20)
    ]
    rows += [{"kind": "eval", "step": k, "val/AP": 0.25, "val/AP50": None} for k in (10, 20)]
    stage.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    network = "{box_sampler: {size: 16}, rpn_target_assigner: {matcher: {force_match: true}}}"
    schedule = "{steps: 20, rate: 0.1, batch_norm: frozen, freeze_until: b/relu}"
    run.config.write_text(f"name: run\ninit: {{skip: ['b/*']}}\nschedule: {schedule}\ndetector: {network}\n")
    write_json(run.classes, [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}])
    write_json(run.data, data_record.record(dataset))
    calibration = {"slope": 0.5, "bias": -1.0, "error_before": 0.2, "error_after": 0.1}
    shipped = {"score": 0.5, "split": "val", "per_class": [0.25, None], "calibration": calibration}
    write_json(run.thresholds, {"split": "val", "shipped": shipped})
    totals = {"variables": 2, "parameters": 20}
    kinds = ("loaded", "skipped", "missing", "unexpected", "mismatched")
    shapes = {"loaded": {"a/kernel": [3, 3, 3, 8], "b/kernel": [1, 1, 8, 8]}, "skipped": {"b/bias": [8]}}
    ledger = {"source": "a file", "totals": dict.fromkeys(kinds, totals), "missing": {}, "mismatched": {}}
    write_json(stage.ledger, ledger | shapes)
    box = {"image_id": 1, "category_id": 3, "bbox": [1.5, 2.5, 20.5, 10.5]}
    categories = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
    truth = {"images": [image], "categories": categories, "annotations": [box | {"id": 1, "iscrowd": 0}]}
    write_json(folder / "val_ground_truth.json", truth)
    write_json(folder / "val_detections.json", [box | {"score": 0.75}])
    run.card.write_text("Intended use: &a cats\nKnown limits: *a\n")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- schedule.steps=20\n- name=run\n")
    (folder / "export").mkdir()
    export = {"bytes": 9, "format": "tflite", "options": {"quantize": "ptq", "nms": "none", "batch": 1}}
    export |= {"latency_ms": {"1": {"file": 2.5, "float32": 3.5}}, "scores": {"split": "val", "file": {"AP": 0.5}}}
    write_json(folder / "export" / "export.json", export)
    write_json(folder / "export" / "measured.json", {"columns": {"a": 1.5, "b": None}, "study": "s"})


def read_run(folder: Path, _: Path) -> object:
    """What `report`, `predict`, `evaluate` and a resumed training read of a run folder."""
    from detect.data.examples import Example
    from detect.errors import UserError
    from detect.evaluation.results_file import read_results
    from detect.evaluation.scored_files import Scored
    from detect.runs.folder import RunFolder
    from detect.studies.diagnosis import diagnose
    from detect.studies.export_rows import export_rows, measured_rows
    from detect.studies.html import page
    from detect.studies.records import collect
    from detect.studies.rows import completed, reported, run_rows
    from detect.studies.run_page import parts

    run, errors = RunFolder(folder), []
    images = [Example(Path("a.jpg"), 64, 48, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), "a", source_id=1)]
    dataset = SimpleNamespace(name="x", classes=CLASSES, splits={}, fingerprint=lambda: "")
    dataset.splits = {split: () for split in ("train", "val", "test")}
    for one in (
        run.saved_config,
        run.class_names,
        run.category_ids,
        run.objective,
        lambda: run.threshold("detector"),
        lambda: run.stage("detector").summary_figure("seconds"),
        lambda: run.refuse_other_data(dataset),
        lambda: diagnose(folder).verdict(),
        lambda: Scored.read(folder, "val"),
        lambda: read_results(folder / "val_detections.json", images, CLASSES, (3, 90)),
    ):
        try:
            one()
        except UserError as error:
            errors.append(error)
    records = collect(folder)
    for r in records.runs:
        r.overrides  # noqa: B018 (reads a file)
        page("a run", parts(r, records.exports))
    told = completed([reported(r, ("val",)) for r in records.runs])
    return run_rows(told), export_rows(records), measured_rows(records)
