"""Measures what a big data set costs before the first step, and what its scoring costs.

    python scripts/bench_data.py OUT.json [--images 118000] [--boxes 860000] [--only PART...]       # make bench

The data set is synthetic and shaped like COCO: a json of each split with polygons, 80 classes, and an image file for
each entry, which is a hard link to one of a few small JPEGs. Each part runs in a process of its own, so that its peak
of memory is its own:

read: `read_coco` with an empty cache. again: the same with the facts of the files remembered. check: the check with
every image decoded, after `read`. start: all that a run does before it builds a network, on the second start, and the
first batch. similar: near-duplicates among hashes. score: COCO's figures of 5,000 images x 100 detections x 80 classes.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
from bench_evaluation import make_detections, make_examples, run_ours

from detect.environment import usable_cores
from detect.export.timing import UNIT
from detect.files import write_json

CLASSES = 80
HELD_OUT = 5000
LINKS = 30_000
"""Hard links to one file; some file systems allow no more than 65,000."""
Options = argparse.Namespace


def make_files(folder: Path, images: int, boxes: int) -> None:
    """A json of each split and a picture for each entry. val has 5,000 images, or a tenth if there are fewer."""
    rng = np.random.default_rng(0)
    held_out = min(HELD_OUT, images // 10)
    (folder / "annotations").mkdir(parents=True)
    first = 0
    for split, count in (("train", images), ("val", held_out)):
        pictures = folder / f"{split}2017"
        pictures.mkdir()
        for k in range(count):
            original = folder.parent / f"{split}-{k // LINKS}.jpg"
            if not original.exists():
                noise = rng.integers(0, 256, (12, 16, 3), np.uint8)
                cv2.imwrite(str(original), cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC))
            os.link(original, pictures / f"{first + k:012d}.jpg")
        write_split(folder / "annotations" / f"instances_{split}2017.json", first, count, boxes * count // images, rng)
        first += count


def write_split(path: Path, first: int, images: int, boxes: int, rng: np.random.Generator) -> None:
    """COCO's json of images of 64x48 px, written line by line, so that this program stays small."""
    owner = rng.integers(0, images, boxes) + first
    kinds = rng.integers(1, CLASSES + 1, boxes)
    side = rng.uniform((4, 4), (24, 32), (boxes, 2))
    corner = (rng.random((boxes, 2)) * ((48, 64) - side)).round(2)
    side = side.round(2)
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}, "images": [')
        for k in range(first, first + images):
            comma = "," if k > first else ""
            entry = f'{{"license": 1, "file_name": "{k:012d}.jpg", "height": 48, "width": 64, "id": {k}}}'
            file.write(f"{comma}\n{entry}")
        file.write('], "annotations": [')
        for k in range(boxes):
            (y, x), (h, w) = corner[k].tolist(), side[k].tolist()
            polygon = f"[[{x}, {y}, {x + w:.2f}, {y}, {x + w:.2f}, {y + h:.2f}, {x}, {y + h:.2f}]]"
            file.write(
                f'{"," if k else ""}\n{{"segmentation": {polygon}, "area": {w * h:.4f}, '
                f'"iscrowd": {int(k % 100 == 0)}, "image_id": {owner[k]}, '
                f'"bbox": [{x}, {y}, {w}, {h}], "category_id": {kinds[k]}, "id": {k + 1}}}'
            )
        titles = ", ".join(f'{{"id": {k}, "name": "class {k}"}}' for k in range(1, CLASSES + 1))
        file.write(f'], "categories": [{titles}]}}\n')


def read(folder: Path, options: Options) -> dict[str, object]:
    """Reads the data set."""
    from detect.data.formats.coco import read_coco

    dataset = read_coco(folder)
    return {"images": {split: len(examples) for split, examples in dataset.splits.items()}}


def check(folder: Path, options: Options) -> dict[str, object]:
    """Reads the data set, and checks it with every image decoded. Only the check is timed."""
    from detect.data.formats.coco import read_coco
    from detect.data.validate import check as find

    dataset = read_coco(folder)
    started, used = time.perf_counter(), time.process_time()
    findings = find(dataset, decode=True)
    return {"findings": len(findings)} | taken(started, used)


def start(folder: Path, options: Options) -> dict[str, object]:
    """What a run does up to its first batch: data, its check, ground truth as predictions, record, stream."""
    from omegaconf import OmegaConf

    from detect.data.augment import Augment
    from detect.data.pipeline import DetectionStream
    from detect.runs.data_record import record
    from detect.runs.dataset import check_ground_truth, dataset_of

    target = {"_target_": "detect.data.formats.coco.read_coco", "_convert_": "all", "root": str(folder)}
    limit = {"fraction": None, "train": None, "val": None, "test": None, "overfit": False}
    dataset = dataset_of(OmegaConf.create({"dataset": target, "limit": limit, "seed": 0}))
    lines = dataset.describe()
    check_ground_truth(dataset)
    saved = record(dataset)
    batch = DetectionStream(dataset.splits["train"], (300, 300), 8, Augment()).batch(0)
    return {"lines": len(lines), "fingerprint": saved["fingerprint"], "batch": list(batch["image"].shape)}


def similar(folder: Path, options: Options) -> dict[str, object]:
    """Near-duplicates among as many random hashes as there are images; every hundredth is a copy with 8 other bits."""
    from detect.data.similar import SIDE, close_pairs

    rng = np.random.default_rng(0)
    hashes = rng.random((options.images, SIDE**2)) < 0.5
    copies = np.arange(100, options.images, 100)
    hashes[copies] = hashes[copies - 1]
    hashes[copies, :8] ^= True
    started, used = time.perf_counter(), time.process_time()
    found = sum(1 for _ in close_pairs(hashes))
    return {"copies": len(copies), "pairs": found} | taken(started, used)


def score(folder: Path, options: Options) -> dict[str, object]:
    """COCO's figures of detections that are in memory, as in bench_evaluation.py. Only the scoring is timed."""
    rng = np.random.default_rng(0)
    examples = make_examples(options.scored, CLASSES, rng)
    detections = [make_detections(example, 100, CLASSES, rng) for example in examples]
    before, started, used = peak(), time.perf_counter(), time.process_time()
    _, figures = run_ours(examples, detections, tuple(f"class {k}" for k in range(1, CLASSES + 1)))
    return {"AP": figures[0], "peak_megabytes_before": before} | taken(started, used)


PARTS: dict[str, Callable[[Path, Options], dict[str, object]]] = {
    "read": read,
    "again": read,
    "check": check,
    "start": start,
    "similar": similar,
    "score": score,
}


def taken(started: float, used: float) -> dict[str, object]:
    """Seconds of the clock and of the processor since two readings."""
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
    }


