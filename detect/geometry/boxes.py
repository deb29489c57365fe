"""Box arithmetic in numpy: float32 [ymin, xmin, ymax, xmax], absolute pixels, y first."""

import numpy as np


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas [n] of boxes [n, 4]; an empty or reversed box has area 0."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    areas: np.ndarray = sides[:, 0] * sides[:, 1]
    return areas


def clip(boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Boxes [n, 4] clipped to an image of `height` x `width` pixels, or each to its own image; the input stays."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.clip(boxes, 0.0, np.stack([height, width, height, width], axis=-1).astype(np.float32))


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shared areas [n, m] of every pair of boxes [n, 4] and [m, 4]."""
    first = np.asarray(first, np.float32).reshape(-1, 1, 4)
    second = np.asarray(second, np.float32).reshape(1, -1, 4)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    sides = np.maximum(sides, 0.0)
    shared: np.ndarray = sides[..., 0] * sides[..., 1]
    return shared


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m], float32, of every pair of boxes [n, 4] and [m, 4]; 0 if the union is empty."""
    shared = intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
