"""Colours of classes, and small legible text in pictures."""

import colorsys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

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
    while len(text) > 3 and text_size(text, size)[1] > width:
        text = text.removesuffix("..")[:-1] + ".."
    return text


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
        hidden = _overlap(place, others)
        if best is None or hidden < best[0]:
            best = (hidden, place)
        if hidden == 0:
            break
    assert best is not None
    taken.append(best[1])
    return int(best[1][0]), int(best[1][1])


def _overlap(place: np.ndarray, others: np.ndarray) -> float:
    """The sum of the areas that a rectangle [4] shares with others [n, 4]."""
    sides = np.minimum(place[2:], others[:, 2:]) - np.maximum(place[:2], others[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())


@lru_cache(maxsize=4096)
def _mask(text: str, size: int) -> np.ndarray:
    """Opacity of a line of text in 0..1, float32 [h, w], with a margin. Lines of one size have the same height."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    left, _, right, _ = font.getbbox(text)
    side = max(2, size // 4)
    mask = np.zeros((ascent + descent + 1, max(int(right - left), 1) + 2 * side), np.float32)
    ink = font.getmask(text, mode="L")
    if ink.size[0] and ink.size[1]:
        pixels = np.asarray(ink, np.float32).reshape(ink.size[1], ink.size[0]) / 255
        top = max(int(font.getbbox(text)[1]), 0)
        pixels = pixels[: mask.shape[0] - top, : mask.shape[1] - side]
        mask[top : top + pixels.shape[0], side : side + pixels.shape[1]] = pixels
    mask.setflags(write=False)
    return mask


@lru_cache(maxsize=64)
def _font(size: int) -> "FreeTypeFont":
    """DejaVu Sans from matplotlib: it is the same on every machine and has more than ASCII."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), size)
