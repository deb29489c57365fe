"""Writes what tidecv, the program of TIDE's authors, makes of random boxes and detections.

Usage: python scripts/tide_fixture.py tests/evaluation/fixtures [REFERENCE]   (needs tidecv 1.0.1 and numpy alone)
It writes tide.json. REFERENCE: the folder with COCO's own example of results; of it, the figures alone are written.
Boxes are x, y, width, height here. Classes are numbered from 1. Detections of a class without a box are left out: such
a class counts in tidecv as AP 0, and in COCO not at all.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tidecv import TIDE, Data
from tidecv.errors.qualifiers import AREA, Qualifier

NAMES = {"Cls": "classification", "Loc": "localization", "Both": "both", "Dupe": "duplicate", "Bkg": "background"}
NAMES |= {"Miss": "missed"}
CLASSES = 3


def drawn(random: np.random.Generator, images: int, crowds: bool, most: int) -> tuple[list, list]:
    """Boxes (image, class, box, crowd) and detections (image, class, score, box) with errors of every kind."""
    boxes, detections = [], []
    for image in range(images):
        for place in range(CLASSES if image == 0 else int(random.integers(0, 6))):
            kind = place + 1 if image == 0 else int(random.integers(1, CLASSES + 1))
            side = random.choice([14, 40, 130], p=[0.3, 0.4, 0.3]) * random.uniform(0.7, 1.3, 2)
            box = [*random.uniform(0, 300, 2), *side]
            boxes.append((image, kind, box, bool(crowds and place and random.uniform() < 0.2)))
            for _ in range(int(random.integers(0, most))):
                moved = np.array(box) + random.normal(0, 0.12, 4) * np.tile(side, 2) * random.choice([0.3, 1, 3])
                moved[2:] = np.maximum(moved[2:], 2)
                other = kind if random.uniform() < 0.75 else int(random.integers(1, CLASSES + 1))
                detections.append((image, other, float(random.uniform()), moved.tolist()))
        for _ in range(int(random.integers(0, 4))):
            far = [*random.uniform(0, 400, 2), *random.uniform(5, 120, 2)]
            detections.append((image, int(random.integers(1, CLASSES + 1)), float(random.uniform() * 0.8), far))
    return boxes, [(i, k, round(s, 6), np.float32(b).astype(float).tolist()) for i, k, s, b in detections]


def measured(boxes: list, detections: list, classes: list[int]) -> dict:
    """What tidecv says, in shares of 1."""
    there = {kind for _, kind, _, crowd in boxes if not crowd}
    detections = [row for row in detections if row[1] in there]
    truth, found = Data("truth"), Data("found")
    for image, kind, box, crowd in boxes:
        (truth.add_ignore_region if crowd else truth.add_ground_truth)(image, kind, box)
    for image, kind, score, box in detections:
        truth.add_image(image, str(image))
        found.add_detection(image, kind, score, box)
    tide = TIDE()
    run = tide.evaluate(truth, found, mode=TIDE.BOX)
    special = {error.short_name: value / 100 for error, value in run.fix_special_errors().items()}

    def gains(qualifier: Qualifier | None) -> dict[str, float]:
        found = run.fix_main_errors(qual=qualifier)
        return {NAMES[error.short_name]: value / 100 for error, value in found.items()}

    of_class = {str(k): Qualifier("", lambda x, k=k: x["class"] == k) for k in classes if k in there}
    return {
        "ap50": run.ap / 100,
        "gains": gains(None),
        "counts": {NAMES[error.short_name]: count for error, count in run.count_errors().items()},
        "false_positives": special["FalsePos"],
        "false_negatives": special["FalseNeg"],
        "by_size": {area.name.lower(): gains(area) for area in AREA},
        "by_class": {name: gains(qualifier) for name, qualifier in of_class.items()},
    }


def main() -> None:
    """Draws four cases, asks tidecv, writes."""
    random = np.random.default_rng(0)
    cases = []
    for images, crowds, most in ((8, False, 4), (14, True, 4), (5, False, 40), (6, False, 2)):
        boxes, detections = drawn(random, images, crowds, most)
        boxes = [(i, k, np.float32(b).astype(float).tolist(), c) for i, k, b, c in boxes]
        figures = measured(boxes, detections, list(range(1, CLASSES + 1)))
        cases.append({"images": images, "boxes": boxes, "detections": detections, **figures})
    folder, half = Path(sys.argv[1]), json.loads((Path(sys.argv[1]) / "coco_half.json").read_text(encoding="utf-8"))
    content = {"drawn": cases, "half": of_coco(half["truth"], half["results"])}
    if len(sys.argv) > 2:
        names = ("sampled_gts_bbox_area.json", "cocoapi_results.json")
        content["whole"] = of_coco(*(json.loads((Path(sys.argv[2]) / name).read_text()) for name in names))
    (folder / "tide.json").write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def of_coco(truth: dict, results: list[dict]) -> dict:
    """The figures of files in COCO's format; classes are named by their ids."""
    annotations = truth["annotations"]
    boxes = [(a["image_id"], a["category_id"], a["bbox"], bool(a.get("iscrowd", 0))) for a in annotations]
    detections = [(r["image_id"], r["category_id"], r["score"], r["bbox"]) for r in results]
    return measured(boxes, detections, [category["id"] for category in truth["categories"]])


if __name__ == "__main__":
    main()
