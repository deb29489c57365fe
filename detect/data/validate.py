"""Checks every image and every box of a data set before training, and names the file of each problem."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from detect.data.dataset import ClassificationDataset, DetectionDataset, class_counts
from detect.data.examples import CropExample, Crops, Example, Examples
from detect.data.image_file import ends, length, picture_bytes
from detect.data.parallel import each
from detect.data.remembered import Facts, facts_of
from detect.data.split import SPLITS
from detect.data.text import loose, printable, renaming
from detect.geometry import boxes as box_ops

# A box of rounded numbers may exceed the image by its rounding error. It is clipped without a finding.
ROUNDING = 1.0
SHOWN = 20  # findings of a kind that are shown one by one


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
    files = {split: _files(dataset.splits[split]) for split in SPLITS}
    facts = facts_of([path for split in SPLITS for path in files[split]], decode, threads)
    findings, first = [], 0
    for split in SPLITS:
        known = facts[first : (first := first + len(files[split]))]
        findings += _check_files(split, dataset.splits[split], known)
    if isinstance(dataset, DetectionDataset):
        for split in SPLITS:
            findings += _check_boxes(split, Examples.of(dataset.splits[split]), dataset.classes, min_side)
        findings += clean(dataset)[1]
    findings += _duplicates(files, threads) + _whole(dataset)
    return [f for f in findings if f.kind not in ignore]


def clean(dataset: DetectionDataset) -> tuple[DetectionDataset, list[Finding]]:
    """Drops the boxes that can't be learned (without area, reversed, outside the image) and clips the others.

    An excess of up to a pixel is rounding and is clipped without a finding. Images that lose all boxes are kept as
    background. Returns the new data set, with the counts in its notes, and the findings.
    """
    findings: list[Finding] = []
    splits = {}
    for split, examples in dataset.splits.items():
        splits[split], found = _clean_split(split, Examples.of(examples), dataset.classes)
        findings += found
    counts = [f"{sum(f.action == a for f in findings)} boxes {a}" for a in ("dropped", "clipped")]
    notes = (f"cleaned: {', '.join(counts)}",) if findings else ()
    return replace(dataset, splits=splits, notes=dataset.notes + notes), findings


def _clean_split(split: str, examples: Examples, names: Sequence[str]) -> tuple[Examples, list[Finding]]:
    boxes, (width, height) = examples.boxes, examples.box_sizes().T
    clipped = box_ops.clip(boxes, height, width)
    excess = np.abs(clipped - boxes).max(axis=1, initial=0.0)
    keep = box_ops.area(clipped) > 0
    if keep.all() and not excess.any():
        return examples, []
    findings, owners = [], examples.owners
    for m in np.flatnonzero(~keep | (excess > ROUNDING)).tolist():
        e = examples[int(owners[m])]
        (high, wide), size = boxes[m, 2:] - boxes[m, :2], f"{e.width}x{e.height}"
        if high < 0 or wide < 0:
            kind, why, action = "reversed", "its minimum is above its maximum", "dropped"
        elif high == 0 or wide == 0:
            kind, why, action = "zero-area", f"{wide:g} x {high:g} pixels", "dropped"
        elif not keep[m]:
            kind, why, action = "outside", f"completely outside the image of {size}", "dropped"
        else:
            kind, why, action = "outside", f"{excess[m]:g} pixels outside the image of {size}", "clipped"
        box = _name_box(e, m - int(examples.ends[owners[m]]), names)
        findings.append(Finding(kind, split, e.path, f"{box}: {why}", action))
    return examples.with_boxes(clipped, keep), findings


def _name_box(e: Example, i: int, names: Sequence[str]) -> str:
    """The number, class and corners of box `i`, for a message."""
    label = int(e.classes[i])
    name = names[label - 1] if 0 < label <= len(names) else f"class {label}"
    ymin, xmin, ymax, xmax = (f"{v:g}" for v in e.boxes[i])
    return f"box {i + 1} ({name}), x {xmin}..{xmax}, y {ymin}..{ymax}"


def _files(items: Sequence[Example] | Sequence[CropExample]) -> list[str]:
    """The path of each item's image file."""
    if isinstance(items, Crops):
        paths = list(items.paths)
        return [paths[k] for k in items.image.tolist()]
    return list(items.paths) if isinstance(items, Examples) else [str(item.path) for item in items]


def _check_files(split: str, items: Sequence[Example] | Sequence[CropExample], facts: Sequence[Facts]) -> list[Finding]:
    """Findings about the image files of a split."""
    annotated = items.annotated.tolist() if isinstance(items, Examples) else [(-1, -1)] * len(items)
    return [
        finding
        for k, (known, (wide, high)) in enumerate(zip(facts, annotated, strict=True))
        if known.reason or not known.width or known.bits != 8 or (wide >= 0 and known.size != (wide, high))
        for finding in _check_file(split, items[k], known)
    ]


def _check_file(split: str, e: Example | CropExample, facts: Facts) -> list[Finding]:
    """Findings about one image file: unreadable, of another size than its annotation says, or of 10 to 14 bits."""
    if facts.reason or not facts.size:
        missing = "no such file" if length(str(e.path)) is None else "no image header"
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


