"""Translates every pipeline.config of a folder, and compares each detector with the TF Object Detection API's own.

Usage: python scripts/migrate_table.py FOLDER [--api PYTHON] [--work FOLDER] [--classes N] [--only TEXT]
It prints a table: file, result, why or how far apart. With --api, scripts/api_detector.py runs in that environment for
every file that translates, and its answers are kept in --work, so that a second run is short. `equal` means: all
variables load by name and shape, anchors agree to 1e-5 of the frame's shorter side, outputs to an SQNR of 60 dB, losses
to 1e-3 of their value, and 98% of the detections agree: class, score to 1e-3, box to a hundredth of its side or half a
pixel.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from detect.environment import for_program

for_program()

import numpy as np  # noqa: E402
import tf_keras  # noqa: E402

from detect.config.compose import compose  # noqa: E402
from detect.errors import UserError  # noqa: E402
from detect.evaluation.sqnr import sqnr  # noqa: E402
from detect.migration import experiment  # noqa: E402
from detect.migration.message import NoCounterpart  # noqa: E402
from detect.migration.pipeline import read, translate  # noqa: E402
from detect.training import build  # noqa: E402
from detect.weights.sources import FromFile  # noqa: E402
from detect.weights.transfer import transfer  # noqa: E402

ALL = ("detector.rpn_sampler.size=100000", "detector.box_sampler.size=300")
"""As in scripts/api_detector.py: nothing is drawn at random."""
LOSSES = {
    "classification": "loss.Loss.classification_loss",
    "localization": "loss.Loss.localization_loss",
    "rpn_classification": "loss.Loss.RPNLoss.objectness_loss",
    "rpn_localization": "loss.Loss.RPNLoss.localization_loss",
    "box_classification": "loss.Loss.BoxClassifierLoss.classification_loss",
    "box_localization": "loss.Loss.BoxClassifierLoss.localization_loss",
}


def composed(file: Path):
    """The configuration that the experiment of a file gives. Raises UserError."""
    found = translate(read(file))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "experiment" / "it.yaml"
        place.parent.mkdir()
        place.write_text(experiment.text(file, "", found), encoding="utf-8")
        more = ALL if found.choices["detector"] == "faster_rcnn" else ()
        return compose(["experiment=it", "dataset.root=x", "init=none", *more], config_dir=folder)


def network(file: Path) -> str:
    """All that a file says about its detector, as text: files with equal texts have the same detector."""
    found = translate(read(file))
    options = {group: option for group, option in found.choices.items() if group.startswith(("detector", "backbone"))}
    values = {node: found.values[node] for node in ("detector", "backbone")}
    return json.dumps([options, values, "_keras" in file.read_text()], sort_keys=True)


def asked(file: Path, options: argparse.Namespace) -> Path:
    """The folder with the API's checkpoint and answers. Raises CalledProcessError if the API fails."""
    folder = options.work / file.stem
    if not (folder / "answers.npz").is_file():
        script = Path(__file__).with_name("api_detector.py")
        variables = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "CUDA_VISIBLE_DEVICES": ""}
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = [options.api, str(script), str(file), str(folder), str(options.classes)]
        subprocess.run(command, env=keep | variables, check=True, capture_output=True)
    return folder


def compare(file: Path, options: argparse.Namespace) -> tuple[str, str]:
    """The result and the distances."""
    folder = asked(file, options)
    cfg = composed(file)
    tf_keras.backend.clear_session()
    detector = build.detector(cfg, options.classes)
    source = FromFile(str(folder), scope="detector")
    arrays = source.read(build.instantiate(cfg.backbone))
    ledger = transfer(
        detector.model, arrays, source=file.name, layers=detector.backbone_layers, scope="detector",
        classes=[str(k) for k in range(options.classes)],
    )  # fmt: skip
    strays = [name for name in ledger.skipped if "Predictor" in name]
    with np.load(folder / "answers.npz") as theirs:
        limits = distances(detector, theirs)
    shown = ", ".join(
        f"{name} {value:.0f} dB" if "SQNR" in name else f"{name} {value:.1g}" for name, (value, _) in limits.items()
    )
    far = [
        name for name, (value, limit) in limits.items() if not (value >= limit if "SQNR" in name else value <= limit)
    ]
    far += [f"skipped {name}" for name in strays]
    text = f"{len(ledger.loaded)} variables, {shown}"
    return ("equal", text) if not far else ("differs", f"{', '.join(far)} ({text})")


