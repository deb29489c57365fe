"""Damages the files of strangers at random, and reads them: every reader must read them or raise a UserError.

    python scripts/fuzz.py [CASES] [SECONDS] [--only READER...]       # make fuzz

The readers are those of data sets, and those of `scripts/fuzz_models.py`: weights, models, archives and run folders.
ONNX files and OpenVINO models are damaged where the extras `onnx` and `openvino` are installed.
It prints a table: cases of each reader, how many were read and refused, the longest case, and the growth of memory.
Exit code 1: a case raised another error, took longer than 5 seconds, or memory grew by 1 GB. A case that ends the
process leaves its trace, and the damaged file in the folder of the last line.
"""

import argparse
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import fuzz_models
import fuzz_worker
import globox
import numpy as np

from detect import apart
from detect.cli.convert import WRITERS
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats import tfrecord_cache
from detect.data.formats.auto import FORMATS
from detect.data.formats.tfrecord_unpack import unpack
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.notes import Notes
from detect.data.validate import check
from detect.errors import UserError

LONGEST = 5  # seconds of a case
REFUSED = "keras and other zips"  # right files of this kind are refused, too
MOST_MEMORY = 1 << 30  # bytes by which the process may grow
TOKENS = (
    *("", "0", "-1", "1e999", "nan", "99999999999999999999", "null", "true", "[]", "{}", '"', "'", "<", ">", "&", "%"),
    *("\0", "\ufeff", "\u202e", "../", "/", "\\", "{", "}", "[", "]", ":", ",", "=", "#", "!!python/object:x", "&a *a"),
    *("a" * 5000, "<!DOCTYPE a>", "<![CDATA[", "&#0;", "\n", "\r", "\t", "1", "2.5", "cat", "*", "?", "~", "|"),
)
NUMBERS = (
    *(b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\xff" * 7 + b"\x7f", b"\0" * 4, b"\0" * 8, b"\0\0\0\x80"),
    *(b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\1\0\0\0", b"\0\0\0\1", b"\xff\xff", b"\0\0\1\0", b"\x7f"),
)
"""Lengths and offsets of files: whole numbers of four and eight bytes, and those of seven bits a byte."""
VALUES = (
    *(None, True, -1, 0, 1.5, 1e300, float("nan"), 10**30, "", "x", "1", "../x"),
    *([], {}, [1], [[]], {"a": 1}, [None] * 4),
)


@dataclass
class Tally:
    """Counts of one reader. failures: the trace of each error that is no UserError, once."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    longest: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)


def seed_dataset(folder: Path) -> DetectionDataset:
    """Three small pictures with boxes of two classes, a crowd box, and a picture without a box."""
    examples = []
    for k in range(4):
        path = folder / f"p{k}.{'jpg' if k % 2 else 'png'}"
        cv2.imwrite(str(path), np.full((24, 32, 3), 50 * k, np.uint8))
        boxes = np.array([[2, 3, 12, 20], [4, 5, 20, 30.5]][: 2 * (k < 3)], np.float32).reshape(-1, 4)
        examples.append(
            Example(path, 32, 24, boxes, [1, 2][: len(boxes)], [False, k == 1][: len(boxes)], f"p{k}", source_id=10 + k)
        )
    splits = {"train": examples[:2], "val": examples[2:3], "test": examples[3:]}
    return DetectionDataset("seed", ("cat", "dog"), splits, (), (3, 90))


def damaged(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """The bytes of a file after one to three random changes of bytes, numbers, words, lines or JSON values.

    other: a file whose end may take the place of this one's.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.randrange(11)
        place = rng.randrange(len(content) + 1)
        if kind == 0 and content:
            place = min(place, len(content) - 1)
            content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        elif kind == 1:
            content = content[:place] + rng.choice(TOKENS).encode() + content[place:]
        elif kind == 2:
            content = content[:place] + content[place + rng.randrange(1, 40) :]
        elif kind == 3:
            words = content.split(b" ")
            words[rng.randrange(len(words))] = rng.choice(TOKENS).encode()
            content = b" ".join(words)
        elif kind == 4:
            lines = content.split(b"\n")
            other = rng.choice(lines)
            lines.insert(rng.randrange(len(lines) + 1), other)
            content = b"\n".join(lines)
        elif kind == 5:
            content = content[:place]
        elif kind == 6:  # a length or an offset becomes huge, or nothing
            number = rng.choice(NUMBERS)
            content = content[:place] + number + content[place + len(number) :]
        elif kind == 7:
            start, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 8, 64, 512))
            content = content[:place] + content[start : start + length] + content[place:]
        elif kind == 8:
            start, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 8, 64, 512))
            content = (content[:place] + content[start : start + length] + content[place + length :])[: len(content)]
        elif kind == 9 and other:
            content = content[:place] + other[rng.randrange(len(other)) :]
        else:
            content = damaged_json(content, rng)
    return content


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON text with one value replaced, removed or doubled; other text is given back as it is."""
    try:
        tree = json.loads(content)
    except ValueError:
        return content
    places = []

    def walk(node: object) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])  # type: ignore[index]

    walk(tree)
    if not places:
        return content
    node, key = rng.choice(places)
    if rng.random() < 0.25:
        del node[key]
    elif rng.random() < 0.2 and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def run(reader: fuzz_models.Reader, cases: int, deadline: float, rng: random.Random) -> Tally:
    """Reads `cases` damaged copies of a folder, one file damaged at a time, until the deadline (of time.monotonic)."""
    tally, folder = Tally(), reader.seed
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.suffix not in IMAGE_SUFFIXES] * 4 + files
    while tally.cases < cases and time.monotonic() < deadline:
        path = rng.choice(files)
        before = path.read_bytes()
        content = damaged(before, rng, rng.choice(files).read_bytes())
        path.write_bytes(reader.repair(content) if reader.repair and rng.random() < 0.7 else content)
        seconds, failure = read_one(reader, folder, path, tally)
        if seconds > LONGEST:  # a hang comes again; a busy machine may not
            seconds, failure = read_one(reader, folder, path, tally)
        if failure or seconds > LONGEST:
            kept = Path("runs/fuzz") / f"{len(tally.failures)}-{path.name}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(path.read_bytes())
            tally.failures[f"{failure or 'longer'}\n(the damaged file is in {kept})"] += 1
        tally.longest = max(tally.longest, seconds)
        tally.cases += 1
        path.write_bytes(before)
        if tally.cases % 500 == 0:
            shutil.rmtree(os.environ["DETECT_CACHE"], ignore_errors=True)
    return tally


def read_one(reader: fuzz_models.Reader, folder: Path, path: Path, tally: Tally) -> tuple[float, str | None]:
    """Reads a damaged copy once. Returns the seconds, and the trace of an error that is no UserError."""
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        reader.read(folder, path)
        tally.read += 1
    except UserError:
        tally.refused += 1
    except Exception:
        return time.monotonic() - started, traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.monotonic() - started, None


def data_reader(read: Callable[..., DetectionDataset], folder: Path) -> fuzz_models.Reader:
    """The reader of a format of data sets, with the check of its pictures."""
    return fuzz_models.Reader(folder, lambda place, _: check(read(place), decode=True, threads=1))


def can_read(reader: fuzz_models.Reader) -> bool:
    """Whether a reader reads its right files."""
    try:
        for path in sorted(path for path in reader.seed.rglob("*") if path.is_file()):
            reader.read(reader.seed, path)
    except UserError:
        return False
    return True


def hang(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {LONGEST} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=int, nargs="?", default=100_000, help="cases of all readers together")
    parser.add_argument("seconds", type=float, nargs="?", default=1500, help="time for all of them")
    parser.add_argument("--seed", type=int, default=0)
    known = (*FORMATS, *fuzz_models.MAKERS)
    parser.add_argument("--only", nargs="+", choices=known, metavar="READER", help=f"some of {', '.join(known)}")
    given = parser.parse_args()
    chosen = given.only or [kind for kind in known if fuzz_models.installed(kind)]
    signal.signal(signal.SIGALRM, hang)
    faulthandler.enable(os.fdopen(os.dup(1), "w"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the decoders write a line for each damaged picture
    tallies = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "pictures").mkdir()
        dataset = seed_dataset(root / "pictures")
        os.environ["DETECT_CACHE"] = str(root / "cache")
        import tensorflow  # noqa: F401, before memory is measured

        models = fuzz_models.readers(root, dataset, [kind for kind in chosen if kind in fuzz_models.MAKERS])
        readers = models | {kind: data_reader(FORMATS[kind][1], root / kind) for kind in chosen if kind in FORMATS}
        for kind in (kind for kind in readers if kind in FORMATS):
            if kind in WRITERS:
                (root / kind).mkdir()
                WRITERS[kind](dataset, root / kind, Notes())
            else:
                sample(kind, dataset, root / kind)
        tfrecord_cache.in_child = lambda files, folder: unpack(list(files), folder)  # a process for each case is slow
        worker = fuzz_worker.Worker()
        apart.run = worker.run
        refused = [kind for kind, reader in readers.items() if kind != REFUSED and not can_read(reader)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        left, end = given.cases, time.monotonic() + given.seconds
        for number, (kind, reader) in enumerate(readers.items()):  # what a reader leaves, the others get
            share, now = len(readers) - number, time.monotonic()
            rng = random.Random(f"{kind} {given.seed}")
            tallies[kind] = run(reader, left // share, now + (end - now) / share, rng)
            left -= tallies[kind].cases
            print(f"{kind}: {tallies[kind].cases} cases", flush=True)
        worker.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print("| reader | cases | read | refused | other errors | longest, s |\n|---|---|---|---|---|---|")
    for kind, t in tallies.items():
        errors = sum(t.failures.values())
        print(f"| {kind} | {t.cases} | {t.read} | {t.refused} | {errors} | {t.longest:.2f} |")
    print(f"\n{sum(t.cases for t in tallies.values())} cases, memory grew by {grown / 2**20:.0f} MB")
    for t in tallies.values():
        for trace, count in t.failures.most_common(5):
            print(f"\n{count} times:\n{trace}")
    if absent := sorted(set(known) - set(chosen)) if not given.only else []:
        print(f"not installed: {', '.join(absent)}")
    if refused:
        print(f"right files are refused: {', '.join(refused)}")
    return int(bool(refused) or any(t.failures or t.longest > LONGEST for t in tallies.values()) or grown > MOST_MEMORY)


def sample(kind: str, dataset: DetectionDataset, folder: Path) -> None:
    """The data set in a format that the project reads and does not write; globox writes LabelMe and CVAT."""
    folder.mkdir()
    examples = [e for split in dataset.splits.values() for e in split]
    for e in examples:
        shutil.copy(e.path, folder)
    if kind == "csv":
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for e in examples:
            for label, (ymin, xmin, ymax, xmax) in zip(e.classes, e.boxes.astype(int).tolist(), strict=True):
                rows.append(f"{e.path.name},32,24,{dataset.classes[label - 1]},{xmin + 1},{ymin + 1},{xmax},{ymax}")
        (folder / "train_labels.csv").write_text("\n".join(rows))
        return
    annotations = [
        globox.Annotation(
            e.path.name,
            (e.width, e.height),
            [
                globox.BoundingBox(label=dataset.classes[label - 1], xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
                for label, (ymin, xmin, ymax, xmax) in zip(e.classes, e.boxes.tolist(), strict=True)
            ],
        )
        for e in examples
    ]
    written = globox.AnnotationSet(annotations)
    written.save_labelme(folder) if kind == "labelme" else written.save_cvat(folder / "annotations.xml")


if __name__ == "__main__":
    sys.exit(main())
