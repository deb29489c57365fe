"""Resizes images to the network's input frame, and converts boxes between image and frame.

`detect.export.saved_model.fit_in_graph` does the same in TensorFlow operations, for an exported model.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from detect.errors import ConfigError

MODES = ("stretch", "keep_aspect", "zoo")


class Frame:
    """The network's input frame.

    size: (height, width) in pixels.
    mode: `stretch` resizes the image to the frame. `keep_aspect` scales both sides by the same factor, as large as
        the frame allows, puts the image at the top left and pads below or to the right with zeros (black), like the
        Object Detection API's keep_aspect_ratio_resizer. `zoo` stretches with TensorFlow 1's bilinear kernel, which
        models of that API's zoo need. The other two modes average over areas if an image shrinks to half or less.
    exact: True keeps the levels of `zoo` as unrounded float32, as such a model needs them. Else frames are uint8.
    Raises ConfigError for an unknown mode.
    """

    def __init__(self, size: Sequence[int], mode: str = "stretch", exact: bool = False):
        if mode not in MODES:
            raise ConfigError(f"detector.resize={mode}: it must be one of {', '.join(MODES)}")
        self.size, self.mode = (int(size[0]), int(size[1])), mode
        self.dtype: type = np.float32 if exact and mode == "zoo" else np.uint8

    def used(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the part of the frame that an image of this size fills, in whole pixels, 1 or more."""
        if self.mode != "keep_aspect":
            return self.size
        frame_height, frame_width = self.size
        if frame_height * width <= frame_width * height:
            return frame_height, max(1, (2 * width * frame_height + height) // (2 * height))  # a half rounds up
        return max(1, (2 * height * frame_width + width) // (2 * width)), frame_width

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [*size, 3] of `dtype`: the input of the network."""
        return self.pad(self.scale(image))

    def scale(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [*used(H, W), 3] of `dtype`: the image without the padding."""
        if self.mode != "zoo":
            return resize(image, self.used(*image.shape[:2]))
        scaled = resize_tf1(image, self.size)
        return scaled if self.dtype == np.float32 else np.rint(scaled).astype(np.uint8)

    def pad(self, scaled: np.ndarray) -> np.ndarray:
        """[h, w, 3] -> [*size, 3], zeros below and to the right."""
        if scaled.shape[:2] == self.size:
            return scaled
        padded = np.zeros((*self.size, 3), scaled.dtype)
        padded[: scaled.shape[0], : scaled.shape[1]] = scaled
        return padded

    def from_image(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes [n, 4] yxyx in pixels of an image of this size -> float32, in pixels of the frame."""
        used = self.used(height, width)
        return boxes * np.array([used[0] / height, used[1] / width] * 2, np.float32)

    def to_image(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes [n, 4] yxyx in pixels of the frame -> float32, in pixels of an image of this size, clipped to it.

        A box in the padding loses its area.
        """
        used = self.used(height, width)
        boxes = boxes * np.array([height / used[0], width / used[1]] * 2, np.float32)
        if self.mode != "keep_aspect":  # the network clips its boxes to the frame
            return boxes
        return np.clip(boxes, 0, np.array([height, width] * 2, np.float32))

    def found(
        self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes [n, 4], scores [n] and classes [n] of a frame -> those of the image, without the padding's."""
        boxes = self.to_image(boxes, height, width)
        if self.mode != "keep_aspect":
            return boxes, scores, classes
        real = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return boxes[real], scores[real], classes[real]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3]: bilinear, or the mean over each pixel's area if both sides shrink to
    half or less, because bilinear sampling then skips pixels."""
    height, width = size
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_tf1(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [height, width, 3], equal to `tf.compat.v1.image.resize_bilinear`. Pixel i of the
    result is at i * H / height (aligned corners, not centres), and there is no averaging."""
    height, width = size
    rows = _between_rows(image, height)
    return cv2.transpose(_between_rows(cv2.transpose(rows), width))  # copying whole rows is faster than copying pixels


def _between_rows(image: np.ndarray, new: int) -> np.ndarray:
    """[old, ...] -> float32 [new, ...]: each row is between two old rows; `share` is the weight of the second."""
    old = len(image)
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    before = np.minimum(places.astype(np.int64), old - 1)
    share = (places - before.astype(np.float32)).reshape(-1, 1, 1)
    first = image[before].astype(np.float32, copy=False)
    result = image[np.minimum(before + 1, old - 1)].astype(np.float32, copy=False)
    result -= first
    result *= share
    result += first
    return result
