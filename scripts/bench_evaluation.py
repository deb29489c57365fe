"""Times COCO evaluation of 5,000 images x 100 detections x 80 classes, and with --pycocotools also pycocotools.

    python scripts/bench_evaluation.py --output bench/evaluation.json
    python scripts/bench_evaluation.py --images 500 --pycocotools --rounds 2

The data are random but shaped like COCO: about 7 boxes an image from 80 classes; a third of the 100 detections are
jittered boxes, most of them of the right class, the rest lies anywhere. Timed are `CocoEvaluator.add` and `.result`.
"""

import argparse
import contextlib
import io
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

from detect.data.examples import Example
from detect.evaluation.coco import FIGURES, CocoEvaluator
from detect.evaluation.coco_json import FlatDetections, coco_truth
from detect.files import write_json

LIMIT_SECONDS = 20.0


def make_examples(images: int, classes: int, rng: np.random.Generator) -> list[Example]:
    """Images of 640x480 with 7 boxes on average, from 16 px a side up to half the image."""
    examples = []
    for number in range(images):
        boxes = random_boxes(int(rng.poisson(7)), rng)
        kinds = rng.integers(1, classes + 1, len(boxes))
        crowd = rng.random(len(boxes)) < 0.01
        examples.append(Example(Path(f"{number:06}.jpg"), 640, 480, boxes, kinds, crowd, str(number)))
    return examples


def make_detections(example: Example, count: int, classes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """`count` boxes, scores and classes for one image, similar to those of a half-trained detector."""
    boxes, kinds = random_boxes(count, rng), rng.integers(1, classes + 1, count)
    if len(example.boxes):
        near = rng.integers(0, len(example.boxes), count // 3)
        boxes[: len(near)] = example.boxes[near] + rng.normal(0, 5, (len(near), 4))
        right = rng.random(len(near)) < 0.7
        kinds[: len(near)] = np.where(right, example.classes[near], kinds[: len(near)])
    return boxes, rng.random(count).astype(np.float32), kinds


def random_boxes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes float32 [count, 4] yxyx inside 640x480."""
    sides = np.stack([rng.uniform(16, 240, count), rng.uniform(16, 320, count)], axis=1)
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([480, 640]) - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def run_ours(examples, detections, classes) -> tuple[dict[str, float], list[float | None]]:
    """Seconds for adding and for scoring, and the twelve figures."""
    start = time.perf_counter()
    evaluator = CocoEvaluator(examples, classes)
    for example, found in zip(examples, detections, strict=True):
        evaluator.add(example.id, *found)
    added = time.perf_counter()
    scores = evaluator.result()
    done = time.perf_counter()
    seconds = {"add": added - start, "result": done - added, "total": done - start}
    return seconds, list(scores.summary.values())


def run_pycocotools(examples, detections, classes) -> tuple[dict[str, float], list[float | None]]:
    """Seconds that pycocotools takes from dictionaries to the twelve figures."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = {example.id: parts for example, parts in zip(examples, detections, strict=True)}
    truth, results = coco_truth(examples, classes), FlatDetections.of(examples, found).results()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = [None if value < 0 else float(value) for value in evaluator.stats]
    return {"total": time.perf_counter() - start}, figures


def main() -> None:
    """Runs the rounds, alternating where there are two evaluators, and writes the json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pycocotools", action="store_true", help="time pycocotools as well (minutes at full size)")
    parser.add_argument("--output", type=Path, default=None, help="json to write")
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    classes = tuple(f"class {number}" for number in range(1, options.classes + 1))
    examples = make_examples(options.images, options.classes, rng)
    detections = [make_detections(example, options.detections, options.classes, rng) for example in examples]
    contestants = {"detect": run_ours} | ({"pycocotools": run_pycocotools} if options.pycocotools else {})
    seconds: dict[str, list] = {name: [] for name in contestants}
    figures: dict[str, dict] = {}
    for number in range(options.rounds):
        for name, run in contestants.items():
            took, values = run(examples, detections, classes)
            seconds[name].append(took)
            figures[name] = dict(zip(FIGURES, values, strict=True))
            print(f"round {number + 1}: {name:<12} {took['total']:8.2f} s   AP {figures[name]['AP']:.6f}", flush=True)
    best = min(took["total"] for took in seconds["detect"])
    print(f"best {best:.2f} s, limit {LIMIT_SECONDS:.0f} s at 5000 images")
    if options.output:
        write_json(
            options.output,
            {
                "images": options.images,
                "detections_per_image": options.detections,
                "classes": options.classes,
                "boxes": sum(len(example.boxes) for example in examples),
                "limit_seconds": LIMIT_SECONDS,
                "best_seconds": best,
                "seconds": seconds,
                "figures": figures,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "cores": os.cpu_count(),
                "machine": platform.machine(),
                "python": platform.python_version(),
            },
        )


if __name__ == "__main__":
    main()
