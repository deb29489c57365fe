"""A detector without training: it finds the boxes that a test gives for each image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

SIZE = (48, 64)


def picture(path: Path, number: int) -> Path:
    """An image of 64x48 pixels whose red is ten times `number`: by it `Planted` knows which image it sees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*SIZE, 3), (90, 120, 10 * number), np.uint8)  # BGR
    assert cv2.imwrite(str(path), image)
    return path


@pytest.fixture(autouse=True)
def undrawn(blank_figures) -> None:
    """Figures of these tests are blank."""


class Planted:
    """Stands for a network: the detections of image `number` are boxes [n, 4], scores [n] and classes [n] from 1."""

    def __init__(self, detections: dict[int, list[tuple[list[float], float, int]]]):
        self.detections = detections

    def __call__(self, images):
        return [self._find(round(float(image[..., 0].mean()) / 10)) for image in images]

    def _find(self, number: int):
        rows = self.detections.get(number, [])
        boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
        return boxes, np.array([s for _, s, _ in rows], np.float32), np.array([k for _, _, k in rows], np.int32)


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A function that makes a run folder of some classes whose detector finds planted boxes; it returns the folder."""
    from detect.detector import Detector

    def make(detections, categories=((1, "cat"), (2, "dog")), threshold=None) -> Path:
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        (run / "config.yaml").write_text("{}")
        (run / "classes.json").write_text(json.dumps([{"id": number, "name": name} for number, name in categories]))
        ids, names = zip(*categories, strict=True)
        detector = Detector(Planted(detections), names, SIZE, "planted", category_ids=ids, threshold=threshold)
        monkeypatch.setattr(Detector, "load", classmethod(lambda *_, **__: detector))
        return run

    return make
