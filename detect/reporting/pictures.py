"""Pictures: boxes on images, contact sheets, curves and matrices. Every function returns an RGB uint8 array [h, w, 3].

Each figure uses its own matplotlib Figure object, without global state, and is safe in any thread.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detect.evaluation.average_precision import IOU_THRESHOLDS, RECALLS
from detect.evaluation.coco import Scores
from detect.files import replacing
from detect.reporting.figures import MOST_LINES, draw_curves, line_color, new_figure, render, series_of, short, smooth
from detect.reporting.logger import read_metrics
from detect.reporting.text import PALETTE, Color, color_of, fit_text, label_place, paint_label, text_size

PAPER: Color = (245, 245, 245)  # between the pictures of a sheet
CAPTION = 14
"""Pixels of the letters of a caption."""
SINGLE_PANELS = {
    "rate": "learning rate",
    "gradient_norm": "gradient norm",
    "positives_per_image": "positives per image",
    "images_per_second": "images/s",
    "data_wait_share": "share of time waiting for data",
    "memory_mb": "memory, MB",
}


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> np.ndarray:
    """Boxes with labels on a copy of an image.

    image: RGB uint8 [h, w, 3]. boxes: [n, 4] yxyx in its pixels. classes: [n] in 1..C; classes below 1 are skipped.
    scores: [n], written beside the name. The boxes of the highest scores are in front. names: class names of 1..C;
    a class without a name gets its number.
    """
    canvas = np.ascontiguousarray(image).copy()
    side = min(canvas.shape[:2])
    size = max(11 if len(boxes) <= 12 else 9, round(side * 0.033))
    thickness = max(1, round(side / 190))
    ascending = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable").tolist()
    order = [index for index in ascending if classes[index] >= 1]
    far = 2 * max(canvas.shape)  # OpenCV takes numbers of 32 bits
    boxes = np.clip(boxes, -far, far)
    for index in order:
        ymin, xmin, ymax, xmax = np.round(boxes[index]).astype(int).tolist()
        cv2.rectangle(canvas, (xmin, ymin), (xmax, ymax), color_of(int(classes[index])), thickness)
    taken: list[np.ndarray] = []
    for index in reversed(order):  # the label of the best detection is placed first
        kind = int(classes[index])
        text = names[kind - 1] if kind <= len(names) else str(kind)
        score = "" if scores is None else f" {_short_score(float(scores[index]))}"
        text = fit_text(text, size, canvas.shape[1] - (text_size(score, size)[1] if score else 0)) + score
        top, left = label_place(canvas.shape[:2], text_size(text, size), np.asarray(boxes[index]), taken)
        paint_label(canvas, text, top, left, size, color_of(kind))
    return canvas


Panel = tuple[str, np.ndarray, np.ndarray, np.ndarray | None]
"""Heading, boxes [n, 4] yxyx in pixels of the image, classes [n], and scores [n] or None."""


def side_by_side(
    image: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray],
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray],
    names: Sequence[str],
    width: int = 480,
) -> np.ndarray:
    """Ground truth on the left and predictions on the right, each `width` pixels wide, under a heading.

    truth: boxes [n, 4] yxyx in pixels of the image, classes [n]. predictions: boxes, classes, scores.
    """
    return panels(image, [("ground truth", *truth, None), ("predictions", *predictions)], names, width)


def panels(
    image: np.ndarray,
    shown: Sequence[Panel],
    names: Sequence[str],
    width: int,
) -> np.ndarray:
    """The image several times in a row, each in `width` pixels, under headings with the number of boxes.

    A narrow image is no higher than three times the width.
    """
    scale = min(width / image.shape[1], 3 * width / image.shape[0])
    small = _scaled(image, scale)
    gap = np.full((small.shape[0], 6, 3), PAPER, np.uint8)
    beside = np.full((small.shape[0], width - small.shape[1], 3), PAPER, np.uint8)
    drawn = [draw_boxes(small, np.asarray(b) * scale, kinds, scores, names) for _, b, kinds, scores in shown]
    row = np.concatenate([part for each in drawn for part in (each, beside, gap)][:-1], axis=1)
    size = max(11, round(width * 0.03))
    heading = np.full((text_size("X", size)[0] + 4, row.shape[1], 3), PAPER, np.uint8)
    for number, (text, boxes, _, _) in enumerate(shown):
        label = fit_text(f"{text}: {len(boxes)}", size, width)
        paint_label(heading, label, 2, number * (width + gap.shape[1]), size, PAPER, opacity=1)
    return np.concatenate([heading, row])


def within(image: np.ndarray, width: int) -> np.ndarray:
    """The picture as a cell of this width shows it, if it is larger: many large ones would need all of the memory."""
    scale = min(width / image.shape[1], 1.5 * width / image.shape[0])
    return image if scale >= 1 else _scaled(image, scale)


def contact_sheet(
    images: Sequence[np.ndarray], columns: int = 4, width: int = 1920, captions: Sequence[str] = ()
) -> np.ndarray:
    """Pictures in a grid, each resized to a cell of the same size. The sheet is at most `width` pixels wide.

    captions: a line under each picture, shortened to its cell; empty for none.
    Raises ValueError without pictures, and for another number of captions.
    """
    if not len(images):
        raise ValueError("a contact sheet needs at least one picture")
    gap, columns = 8, min(columns, len(images))
    room = (width - gap) // columns - gap
    cell = min(room, max(160, *(image.shape[1] for image in images)))
    height = max(round(image.shape[0] * cell / image.shape[1]) for image in images)
    height = min(height, round(1.5 * cell))  # one tall image must not stretch every row
    rows = -(-len(images) // columns)
    line = text_size("X", CAPTION)[0] if captions else 0
    sheet = np.full((rows * (height + line + gap) + gap, columns * (cell + gap) + gap, 3), PAPER, np.uint8)
    for number, (image, caption) in enumerate(zip(images, captions or [""] * len(images), strict=True)):
        scale = min(cell / image.shape[1], height / image.shape[0])
        small = _scaled(image, scale)
        top = gap + number // columns * (height + line + gap) + (height - small.shape[0]) // 2
        start = gap + number % columns * (cell + gap)
        left = start + (cell - small.shape[1]) // 2
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        if line:
            paint_label(sheet, fit_text(caption, CAPTION, cell), top + small.shape[0], start, CAPTION, PAPER, opacity=1)
    return sheet


def save(path: Path, image: np.ndarray) -> None:
    """Write an RGB picture in the format of the file's suffix (.png, .jpg), and create missing folders.

    Raises OSError if this is not possible. Then no part of it stays, and an earlier picture does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix or ".png", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
    if not ok:
        raise OSError(f"{path}: can't encode the picture in the format {path.suffix or '.png'}")
    with replacing(path, durable=False) as new:
        new.write_bytes(data.tobytes())