def distances(detector, theirs) -> dict[str, tuple[float, float]]:
    """Each distance and its limit."""
    height, width = detector.size
    frame = np.array([height, width, height, width], np.float32)
    anchors = theirs["anchors"] if theirs["anchors"].max() > 10 else theirs["anchors"] * frame
    two = hasattr(detector, "rpn_model")
    mine = np.asarray(detector.anchors)
    mine = mine if len(mine) == len(anchors) else mine[detector.trained]
    if two:
        mine = np.clip(np.asarray(detector.anchors), 0, frame)
    found = {"anchors": (float(np.abs(mine - anchors).max()) / min(height, width), 1e-5)}
    if not two:
        outputs = detector.model.predict(theirs["images"].astype(np.float32), verbose=0)
        for ours, name in (("codes", "box_encodings"), ("logits", "class_predictions_with_background")):
            found[f"SQNR of {ours}"] = (sqnr(theirs[name].reshape(outputs[ours].shape), outputs[ours]), 60.0)
    pixels = {"image": theirs["images"], "boxes": theirs["boxes"] * frame, "classes": theirs["classes"]}
    pixels["seed"] = np.arange(len(theirs["images"]), dtype=np.int64)
    for name, loss in detector.losses(pixels, training=False).parts.items():
        wanted = float(theirs[LOSSES[name]])
        found[f"{name} loss"] = (abs(float(loss) - wanted) / max(abs(wanted), 1e-6), 1e-3)
    detections = {name: np.asarray(value) for name, value in detector.detect(theirs["images"]).items()}
    found["detections missing"] = (1 - agreeing(detections, theirs, frame), 0.02)
    return found


def agreeing(ours, theirs, frame) -> float:
    """The share of the API's detections that ours have, too."""
    hits = total = 0
    for image, count in enumerate(theirs["found.num_detections"].astype(int)):
        boxes = theirs["found.detection_boxes"][image, :count] * frame
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        near = np.abs(boxes[:, None] - ours["boxes"][image][None]).max(-1) <= np.maximum(0.5, 0.01 * sides)[:, None]
        same = theirs["found.detection_classes"][image, :count, None] + 1 == ours["classes"][image][None]
        close = np.abs(theirs["found.detection_scores"][image, :count, None] - ours["scores"][image][None]) <= 1e-3
        hits, total = hits + int((near & same & close).any(1).sum()), total + count
    return hits / max(total, 1)


def main() -> None:
    """Prints a row for each file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--api")
    parser.add_argument("--work", type=Path, default=Path("migrate_work"))
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print("| file | result | why, or how far apart |\n|---|---|---|")
    files = [file for file in sorted(options.folder.rglob("*.config")) if options.only in file.name]
    groups: dict[str, Path] = {}  # of files with the same detector, the one that is compared: the first with answers
    for file in sorted(files, key=lambda file: not (options.work / file.stem / "answers.npz").is_file()):
        with contextlib.suppress(UserError):
            groups.setdefault(network(file), file)
    counts: dict[str, int] = {}
    compared: dict[Path, tuple[str, str]] = {}
    for file in files:
        try:
            composed(file)
            result, why = "translated", ""
            if options.api:
                one = groups[network(file)]
                if one not in compared:
                    compared[one] = compare(one, options)
                result, why = compared[one] if one == file else (compared[one][0], f"the network of {one.stem}")
        except NoCounterpart as error:
            result, why = "refused", error.part
        except UserError as error:
            result, why = "error", str(error).splitlines()[0]
        except subprocess.CalledProcessError as error:
            told = error.stderr.decode(errors="replace").strip() or str(error)
            result, why = "the API fails", told.splitlines()[-1]
        counts[result] = counts.get(result, 0) + 1
        print(f"| {file.stem} | {result} | {why} |", flush=True)
    print(f"\n{sum(counts.values())} files: {', '.join(f'{n} {result}' for result, n in sorted(counts.items()))}")


if __name__ == "__main__":
    main()
