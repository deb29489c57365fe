"""Checks every image and every box of a data set before training, and names the file of each problem."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from detect.data.dataset import (
    SPLITS,
    ClassificationDataset,
    CropExample,
    DetectionDataset,
    Example,
    class_counts,
    image_size,
)
from detect.geometry import boxes as box_ops

# A box of rounded numbers may exceed the image by its rounding error. It is clipped without a finding.
ROUNDING = 1.0
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class Finding:
    """One problem. `action` is the consequence: "dropped", "clipped", "warning", or "error" (training stops).

    kind: unreadable, truncated, wrong-size, zero-area, reversed, outside, tiny, duplicate, unknown-class, empty-class,
    empty-split. split: train, val, test, or two joined by "/". path: the image, or the data set's name if the
    finding is about the whole data set.
    """

    kind: str
    split: str
    path: Path
    detail: str
    action: str

    def __str__(self) -> str:
        return f"{self.action}: {self.kind}: {self.split} {self.path}: {self.detail}"


def check(
    dataset: DetectionDataset | ClassificationDataset,
    decode: bool = False,
    min_side: float = 3.0,
    threads: int = 8,
    ignore: Collection[str] = (),
) -> list[Finding]:
    """All findings of a data set as its reader returns it: about files, then boxes, then the whole data set.

    decode: decode every image; otherwise only headers are read, and JPEGs without an end marker are decoded.
    min_side: boxes with a shorter side below this many pixels of the file are reported as tiny.
    ignore: kinds to leave out. The findings of `clean` are among those returned.
    """
    tasks: list[tuple[str, Example | CropExample]] = [(s, e) for s in SPLITS for e in dataset.splits[s]]
    with ThreadPoolExecutor(threads) as pool:
        files = pool.map(lambda task: _check_file(task[0], task[1], decode), tasks)
        findings = [finding for found in files for finding in found]
    if isinstance(dataset, DetectionDataset):
        for split in SPLITS:
            for example in dataset.splits[split]:
                findings += _check_boxes(split, example, dataset.classes, min_side)
        findings += clean(dataset)[1]
    findings += _duplicates(tasks, threads) + _whole(dataset)
    return [f for f in findings if f.kind not in ignore]


def clean(dataset: DetectionDataset) -> tuple[DetectionDataset, list[Finding]]:
    """Drops the boxes that can't be learned (without area, reversed, outside the image) and clips the others.

    An excess of up to a pixel is rounding and is clipped without a finding. Images that lose all boxes are kept as
    background. Returns the new data set, with the counts in its notes, and the findings.
    """
    findings: list[Finding] = []
    splits = {}
    for split, examples in dataset.splits.items():
        parts = [_clean_example(split, e, dataset.classes) for e in examples]
        splits[split] = tuple(e for e, _ in parts)
        findings += [f for _, found in parts for f in found]
    counts = [f"{sum(f.action == a for f in findings)} boxes {a}" for a in ("dropped", "clipped")]
    notes = (f"cleaned: {', '.join(counts)}",) if findings else ()
    return replace(dataset, splits=splits, notes=dataset.notes + notes), findings


def _clean_example(split: str, e: Example, names: Sequence[str]) -> tuple[Example, list[Finding]]:
    high, wide = (e.boxes[:, 2:] - e.boxes[:, :2]).T
    clipped = box_ops.clip(e.boxes, e.height, e.width)
    excess = np.abs(clipped - e.boxes).max(axis=1, initial=0.0)
    keep = box_ops.area(clipped) > 0
    findings = []
    for i in np.flatnonzero(~keep | (excess > ROUNDING)).tolist():
        if high[i] < 0 or wide[i] < 0:
            kind, why, action = "reversed", "its minimum is above its maximum", "dropped"
        elif high[i] == 0 or wide[i] == 0:
            kind, why, action = "zero-area", f"{wide[i]:g} x {high[i]:g} pixels", "dropped"
        elif not keep[i]:
            kind, why, action = "outside", f"completely outside the image of {e.width}x{e.height}", "dropped"
        else:
            kind, why, action = "outside", f"{excess[i]:g} pixels outside the image of {e.width}x{e.height}", "clipped"
        findings.append(Finding(kind, split, e.path, f"{_name_box(e, i, names)}: {why}", action))
    if keep.all() and not excess.any():
        return e, findings
    return replace(e, boxes=clipped[keep], classes=e.classes[keep], crowd=e.crowd[keep]), findings


def _name_box(e: Example, i: int, names: Sequence[str]) -> str:
    """The number, class and corners of box `i`, for a message."""
    label = int(e.classes[i])
    name = names[label - 1] if 0 < label <= len(names) else f"class {label}"
    ymin, xmin, ymax, xmax = (f"{v:g}" for v in e.boxes[i])
    return f"box {i + 1} ({name}), x {xmin}..{xmax}, y {ymin}..{ymax}"


def _check_file(split: str, e: Example | CropExample, decode: bool) -> list[Finding]:
    """Findings about one image file: unreadable, truncated, or of another size than its annotation says."""
    found = image_size(e.path)
    if found is None:
        reason = "no such file" if not e.path.is_file() else _decode_error(e.path) or "no image header"
        return [Finding("unreadable", split, e.path, f"{reason}; replace or remove it", "error")]
    findings = []
    if decode or _lacks_end(e.path):
        failure = _decode_error(e.path)
        if failure:
            kind = "truncated" if "truncated" in failure else "unreadable"
            findings.append(Finding(kind, split, e.path, f"{failure}; replace or remove it", "error"))
    if isinstance(e, Example) and e.annotated_size and e.annotated_size != found:
        claimed = "x".join(map(str, e.annotated_size))
        source = f" ({e.source.name})" if e.source else ""
        detail = (
            f"the file has {found[0]}x{found[1]} pixels, its annotation says {claimed}{source}: "
            "the boxes may belong to another image size; correct the annotation or the file"
        )
        findings.append(Finding("wrong-size", split, e.path, detail, "error"))
    return findings


def _lacks_end(path: Path) -> bool:
    """True for a JPEG without an end-of-image marker in its last 4 KB: a fast check for a truncated file."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 4096, 0))
        return _JPEG_END not in file.read()


