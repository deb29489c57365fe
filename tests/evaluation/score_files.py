"""Scores files of COCO's format as they are, without the readers and writers of this program."""

import json
from collections import Counter
from pathlib import Path

from detect.evaluation.coco import MAX_DETECTIONS, Scores, _score
from detect.evaluation.coco_json import whole_numbers


def score_files(truth: Path, results: Path) -> Scores:
    """Areas are those of the file if it has them. The evaluator needs whole numbers as ids of images, and annotations
    whose ids count from 1."""
    dataset, found = (json.loads(path.read_text()) for path in (truth, results))
    ids = [image["id"] for image in dataset["images"]]
    numbers = dict(zip(ids, whole_numbers(ids), strict=True))
    for entries in (dataset["annotations"], found):
        for number, entry in enumerate(entries, 1):
            width, height = entry["bbox"][2:]
            entry.update(id=number, image_id=numbers[entry["image_id"]], area=entry.get("area", width * height))
            entry.setdefault("iscrowd", 0)
    counts = Counter(entry["category_id"] for entry in found)
    return _score(dataset, lambda kinds: [d for d in found if d["category_id"] in kinds], counts, MAX_DETECTIONS, {})