def _check_boxes(split: str, examples: Examples, names: Sequence[str], min_side: float) -> list[Finding]:
    """Findings about boxes that `clean` keeps: below `min_side`, or of an unknown class."""
    sides = (examples.boxes[:, 2:] - examples.boxes[:, :2]).min(axis=1, initial=np.inf)
    tiny = (sides > 0) & (sides < min_side)
    unknown = (examples.classes < 1) | (examples.classes > len(names))
    findings, owners = [], examples.owners
    for place in np.unique(owners[tiny | unknown]).tolist():
        e, first = examples[place], int(examples.ends[place])
        here = slice(first, int(examples.ends[place + 1]))
        for i in np.flatnonzero(tiny[here]).tolist():
            detail = f"{_name_box(e, i, names)}: a side of {sides[first + i]:g} pixels, below {min_side:g}"
            findings.append(Finding("tiny", split, e.path, detail, "warning"))
        for i in np.flatnonzero(unknown[here]).tolist():
            detail = f"{_name_box(e, i, names)}: the class must be 1..{len(names)} ({', '.join(names)})"
            findings.append(Finding("unknown-class", split, e.path, detail, "error"))
    return findings


def _duplicates(files: Mapping[str, Sequence[str]], threads: int) -> list[Finding]:
    """Image files with the same bytes in two splits. files: the path of each item, by split.

    Of files with the same length in two splits, the ends are read; all of a file only where these are equal, too.
    """
    suspects = [(split, path) for split in SPLITS for path in files[split]]
    for mark in (length, _ends, _content):
        marks: list[object] = each(mark, [path for _, path in suspects], threads)
        suspects, groups = _shared(suspects, marks)
    findings = []
    for group in groups:
        one_of = {split: path for split, path in reversed(group)}
        for first, second in combinations(filter(one_of.get, SPLITS), 2):
            other = f"the same image as {second} {one_of[second]}: scores of {second} are too optimistic; remove one"
            findings += [
                Finding("duplicate", f"{first}/{second}", Path(path), other, "warning")
                for split, path in group
                if split == first
            ]
    return findings


Place = tuple[str, str]


def _shared(suspects: Sequence[Place], marks: Sequence[object]) -> tuple[list[Place], list[list[Place]]]:
    """Those (split, path) whose mark occurs in two splits, and the same in groups of one mark; None is no mark."""
    splits: dict[object, set[str]] = defaultdict(set)
    for (split, _), mark in zip(suspects, marks, strict=True):
        splits[mark].add(split)
    groups: dict[object, list[Place]] = defaultdict(list)
    for place, mark in zip(suspects, marks, strict=True):
        if mark is not None and len(splits[mark]) > 1:
            groups[mark].append(place)
    return [place for group in groups.values() for place in group], list(groups.values())


def _ends(path: str) -> bytes | None:
    """The length and the bytes at both ends, as one digest; None if they can't be read."""
    try:
        return hashlib.sha256(f"{length(path)} ".encode() + ends(path)).digest()
    except OSError:
        return None


def _content(path: str) -> bytes | None:
    """A digest of all bytes; None if they can't be read."""
    try:
        return hashlib.sha256(picture_bytes(path)).digest()
    except OSError:
        return None


def _whole(dataset: DetectionDataset | ClassificationDataset) -> list[Finding]:
    """Findings about the whole data set: no training images, or classes without training images."""
    findings = []
    if not dataset.splits["train"]:
        scored = isinstance(dataset, DetectionDataset)  # a test set alone
        what = "no images to train on"
        findings.append(Finding("empty-split", "train", Path(dataset.name), what, "warning" if scored else "error"))
    if isinstance(dataset, DetectionDataset):
        what, learned = "box", {s: Examples.of(dataset.splits[s]).learned() for s in SPLITS}
        counts = {s: class_counts(learned[s], dataset.num_classes) for s in SPLITS}
        aside = {s: class_counts(dataset.splits[s], dataset.num_classes) - counts[s] for s in SPLITS}
    else:
        labels = {s: Crops.of(dataset.splits[s]).labels for s in SPLITS}
        what, counts = "picture", {s: np.bincount(labels[s], minlength=dataset.num_classes) for s in SPLITS}
        aside = {s: np.zeros_like(counts[s]) for s in SPLITS}
    for i, name in enumerate(dataset.classes):
        for split in SPLITS:
            told = not dataset.splits[split] or (split != "train" and not counts["train"][i])
            if counts[split][i] or told:
                continue
            elsewhere = ", ".join(f"{s} {counts[s][i]}" for s in SPLITS if s != split)
            lost = "it can't be learned" if split == "train" else "it is not scored there"
            lost += "; the split has too few images" if split in dataset.drawn else ""
            kind, more = what, ""
            if aside[split][i]:
                kind = f"{what} that is {'trained' if split == 'train' else 'scored'}"
                more = f"crowd or difficult {aside[split][i]}, "
            detail = f"class '{name}' has no {kind} in {split} ({more}{elsewhere}): {lost}"
            findings.append(Finding("empty-class", split, Path(dataset.name), detail, "warning"))
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dataset.classes:
        alike[loose(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            detail = (
                f"the classes {' and '.join(names)} differ in letter case or Unicode form only; if they are one class: "
                f"{renaming(*names)}"
            )
            findings.append(Finding("similar-classes", "train", Path(dataset.name), detail, "warning"))
    return findings


def first_of_each_kind(findings: Iterable[Finding]) -> list[Finding]:
    """The first SHOWN findings of each kind: there may be one for each box."""
    shown: Counter[str] = Counter()
    found = []
    for finding in findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= SHOWN:
            found.append(finding)
    return found


def summarise(findings: Iterable[Finding]) -> list[str]:
    """One line per action and kind, with its count, the worst action first."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for f in findings:
        counts[f.action, f.kind] += 1
    order = ("error", "dropped", "clipped", "warning")
    ranked = sorted(counts.items(), key=lambda item: order.index(item[0][0]))
    return [f"{n:6d} {kind} ({action})" for (action, kind), n in ranked]