def _decode_error(path: Path) -> str | None:
    """The reason why an image can't be decoded, or None. JPEGs are decoded at 1/8 scale, from all of their data."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error).replace(f" '{path}'", "").replace("image file is truncated", "the file is truncated")
    return None


def _check_boxes(split: str, e: Example, names: Sequence[str], min_side: float) -> list[Finding]:
    """Findings about boxes that `clean` keeps: below `min_side`, or of an unknown class."""
    sides = (e.boxes[:, 2:] - e.boxes[:, :2]).min(axis=1, initial=np.inf)
    findings = []
    for i in np.flatnonzero((sides > 0) & (sides < min_side)).tolist():
        detail = f"{_name_box(e, i, names)}: a side of {sides[i]:g} pixels, below {min_side:g}"
        findings.append(Finding("tiny", split, e.path, detail, "warning"))
    for i in np.flatnonzero((e.classes < 1) | (e.classes > len(names))).tolist():
        detail = f"{_name_box(e, i, names)}: the class must be 1..{len(names)} ({', '.join(names)})"
        findings.append(Finding("unknown-class", split, e.path, detail, "error"))
    return findings


def _duplicates(tasks: Sequence[tuple[str, Example | CropExample]], threads: int) -> list[Finding]:
    """Image files with the same bytes in two splits. Only files of the same length are read."""
    by_length = defaultdict(list)
    for split, e in tasks:
        if e.path.is_file():
            by_length[e.path.stat().st_size].append((split, e))
    suspects = [t for group in by_length.values() if len({s for s, _ in group}) > 1 for t in group]
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(lambda t: hashlib.sha256(t[1].path.read_bytes()).digest(), suspects))
    by_content = defaultdict(list)
    for task, digest in zip(suspects, digests, strict=True):
        by_content[digest].append(task)
    findings = []
    for group in by_content.values():
        for (first, a), (second, b) in combinations(group, 2):
            if first != second:
                detail = f"the same image as {second} {b.path}: scores of {second} are too optimistic; remove one"
                findings.append(Finding("duplicate", f"{first}/{second}", a.path, detail, "warning"))
    return findings


def _whole(dataset: DetectionDataset | ClassificationDataset) -> list[Finding]:
    """Findings about the whole data set: no training images, or classes without training images."""
    findings = []
    if not dataset.splits["train"]:
        findings.append(Finding("empty-split", "train", Path(dataset.name), "no images to train on", "error"))
    if isinstance(dataset, DetectionDataset):
        what, counts = "box", {s: class_counts(dataset.splits[s], dataset.num_classes) for s in SPLITS}
    else:
        labels = {s: [e.label for e in dataset.splits[s]] for s in SPLITS}
        what, counts = "picture", {s: np.bincount(labels[s], minlength=dataset.num_classes) for s in SPLITS}
    for i, name in enumerate(dataset.classes):
        if counts["train"][i] == 0:
            elsewhere = ", ".join(f"{s} {counts[s][i]}" for s in SPLITS[1:])
            detail = f"class '{name}' has no {what} to train on ({elsewhere}): it can't be learned"
            findings.append(Finding("empty-class", "train", Path(dataset.name), detail, "warning"))
    return findings


def summarise(findings: Iterable[Finding]) -> list[str]:
    """One line per action and kind, with its count, the worst action first."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for f in findings:
        counts[f.action, f.kind] += 1
    order = ("error", "dropped", "clipped", "warning")
    ranked = sorted(counts.items(), key=lambda item: order.index(item[0][0]))
    return [f"{n:6d} {kind} ({action})" for (action, kind), n in ranked]
