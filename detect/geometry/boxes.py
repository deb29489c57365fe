"""Box arithmetic in numpy: float32 [ymin, xmin, ymax, xmax], absolute pixels, y first. Areas are float32 if no other
`dtype` is asked for."""

import numpy as np
from numpy.typing import DTypeLike


def area(boxes: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Areas [n] of boxes [n, 4]; an empty or reversed box has area 0."""
    boxes = np.asarray(boxes, dtype).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    areas: np.ndarray = sides[:, 0] * sides[:, 1]
    return areas


def clip(boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Boxes [n, 4] clipped to an image of `height` x `width` pixels, or each to its own image; the input stays."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.clip(boxes, 0.0, np.stack([height, width, height, width], axis=-1).astype(np.float32))


def intersection(first: np.ndarray, second: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Shared areas [n, m] of every pair of boxes [n, 4] and [m, 4]."""
    first = np.asarray(first, dtype).reshape(-1, 1, 4)
    second = np.asarray(second, dtype).reshape(1, -1, 4)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    sides = np.maximum(sides, 0.0)
    shared: np.ndarray = sides[..., 0] * sides[..., 1]
    return shared


def iou(first: np.ndarray, second: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Intersection over union [n, m] of every pair of boxes [n, 4] and [m, 4]; 0 if the union is empty."""
    shared = intersection(first, second, dtype)
    union = area(first, dtype)[:, None] + area(second, dtype)[None, :] - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
