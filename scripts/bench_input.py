"""Compares the input pipeline with a plain albumentations loop: `python scripts/bench_input.py OUT.json [--rounds N]`.

The work: JPEG of 500x375 with six boxes, flip, box-safe crop, colour, resize to 300x300. Both sides run in turn
within each round, so that other load on the machine strikes both; the figures are medians over the rounds, the ratio
is the median of the rounds' ratios. Processor time per image stands beside them: it hardly depends on other load. The
stage table and the arms then say where the time goes.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from skimage import data

from detect.data.augment import Augment
from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.data.pipeline import DetectionStream
from detect.environment import usable_cores
from detect.geometry.frame import Frame, resize

SIZE, BATCH = (300, 300), 8
log = logging.getLogger("bench_input")


def colour() -> dict[str, Any]:
    """The colour transforms of both sides, always applied."""
    return {"brightness": A.RandomBrightnessContrast(p=1), "hue": A.HueSaturationValue(p=1)}


def geometry() -> dict[str, Any]:
    """The geometric transforms of both sides."""
    return {"flip": A.HorizontalFlip(p=0.5), "crop": A.BBoxSafeRandomCrop(p=1)}


def make_images(folder: Path, number: int, width: int, height: int) -> list[Example]:
    """Photographs of scikit-image, cut at random, as JPEGs of quality 95 with six boxes each."""
    photographs = [data.astronaut(), data.chelsea(), data.coffee()]
    rng = np.random.default_rng(0)
    examples = []
    for k in range(number):
        photograph = photographs[k % len(photographs)]
        y, x = (int(rng.integers(0, side // 5)) for side in photograph.shape[:2])
        picture = cv2.resize(photograph[y:, x:], (width, height), interpolation=cv2.INTER_CUBIC)
        path = folder / f"{width}-{k}.jpg"
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        corner = rng.uniform(0, 0.6, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (6, 2))], axis=1)
        boxes = boxes * (height, width, height, width)
        examples.append(Example(path, width, height, boxes, rng.integers(1, 21, 6), np.zeros(6, bool), str(k)))
    return examples


def peer(examples: Sequence[Example]) -> Callable[[], None]:
    """A simple loop: one thread, albumentations handles boxes and labels, the resize comes last."""
    compose = A.Compose(
        [*geometry().values(), *colour().values(), A.Resize(*SIZE)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], min_visibility=0.3),
    )

    def run() -> None:
        for e in examples:
            image = cv2.imread(str(e.path))
            assert image is not None, e.path
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            compose(image=image, bboxes=e.boxes[:, [1, 0, 3, 2]], labels=e.classes.tolist())

    return run


def ours(examples: Sequence[Example], threads: int, **changes: Any) -> Callable[[], None]:
    """One epoch of the stream, from the first step to the last batch."""
    augment = changes.pop("augment", None) or Augment(geometry() | colour())
    stream = DetectionStream(examples, SIZE, BATCH, augment, max_boxes=20, threads=threads, **changes)

    def run() -> None:
        for _ in stream.iterate(0, len(examples) // BATCH):
            pass

    return run


def decode_only(examples: Sequence[Example], threads: int) -> Callable[[], None]:
    """Only cv2's JPEG decoder: the speed of this machine's cores without the interpreter lock."""

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read_image, [e.path for e in examples]))

    return run


def alternate(
    arms: dict[str, Callable[[], None]], images: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Images per second of every arm in every round, and the median milliseconds of processor time per image.

    The order rotates from round to round. A first run of each arm is not measured.
    """
    rates: dict[str, list[float]] = {name: [] for name in arms}
    busy: dict[str, list[float]] = {name: [] for name in arms}
    for run in arms.values():
        run()
    for number in range(rounds):
        names = list(arms) if number % 2 else list(arms)[::-1]
        for name in names:
            start, used = time.perf_counter(), time.process_time()
            arms[name]()
            rates[name].append(images / (time.perf_counter() - start))
            busy[name].append((time.process_time() - used) / images * 1000)
        log.info("round %d: %s", number + 1, "  ".join(f"{n} {rates[n][-1]:.0f}/s" for n in arms))
    return rates, {name: round(statistics.median(values), 2) for name, values in busy.items()}


