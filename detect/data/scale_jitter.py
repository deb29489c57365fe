"""Training at many scales for networks whose frame has one size: images grow and shrink within the frame."""

from typing import Annotated, Any

import albumentations as A
import numpy as np

from detect.config.legal_values import Share, number
from detect.errors import ConfigError
from detect.geometry.frame import resize

Scale = Annotated[float, number(0.05, 8)]


class ScaleJitter(A.DualTransform):
    """Scale jitter within a frame of fixed size, as in EfficientDet (Tan et al. 2020) and Ghiasi et al. 2021 (there
    "large scale jittering", 0.1 to 2).

    The networks of this package have a fixed input, so that their frame can't change from step to step. A factor is
    drawn instead. Above 1 a random part of the image is shown, which has the image's shape and 1 / factor of its sides.
    Below 1 the image becomes smaller and lies at a random place of a canvas of its former size.
    scale: range of the factor. fill: RGB of the canvas. p: probability.
    Raises ConfigError for a range that does not rise.
    """

    class InitSchema(A.DualTransform.InitSchema):
        """The schema that albumentations checks the arguments with."""

        scale: tuple[float, float]
        fill: tuple[float, float, float]

    def __init__(
        self,
        scale: tuple[Scale, Scale] = (0.5, 2.0),
        fill: tuple[float, float, float] = (124.0, 117.0, 104.0),
        p: Share = 1.0,
    ):
        super().__init__(p=p)
        if not 0 < scale[0] <= scale[1]:
            raise ConfigError(f"scale={list(scale)} of ScaleJitter is not legal: expected [low, high], 0 < low <= high")
        self.scale, self.fill = scale, fill

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """factor; window: (ymin, xmin, ymax, xmax) in whole pixels, of the part that is shown or, for a factor below 1,
        of the place on the canvas."""
        sides = np.array(params["shape"][:2])
        factor = float(self.random_generator.uniform(*self.scale))
        size = np.clip(np.rint(sides * (factor if factor < 1 else 1 / factor)), 1, sides).astype(int)
        corner = self.random_generator.integers(0, sides - size + 1)
        return {"shrinks": factor < 1, "window": (*corner.tolist(), *(corner + size).tolist())}

    def apply(self, img: np.ndarray, shrinks: bool, window: tuple[int, int, int, int], **params: object) -> np.ndarray:
        """The part of the image, or the canvas with the image on it."""
        ymin, xmin, ymax, xmax = window
        if not shrinks:
            return img[ymin:ymax, xmin:xmax]
        canvas = np.full(img.shape, np.rint(self.fill), img.dtype)
        canvas[ymin:ymax, xmin:xmax] = resize(img, (ymax - ymin, xmax - xmin))
        return canvas

    def apply_to_bboxes(
        self, bboxes: np.ndarray, shrinks: bool, window: tuple[int, int, int, int], **params: Any
    ) -> np.ndarray:
        """Rows of normalised xmin, ymin, xmax, ymax and further columns; parts outside of 0..1 are cut off later."""
        height, width = params["shape"][:2]
        ymin, xmin, ymax, xmax = window
        start = np.array([xmin / width, ymin / height] * 2)
        sides = np.array([(xmax - xmin) / width, (ymax - ymin) / height] * 2)
        moved = np.array(bboxes, np.float64)
        moved[:, :4] = moved[:, :4] * sides + start if shrinks else (moved[:, :4] - start) / sides
        return moved
