"""A picture of the errors that cost AP: by kind, by size of the object, and by class."""

import numpy as np

from detect.errors import score_text
from detect.evaluation.error_split import KINDS, SIZES, ErrorSplit
from detect.reporting.figures import line_color, new_figure, render, short

SHADES = {"all": (0.2, 0.2, 0.2), "small": line_color(2), "medium": line_color(7), "large": line_color(1)}
MOST_CLASSES = 12


def error_figure(split: ErrorSplit) -> np.ndarray:
    """Bars of what AP50 gains without each kind of error, and a table of classes, as RGB uint8 [h, w, 3].

    At most MOST_CLASSES classes, those that lose most.
    """
    figure, (left, right) = new_figure(1, 2, 13, 4.6)
    places = np.arange(len(KINDS) + 2)
    special = (split.false_positives, split.false_negatives)
    for number, name in enumerate(("all", *SIZES)):
        gains = split.gains if name == "all" else split.by_size[name]
        values = [gains[kind] for kind in KINDS]
        left.barh(places[: len(KINDS)] + 0.2 * number - 0.3, values, 0.19, color=SHADES[name], label=name)
    left.barh(places[len(KINDS) :], special, 0.4, color="0.6")
    labels = [f"{kind} ({split.counts[kind]})" for kind in KINDS] + ["false positives", "false negatives"]
    left.set_yticks(places, labels)
    left.invert_yaxis()
    left.set_title("errors (their number), by size of the object")
    left.set_xlabel(f"gain of AP50 without them; AP50 is {score_text(split.ap50)}")
    left.set_xlim(0, max(1e-3, 1.1 * max(*split.gains.values(), *special)))
    left.legend(fontsize=8, loc="center right", framealpha=0.8)
    worst = sorted(split.by_class, key=lambda name: -max(split.by_class[name].values()))[:MOST_CLASSES]
    grid = np.array([[split.by_class[name][kind] for kind in KINDS] for name in worst]).reshape(-1, len(KINDS))
    right.imshow(grid, cmap="Blues", vmin=0, vmax=max(1e-3, grid.max(initial=0)), aspect="auto")
    right.grid(False)
    right.set_xticks(range(len(KINDS)), KINDS, rotation=25, ha="right")
    right.set_yticks(range(len(worst)), [short(name, 30) for name in worst])
    right.set_title("gain of AP50 if a class's errors are corrected")
    for (row, column), value in np.ndenumerate(grid):
        if value >= 0.0005:
            color = "white" if value > 0.55 * grid.max() else "0.2"
            right.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=8, color=color)
    return render(figure)
