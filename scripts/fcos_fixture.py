"""Writes what torchvision's FCOS makes of random boxes and outputs: which point answers for which box, and the losses.

Usage: python scripts/fcos_fixture.py tests/modeling/fixtures/fcos_torchvision.npz   (needs torch and torchvision alone)
The points are this program's, centres of cells: torchvision's own lie on their corners. Boxes are turned to its x, y
order on the way in. Its labels count from 0; here 0 is the background, so that they are one less.
"""

import sys

import numpy as np
import torch
import torchvision
from torchvision.models.detection.fcos import FCOS, FCOSHead

SIZE, STRIDES, CLASSES = (128, 160), (8, 16, 32), 3
BOXES = (9, 0, 4)  # of each image
XY = [1, 0, 3, 2]


def points() -> tuple[np.ndarray, list[int]]:
    """Squares of all cells [A, 4], ymin first, and how many each map has."""
    found = []
    for stride in STRIDES:
        rows, columns = np.indices([side // stride for side in SIZE]).reshape(2, -1) * stride
        found.append(np.stack([rows, columns, rows + stride, columns + stride], axis=1).astype(np.float32))
    return np.concatenate(found), [len(boxes) for boxes in found]


def main() -> None:
    """Draws, asks torchvision, writes."""
    random = np.random.default_rng(0)
    squares, counts = points()
    boxes = np.full((len(BOXES), max(BOXES), 4), -1, np.float32)
    classes = np.full((len(BOXES), max(BOXES)), -1, np.int32)
    for image, count in enumerate(BOXES):
        sides = random.uniform(0.05, 0.9, (count, 2)) * SIZE
        corners = random.uniform(0, 1, (count, 2)) * (SIZE - sides)
        boxes[image, :count] = np.concatenate([corners, corners + sides], axis=1)
        classes[image, :count] = random.integers(1, CLASSES + 1, count)
    codes = random.uniform(0, 6, (len(BOXES), len(squares), 4)).astype(np.float32)  # top, left, bottom, right
    logits = random.normal(-1, 2, (len(BOXES), len(squares), CLASSES + 1)).astype(np.float32)  # centre-ness first

    head = FCOSHead(32, 1, CLASSES)
    matches = []
    compute = head.compute_loss

    def keep(targets, outputs, anchors, matched):
        matches.extend(matched)
        return compute(targets, outputs, anchors, matched)

    head.compute_loss = keep
    network = FCOS.__new__(FCOS)
    torch.nn.Module.__init__(network)
    network.head, network.center_sampling_radius = head, 1.5
    found = network.compute_loss(
        [
            {
                "boxes": torch.tensor(boxes[i, :count][:, XY]).reshape(-1, 4),
                "labels": torch.tensor(classes[i, :count] - 1, dtype=torch.int64),
            }
            for i, count in enumerate(BOXES)
        ],
        {
            "cls_logits": torch.tensor(logits[..., 1:]),
            "bbox_regression": torch.tensor(codes[..., XY]),
            "bbox_ctrness": torch.tensor(logits[..., :1]),
        },
        [torch.tensor(squares[:, XY])] * len(BOXES),
        counts,
    )
    np.savez_compressed(
        sys.argv[1],
        size=SIZE,
        strides=STRIDES,
        boxes=boxes,
        classes=classes,
        codes=codes,
        logits=logits,
        points=squares,
        matches=torch.stack(matches).numpy().astype(np.int32),
        versions=f"torchvision {torchvision.__version__}, torch {torch.__version__}",
        **{name: loss.item() for name, loss in found.items()},
    )
    print({name: loss.item() for name, loss in found.items()}, (torch.stack(matches) >= 0).sum(dim=1))


if __name__ == "__main__":
    main()
