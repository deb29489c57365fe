"""Colours of classes, and small legible text in pictures."""

import bisect
import colorsys
from functools import lru_cache

import numpy as np

from detect.geometry.boxes import intersection
from detect.reporting import fonts

Color = tuple[int, int, int]

# Bright on photographs and different from each other. Further classes get hues at steps of the golden angle.
PALETTE: tuple[Color, ...] = (
    (255, 87, 71),
    (60, 180, 255),
    (120, 220, 70),
    (255, 200, 40),
    (230, 100, 255),
    (60, 225, 200),
    (255, 145, 40),
    (150, 140, 255),
    (255, 130, 185),
    (190, 215, 60),
)


def color_of(kind: int) -> Color:
    """RGB of class 1..C, the same in every picture and figure; 0 (background) and -1 (padding) are grey."""
    if kind < 1:
        return (150, 150, 150)
    if kind <= len(PALETTE):
        return PALETTE[kind - 1]
    hue = (kind * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.3 * (kind % 2), 0.95 - 0.2 * (kind // 2 % 2))
    return round(255 * red), round(255 * green), round(255 * blue)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Height and width in pixels of the label that `paint_label` paints."""
    return _mask(text, size).shape


def fit_text(text: str, size: int, width: int) -> str:
    """The text, shortened with two dots at its end if it is wider than `width` pixels."""
    if text_size(text, size)[1] <= width:
        return text
    kept = bisect.bisect_right(range(2, len(text)), width, key=lambda n: text_size(f"{text[:n]}..", size)[1])
    return f"{text[: kept + 1]}.."


def paint_label(
    image: np.ndarray, text: str, top: int, left: int, size: int, color: Color, opacity: float = 0.8
) -> None:
    """Paint text on a rectangle of the colour into an RGB image, in place, clipped to the image."""
    mask = _mask(text, size)[: max(image.shape[0] - top, 0), : max(image.shape[1] - left, 0), None]
    patch = image[top : top + mask.shape[0], left : left + mask.shape[1]]
    ink = 0.0 if np.dot(color, (0.299, 0.587, 0.114)) > 110 else 255.0
    ground = opacity * np.asarray(color) + (1 - opacity) * patch
    patch[:] = np.round(ground * (1 - mask) + ink * mask)


def label_place(
    frame: tuple[int, int], label: tuple[int, int], box: np.ndarray, taken: list[np.ndarray]
) -> tuple[int, int]:
    """Top left corner for a label inside the frame, near the box and if possible not over other labels.

    frame, label: (height, width). box: yxyx. taken: yxyx of earlier labels; the new one is added.
    Candidates in order: above the box, inside its top, below it, inside its bottom, each at the left and the right.
    """
    height, width = label
    ymin, xmin, ymax, xmax = box.tolist()
    places = [(y, x) for y in (ymin - height, ymin, ymax, ymax - height) for x in (xmin, xmax - width)]
    others = np.array(taken, int).reshape(-1, 4)
    best: tuple[float, np.ndarray] | None = None
    for y, x in places:
        top = min(max(round(y), 0), max(frame[0] - height, 0))
        left = min(max(round(x), 0), max(frame[1] - width, 0))
        place = np.array([top, left, top + height, left + width])
        hidden = float(intersection(place, others, np.float64).sum())
        if best is None or hidden < best[0]:
            best = (hidden, place)
        if hidden == 0:
            break
    assert best is not None
    taken.append(best[1])
    return int(best[1][0]), int(best[1][1])


@lru_cache(maxsize=256)
def _mask(text: str, size: int) -> np.ndarray:
    """Opacity of a line of text in 0..1, float32 [h, w], with a margin. Lines of one size have the same height.

    Each piece of the text has a font with its characters. A piece that is higher than a line is drawn smaller.
    """
    from PIL import Image, ImageDraw

    ascent, descent = fonts.load(fonts.default(), size).getmetrics()
    drawn = []
    for piece, file in fonts.pieces(text):
        font = fonts.load(file, size)
        _, top, _, bottom = font.getbbox(piece, anchor="ls")
        if -top > ascent or bottom > descent + 1:
            font = fonts.load(file, max(5, int(size * min(ascent / max(-top, 1), (descent + 1) / max(bottom, 1)))))
        drawn.append((piece, font))
    side = max(2, size // 4)
    width = sum(font.getlength(piece) for piece, font in drawn)
    canvas = Image.new("L", (max(round(width), 1) + 2 * side, ascent + descent + 1))
    pen, left = ImageDraw.Draw(canvas), float(side)
    for piece, font in drawn:
        pen.text((left, ascent), piece, 255, font, anchor="ls")
        left += font.getlength(piece)
    mask = np.asarray(canvas, np.float32) / 255
    mask.setflags(write=False)
    return mask