def pr_figure(scores: Scores) -> np.ndarray:
    """Precision over recall: per class at IoU .5 on the left, the mean over classes from IoU .5 to .95 on the right.

    At most MOST_LINES classes, those with most boxes, have a colour and a name; the others are grey.
    """
    figure, (left, right) = new_figure(1, 2, 13, 4.6)
    known = [index for index, name in enumerate(scores.classes) if scores.per_class[name]["AP50"] is not None]
    ranked = sorted(known, key=lambda index: -int(scores.per_class[scores.classes[index]]["boxes"] or 0))
    for index in ranked[MOST_LINES:]:
        left.plot(RECALLS, scores.precision[0, :, index], color="0.85", linewidth=0.8)
    for place, index in enumerate(sorted(ranked[:MOST_LINES]), 1):
        name = scores.classes[index]
        color = line_color(index + 1 if len(scores.classes) <= len(PALETTE) else place)
        label = f"{scores.per_class[name]['AP50']:.3f}  {short(name)}"
        left.plot(RECALLS, scores.precision[0, :, index], color=color, linewidth=1.8, label=label)
    for number, threshold in enumerate(IOU_THRESHOLDS if known else ()):
        mean = scores.precision[number][:, known].mean(axis=1)
        fade = number / len(IOU_THRESHOLDS)
        color = (0.05 + 0.75 * fade, 0.2 + 0.65 * fade, 0.45 + 0.5 * fade)
        right.plot(RECALLS, mean, color=color, linewidth=1.8, label=f"{mean.mean():.3f}  IoU {threshold:.2f}")
    if known:
        mean = scores.precision[0][:, known].mean(axis=1)
        left.plot(RECALLS, mean, color="0.1", linewidth=2.6, label=f"{mean.mean():.3f}  all classes")
    for axis, title in ((left, "each class at IoU .50 (AP50)"), (right, "mean over classes at each IoU (AP)")):
        axis.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        if axis.lines:  # beside the curves, because a curve can cross every corner
            axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        else:
            axis.text(0.5, 0.5, "nothing to score", ha="center", color="0.5")
    return render(figure)


