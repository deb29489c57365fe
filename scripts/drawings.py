"""Draws a data set that is far from photographs: chess pieces as line drawings in ink, on ruled paper.

    python scripts/drawings.py OUTPUT

OUTPUT: a new folder, in the format of Pascal VOC. The pieces are glyphs of the font DejaVu Sans, which matplotlib
brings. Their place, size and turn and the lines of the paper are drawn at random: the same with each call, with one
version of Pillow. Their boxes are those of the ink.
"""

import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats.writing import write_voc
from detect.data.notes import Notes
from detect.geometry.boxes import iou

PIECES = {"queen": "\u2655", "rook": "\u2656", "bishop": "\u2657", "knight": "\u2658"}
SIZE, IMAGES = (400, 300), 149  # (width, height), and as many pictures as the microcontrollers have
SIDES, MOST, TURN = (60, 190), 4, 30.0  # pixels of a piece, pieces in a picture, degrees to each side
PAPER, INK, RULE = (246, 244, 236), (28, 32, 52), (176, 190, 212)


@cache
def glyph(piece: str, side: int) -> Image.Image:
    """The ink of a piece, white on black, with a margin for its turn."""
    font = ImageFont.truetype(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), side)
    mask = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(mask).text((side, side), PIECES[piece], fill=255, font=font, anchor="mm")
    return mask


def paper(rng: np.random.Generator) -> Image.Image:
    """Ruled paper, with some long strokes across it that belong to no piece."""
    picture = Image.new("RGB", SIZE, PAPER)
    pen, (width, height) = ImageDraw.Draw(picture), SIZE
    for y in range(int(rng.integers(8, 20)), height, int(rng.integers(14, 28))):
        pen.line((0, y, width, y), fill=RULE)
    for _ in range(rng.integers(3, 9)):
        ends = rng.integers(0, [width, height, width, height])
        pen.line(tuple(ends.tolist()), fill=INK, width=int(rng.integers(1, 4)))
    return picture


def draw(seed: int, path: Path) -> Example:
    """Draws one picture: up to MOST pieces whose boxes do not overlap."""
    rng = np.random.default_rng(seed)
    picture, boxes, classes = paper(rng), np.zeros((0, 4), np.float32), []
    for _ in range(rng.integers(1, MOST + 1)):
        label = int(rng.integers(len(PIECES)))
        ink = glyph(list(PIECES)[label], int(rng.integers(*SIDES)))
        ink = ink.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC)
        ink = ink.crop(ink.point([0] * 128 + [255] * 128).getbbox())
        left, top = (int(rng.integers(0, whole - part)) for whole, part in zip(SIZE, ink.size, strict=True))
        box = np.array([[top, left, top + ink.height, left + ink.width]], np.float32)
        if iou(box, boxes).any():
            continue
        picture.paste(INK, (left, top), ink)
        boxes, classes = np.concatenate([boxes, box]), [*classes, label + 1]
    picture.save(path)
    return Example(path, *SIZE, boxes, np.array(classes, np.int64), np.zeros(len(classes), bool), path.stem)


def main() -> int:
    output = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        pictures = tuple(draw(seed, Path(folder, f"drawing_{seed:03}.png")) for seed in range(IMAGES))
        output.mkdir(parents=True)
        splits = {"train": pictures, "val": (), "test": ()}
        write_voc(DetectionDataset("drawings", tuple(PIECES), splits), output, Notes())
    print(f"{IMAGES} drawings, {sum(len(example.boxes) for example in pictures)} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
