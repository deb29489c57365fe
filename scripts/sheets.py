"""Lays the test images of a data set side by side on large sheets, so that their objects are small: a case for tiles.

    python scripts/sheets.py DATA SIDE OUTPUT

DATA: a folder that `detect` reads. SIDE: the images along each side of a sheet. OUTPUT: a new folder, in COCO's format.
Each image keeps its pixels, and its place is as large as the largest image. Only full sheets are written.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from detect import api
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.data.notes import Notes
from detect.evaluation.coco_files import write_coco

GREY = 128


def sheet(examples: tuple[Example, ...], side: int, path: Path) -> Example:
    """Draws side * side images onto one sheet, row by row; the boxes move with their images."""
    height, width = max(e.height for e in examples), max(e.width for e in examples)
    picture = np.full((side * height, side * width, 3), GREY, np.uint8)
    boxes = []
    for place, example in enumerate(examples):
        top, left = place // side * height, place % side * width
        picture[top : top + example.height, left : left + example.width] = read_image(example.path)
        boxes.append(example.boxes + np.array([top, left, top, left], np.float32))
    cv2.imwrite(str(path), picture[..., ::-1])
    classes, crowd = (np.concatenate([getattr(e, name) for e in examples]) for name in ("classes", "crowd"))
    return Example(path, side * width, side * height, np.concatenate(boxes), classes, crowd, path.stem)


def main() -> int:
    data, side, output = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dataset = api.read_dataset("auto", root=str(data))
    test, count = dataset.splits["test"], side * side
    if len(test) < count:
        raise SystemExit(f"{data}: a sheet needs {count} test images, and it has {len(test)}")
    with tempfile.TemporaryDirectory() as folder:
        groups = [test[i : i + count] for i in range(0, len(test) - count + 1, count)]
        sheets = tuple(sheet(group, side, Path(folder, f"sheet_{i}.png")) for i, group in enumerate(groups))
        output.mkdir(parents=True)
        write_coco(
            DetectionDataset("sheets", dataset.classes, {"train": (), "val": (), "test": sheets}), output, Notes()
        )
    boxes = np.concatenate([example.boxes for example in sheets])
    longer = np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)) / max(sheets[0].width, sheets[0].height)
    print(f"{len(sheets)} sheets of {sheets[0].width}x{sheets[0].height} pixels, {len(boxes)} objects;")
    print(f"the longer side of the median object is {longer:.1%} of the longer side of its sheet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