def peak() -> int:
    """The most memory that this process has used, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // UNIT


def measure(part: str, folder: Path, options: Options) -> dict[str, object]:
    """One part in this process: its figures, its time and its peak of memory."""
    import detect.data.validate  # noqa: F401, imports are not measured

    before, started, used = peak(), time.perf_counter(), time.process_time()
    figures = PARTS[part](folder, options)
    return {"megabytes_of_imports": before} | taken(started, used) | figures | {"peak_megabytes": peak()}


def main() -> None:
    """Makes the files, runs each part in a process of its own, and writes the json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=860_000)
    parser.add_argument("--scored", type=int, default=5000, help="images of the part score")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where the files are made, and stay; else a temporary folder")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measure(options.part, options.folder, options)))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / "coco"
        if {"read", "again", "check", "start"} & set(options.only) and not folder.exists():
            make_files(folder, options.images, options.boxes)
        environment = os.environ | {"DETECT_CACHE": str(folder.parent / "cache")}
        sizes = ["--images", str(options.images), "--boxes", str(options.boxes), "--scored", str(options.scored)]
        parts = {}
        for part in options.only:
            command = [sys.executable, __file__, str(options.output), *sizes, "--part", part, "--folder", str(folder)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            parts[part] = json.loads(done.stdout.splitlines()[-1])
            print(part, json.dumps(parts[part]), flush=True)
        megabytes = sum(path.stat().st_size for path in folder.glob("annotations/*.json")) // 2**20
    write_json(
        options.output,
        {
            "images": options.images,
            "boxes": options.boxes,
            "megabytes_of_json": megabytes,
            "scored": options.scored,
            "parts": parts,
            "cores": usable_cores(),
            "load_average": round(os.getloadavg()[0], 2),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    )


if __name__ == "__main__":
    main()
