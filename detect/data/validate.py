"""Checks every image and every box of a data set before training, and names the file of each problem."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from detect.data.dataset import ClassificationDataset, CropExample, DetectionDataset, Example, class_counts
from detect.data.remembered import Facts, facts_of
from detect.data.split import SPLITS
from detect.data.text import loose, printable
from detect.geometry import boxes as box_ops

# A box of rounded numbers may exceed the image by its rounding error. It is clipped without a finding.
ROUNDING = 1.0


@dataclass(frozen=True)
class Finding:
    """One problem. `action` is the consequence: "dropped", "clipped", "warning", or "error" (training stops).

    kind: unreadable, truncated, wrong-size, depth, zero-area, reversed, outside, tiny, duplicate, unknown-class,
    similar-classes, empty-class, empty-split. split: train, val, test, or two joined by "/". path: the image, or the
    data set's name if the finding is about the whole data set.
    """

    kind: str
    split: str
    path: Path
    detail: str
    action: str

    def __str__(self) -> str:
        return printable(f"{self.action}: {self.kind}: {self.split} {self.path}: {self.detail}")


def check(
    dataset: DetectionDataset | ClassificationDataset,
    decode: bool = False,
    min_side: float = 3.0,
    threads: int = 8,
    ignore: Collection[str] = (),
) -> list[Finding]:
    """All findings of a data set as its reader returns it: about files, then boxes, then the whole data set.

    decode: decode every image as training does; otherwise only headers are read.
    min_side: boxes with a shorter side below this many pixels of the file are reported as tiny.
    ignore: kinds to leave out. The findings of `clean` are among those returned.
    """
    tasks: list[tuple[str, Example | CropExample]] = [(s, e) for s in SPLITS for e in dataset.splits[s]]
    facts = facts_of([example.path for _, example in tasks], decode, threads)
    findings = [finding for task, known in zip(tasks, facts, strict=True) for finding in _check_file(*task, known)]
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


def _check_file(split: str, e: Example | CropExample, facts: Facts) -> list[Finding]:
    """Findings about one image file: unreadable, of another size than its annotation says, or of 10 to 14 bits."""
    if facts.reason or not facts.size:
        missing = "no such file" if not e.path.is_file() else "no image header"
        reason = facts.reason or missing
        kind = "truncated" if "truncated" in reason else "unreadable"
        return [Finding(kind, split, e.path, f"{reason}; replace or remove it", "error")]
    findings = []
    if isinstance(e, Example) and e.annotated_size and e.annotated_size != facts.size:
        source = f" ({e.source.name})" if e.source else ""
        detail = (
            f"the file has {facts.width}x{facts.height} pixels, its annotation says "
            f"{e.annotated_size[0]}x{e.annotated_size[1]}{source}: "
        )
        if facts.orientation >= 5 and e.annotated_size == facts.size[::-1]:
            detail += "its EXIF data turn it, so the boxes count the pixels as stored: set dataset.exif=stored"
        else:
            detail += "the boxes may belong to another image size; correct the annotation or the file"
        findings.append(Finding("wrong-size", split, e.path, detail, "error"))
    if facts.bits != 8:
        detail = f"its 16-bit values use {facts.bits} bits: they are scaled by 255 / {2**facts.bits - 1}"
        findings.append(Finding("depth", split, e.path, detail, "warning"))
    return findings


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
        one_of = {split: e for split, e in reversed(group)}
        for first, second in combinations(filter(one_of.get, SPLITS), 2):
            other = (
                f"the same image as {second} {one_of[second].path}: scores of {second} are too optimistic; remove one"
            )
            findings += [
                Finding("duplicate", f"{first}/{second}", e.path, other, "warning")
                for split, e in group
                if split == first
            ]
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
        for split in SPLITS:
            unseen = split != "train" and not (dataset.splits[split] and counts["train"][i])
            if counts[split][i] or unseen:
                continue
            elsewhere = ", ".join(f"{s} {counts[s][i]}" for s in SPLITS if s != split)
            lost = "it can't be learned" if split == "train" else "it is not scored there; the split has too few images"
            detail = f"class '{name}' has no {what} in {split} ({elsewhere}): {lost}"
            findings.append(Finding("empty-class", split, Path(dataset.name), detail, "warning"))
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dataset.classes:
        alike[loose(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            detail = (
                f"the classes {' and '.join(names)} differ in letter case or Unicode form only; if they are one class: "
                f"dataset.rename={{{names[0]}: {names[-1]}}}"
            )
            findings.append(Finding("similar-classes", "train", Path(dataset.name), detail, "warning"))
    return findings


def summarise(findings: Iterable[Finding]) -> list[str]:
    """One line per action and kind, with its count, the worst action first."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for f in findings:
        counts[f.action, f.kind] += 1
    order = ("error", "dropped", "clipped", "warning")
    ranked = sorted(counts.items(), key=lambda item: order.index(item[0][0]))
    return [f"{n:6d} {kind} ({action})" for (action, kind), n in ranked]