def microseconds(function: Callable[[], Any], repeats: int = 60) -> float:
    """Median duration of a call in one thread."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 1)


def stages(example: Example) -> dict[str, float]:
    """Microseconds of each step on one image, and of alternatives (marked "instead")."""
    image = read_image(example.path)
    xyxy = example.boxes[:, [1, 0, 3, 2]]
    rows = np.concatenate([xyxy / (500, 375, 500, 375), np.arange(6)[:, None]], axis=1)
    small, labels = resize(image, SIZE), example.classes.tolist()
    plain = A.Compose(list(geometry().values()))
    boxed = A.Compose(
        list(geometry().values()), bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], min_visibility=0.3)
    )
    light, hue = colour().values()
    augment, frame = Augment(geometry() | colour()), Frame(SIZE)
    return {
        "decode to RGB": microseconds(lambda: read_image(example.path)),
        "flip and crop, boxes as arrays": microseconds(lambda: plain(image=image, bboxes=rows)),
        "instead: albumentations' box processor": microseconds(lambda: boxed(image=image, bboxes=xyxy, labels=labels)),
        "resize, bilinear": microseconds(lambda: resize(image, SIZE)),
        "instead: mean over area": microseconds(lambda: cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)),
        "brightness at 300x300": microseconds(lambda: light(image=small)),
        "instead: brightness at 500x375": microseconds(lambda: light(image=image)),
        "hue and saturation at 300x300": microseconds(lambda: hue(image=small)),
        "instead: hue and saturation at 500x375": microseconds(lambda: hue(image=image)),
        "seeding the generators": microseconds(lambda: plain.set_random_state(np.random.default_rng((1, 0)), None)),
        "copy into the batch": microseconds(lambda: small.copy()),
        "all of Augment.apply": microseconds(lambda: augment.apply(image, example.boxes, example.classes, frame, 1)),
    }


def findings(rate: dict[str, float], table: dict[str, float], threads: int) -> list[str]:
    """The bottlenecks of the pipeline, as sentences with the figures of this run."""
    decode, total = table["decode to RGB"], table["decode to RGB"] + table["all of Augment.apply"]
    arrays, boxed = table["flip and crop, boxes as arrays"], table["instead: albumentations' box processor"]
    small, full = (
        sum(v for k, v in table.items() if k.endswith(f"at {size}") and ("hue" in k or "brightness" in k))
        for size in ("300x300", "500x375")
    )
    gain = rate[f"stream, {threads} threads"] / rate["stream, 1 thread"]
    bound = rate[f"decode only, {threads} threads"] / rate["decode only, 1 thread"]
    return [
        f"decode: {decode / total:.0%} of an image's {total:.0f} us in one thread",
        f"boxes: albumentations' processor takes {boxed:.0f} us where arrays take {arrays:.0f} us for the same flip "
        "and crop, and holds the interpreter lock all the while",
        f"order: colour takes {small:.0f} us at 300x300, {full:.0f} us at 500x375, so the resize comes first",
        f"lock: {threads} threads do {gain:.2f} times the work of one; the bare decoder, which never holds the lock, "
        f"{bound:.2f} times, which is the most that the machine had to give (2.00 when nothing else runs)",
        f"reduced decode: {rate['1600x1200']:.0f} -> {rate['1600x1200, reduced decode']:.0f} images/s at 1600x1200; "
        "never used at 500x375",
    ]


def main() -> None:
    """Measure, print and write the json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    threads, number = arguments.threads, arguments.images // BATCH * BATCH
    with tempfile.TemporaryDirectory() as folder:
        examples = make_images(Path(folder), number, 500, 375)
        rates, milliseconds = alternate(
            {
                "peer": peer(examples),
                "stream, 1 thread": ours(examples, 1),
                f"stream, {threads} threads": ours(examples, threads),
                "decode only, 1 thread": decode_only(examples, 1),
                f"decode only, {threads} threads": decode_only(examples, threads),
            },
            number,
            arguments.rounds,
        )
        large = make_images(Path(folder), 6 * BATCH, 1600, 1200)
        reduced = {f"1600x1200{', reduced decode' * r}": ours(large, threads, reduced_decode=r) for r in (False, True)}
        more_rates, more_milliseconds = alternate(reduced, len(large), max(3, arguments.rounds // 3))
        rates, milliseconds = rates | more_rates, milliseconds | more_milliseconds
        table = stages(examples[2])
        kilobytes = round(statistics.mean(e.path.stat().st_size for e in examples) / 1024, 1)
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratios = [o / p for o, p in zip(rates[f"stream, {threads} threads"], rates["peer"], strict=True)]
    result = {
        "work": "JPEG 500x375, flip, box-safe crop, brightness and hue, resize 300x300; six boxes",
        "threads": threads,
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "kilobytes_per_jpeg": kilobytes,
        "images_per_second": medians,
        "cpu_milliseconds_per_image": milliseconds,
        "ratio_to_peer": round(statistics.median(ratios), 2),
        "rounds": {name: [round(v, 1) for v in values] for name, values in rates.items()},
        "stage_microseconds": table,
        "findings": findings(medians, table, threads),
        "versions": {"albumentations": A.__version__, "opencv": cv2.__version__, "numpy": np.__version__},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in medians.items():
        print(f"{name:32}{value:9.0f} images/s{milliseconds[name]:9.2f} ms of one core")
    print(f"ratio to the peer {result['ratio_to_peer']}")
    for stage, value in table.items():
        print(f"{stage:40}{value:9.0f} us")
    print("\n".join(result["findings"]))


if __name__ == "__main__":
    main()
