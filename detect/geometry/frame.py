"""How an image becomes the network's input frame, and how boxes follow it there and back. The one place that knows.

`detect.export.saved_model.fit_in_graph` says the same in TensorFlow operations, for an exported model.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import cv2
import numpy as np

from detect.config.legal_values import Values, demand, whole

Mode = Literal["stretch", "keep_aspect", "zoo"]
Size = Annotated[Sequence[Annotated[int, whole(96, 4096)]], Values("height", "width")]
MODES: tuple[Mode, ...] = get_args(Mode)


class Frame:
    """The network's input frame.

    size: (height, width) in pixels.
    mode: `stretch` squeezes the image into the frame. `keep_aspect` scales both sides alike, as far as the frame
        allows, puts the image at the top left and pads below or to the right with zeros (black), as the Object
        Detection API's keep_aspect_ratio_resizer does. `zoo` squeezes with TensorFlow 1's bilinear kernel, as models
        of that API's zoo expect it; the other two take the mean over areas where an image shrinks much.
    exact: leave the levels of `zoo` unrounded, in float32, as such a model sees them. Else frames are uint8.
    Raises ConfigError for an unknown mode.
    """

    def __init__(self, size: Sequence[int], mode: str = "stretch", exact: bool = False):
        demand("detector.resize", mode, Mode)
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
        """uint8 [H, W, 3] -> [*size, 3] of `dtype`: what the network is to see of the image."""
        return self.pad(self.scale(image))

    def scale(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [*used(H, W), 3] of `dtype`: the image without the padding."""
        return self.scale_to(image, self.used(*image.shape[:2]))

    def scale_to(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W, 3] -> [*size, 3] of `dtype`: the image at another size, with the kernel of the mode."""
        if self.mode != "zoo":
            return resize(image, size)
        scaled = resize_tf1(image, size)
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
        scaled: np.ndarray = boxes * np.array([used[0] / height, used[1] / width] * 2, np.float32)
        return scaled

    def to_image(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes [n, 4] yxyx in pixels of the frame -> float32, in pixels of an image of this size, clipped to it.

        A box that lies in the padding loses its area.
        """
        used = self.used(height, width)
        scaled: np.ndarray = boxes * np.array([height / used[0], width / used[1]] * 2, np.float32)
        if self.mode != "keep_aspect":  # a network clips its boxes to the frame itself
            return scaled
        clipped: np.ndarray = np.clip(scaled, 0, np.array([height, width] * 2, np.float32))
        return clipped

    def found(
        self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detections [n, 4], [n], [n] of a frame -> the same of an image of this size, without those in the padding."""
        boxes = self.to_image(boxes, height, width)
        if self.mode != "keep_aspect":
            return boxes, scores, classes
        real = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return boxes[real], scores[real], classes[real]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3]: bilinear, or the mean over each pixel's area where the image shrinks by
    two or more both ways (bilinear would skip pixels there)."""
    height, width = size
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_tf1(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [height, width, 3], as `tf.compat.v1.image.resize_bilinear` does it: pixel i of the
    result lies at i * H / height (corners on corners, not centres on centres), and nothing is averaged."""
    height, width = size
    rows = _between_rows(image, height)
    return cv2.transpose(_between_rows(cv2.transpose(rows), width))  # whole rows copy faster than pixels


def _between_rows(image: np.ndarray, new: int) -> np.ndarray:
    """[old, ...] -> float32 [new, ...]: each row lies between two old ones, `share` of the way from the first."""
    old = len(image)
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    before = np.minimum(places.astype(np.int64), old - 1)
    share = (places - before.astype(np.float32)).reshape(-1, 1, 1)
    first = image[before].astype(np.float32, copy=False)
    result: np.ndarray = image[np.minimum(before + 1, old - 1)].astype(np.float32, copy=False)
    result -= first
    result *= share
    result += first
    return result