def confusion_figure(matrix: np.ndarray, names: Sequence[str], told: str = "") -> np.ndarray:
    """A confusion matrix [n, n] (rows truth, columns prediction): counts in cells coloured by their share of the row.

    names: names of the n rows, with "background" first if the matrix has it. Its cell [0, 0] has no count and shows a
    dash. With more than 30 rows the cells are too small for counts. told: which detections count, for the title.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    count = len(names)
    inches = min(max(4.2, 1.8 + 0.62 * count), 16)
    figure, axis = new_figure(1, 1, inches + 1.2, inches)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(0, count, max(1, count // 60))
    labels = [short(names[index]) for index in ticks]
    size = 9 if count <= 30 else 6
    axis.set_xticks(
        ticks, labels, rotation=40 if count > 3 else 0, ha="right" if count > 3 else "center", fontsize=size
    )
    axis.set_yticks(ticks, labels, fontsize=size)
    title = "confusion (counts; colour: share of the row)" + (f"\n{told}" if told else "")
    axis.set(xlabel="predicted", ylabel="truth", title=title)
    axis.grid(False)
    for row in range(count) if count <= 30 else ():
        for column in range(count):
            if names[0] == "background" and row == column == 0 and not matrix[0, 0]:
                axis.text(0, 0, "–", ha="center", va="center", color="0.6")
            elif matrix[row, column]:
                color = "white" if share[row, column] > 0.55 else "0.2"
                text = f"{matrix[row, column]}" + (f"\n{share[row, column]:.0%}" if count <= 8 else "")
                axis.text(column, row, text, ha="center", va="center", color=color, fontsize=9 if count <= 15 else 7)
    return render(figure)


def results_figure(metrics: Path, output: Path | None = None) -> np.ndarray:
    """Training curves of one stage from its metrics.jsonl: losses, scores, scores per class, rate, gradient, speed.

    Panels without figures are left out. The picture is also saved if `output` is given.
    """
    rows = read_metrics(metrics)
    train, evaluations = ([row for row in rows if row["kind"] == kind] for kind in ("train", "eval"))
    series = {kind: series_of(part) for kind, part in (("train", train), ("eval", evaluations))}
    per_class = {key: value for key, value in series["eval"].items() if "_AP/" in key}
    summary = {key: value for key, value in series["eval"].items() if key not in per_class and _main_figure(key)}
    losses = {key: value for key, value in series["train"].items() if key.startswith("loss/")}
    if losses and (held_out := series["eval"].get("loss/total")):
        losses["loss/total, validation"] = held_out
    panels = [
        ("loss", losses),
        ("scores", summary),
        ("AP per class", per_class),
        *((title, {key: series["train"][key]}) for key, title in SINGLE_PANELS.items() if key in series["train"]),
    ]
    panels = [(title, lines) for title, lines in panels if lines]
    columns = min(3, max(1, len(panels)))
    height = -(-max(1, len(panels)) // columns)
    figure, axes = new_figure(height, columns, 5.6 * columns, 3.1 * height)
    axes = np.atleast_1d(axes).ravel()
    for axis in axes[len(panels) :]:
        axis.axis("off")
    if not panels:
        axes[0].text(0.5, 0.5, "nothing recorded yet", ha="center")
    for axis, (title, lines) in zip(axes, panels, strict=False):
        draw_curves(axis, title, lines)
    picture = render(figure)
    if output is not None:
        save(output, picture)
    return picture


def study_figure(curves: Mapping[str, Path]) -> np.ndarray:
    """AP, AP50 and training loss of several runs over their steps.

    curves: label -> metrics.jsonl. Labels that differ only in a seed in brackets at the end share a colour.
    """
    figure, axes = new_figure(1, 3, 13, 4.2)
    arms = list(dict.fromkeys(_arm(label) for label in curves))
    for label, path in curves.items():
        rows = read_metrics(path)
        values = series_of([row for row in rows if row["kind"] == "eval"])
        losses = series_of([row for row in rows if row["kind"] == "train"])
        arm = _arm(label)
        first = next(other for other in curves if _arm(other) == arm) == label
        style: dict[str, Any] = {"color": line_color(arms.index(arm) + 1), "label": short(arm, 36) if first else None}
        for axis, figures, name in zip(axes, (values, values, losses), ("AP", "AP50", "loss/total"), strict=True):
            key = next((key for key in figures if key == name or key.endswith(f"/{name}")), None)
            if key:
                steps, points = smooth(*figures[key]) if axis is axes[2] else figures[key]
                marker = "" if axis is axes[2] else "o"
                axis.plot(steps, points, linewidth=1.5, alpha=0.9, marker=marker, markersize=3, **style)
    for axis, title in zip(axes, ("AP", "AP50", "training loss"), strict=True):
        axis.set(title=title, xlabel="step")
    if axes[0].lines:
        axes[0].legend(fontsize=8, loc="best")
    return render(figure)


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(
        np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


def _short_score(score: float) -> str:
    """Two digits without the leading zero, because a short label hides less of the image."""
    return f"{score:.2f}".removeprefix("0") if score < 0.995 else "1.0"


def _arm(label: str) -> str:
    return label.rsplit(" (", 1)[0]


def _main_figure(key: str) -> bool:
    return key.rsplit("/", 1)[-1] in ("AP", "AP50", "AP75", "AR100", "top1", "mean")
