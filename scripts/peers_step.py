"""The peer of `detect_step.py` for a detector of `peers_torchvision.py` or `peers_ultralytics.py`, on one thread.

Usage: PYTHON peers_step.py torchvision OUT.pt
       PYTHON peers_step.py ultralytics OUT.pt            (or a model that ultralytics exported)
Prints a json line when it is ready; then, for each line N on standard input, detects N times and prints the seconds.
The image has 480x640 pixels: the time includes fitting it into the frame and moving the boxes back.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from answering import answer

IMAGE = (480, 640, 3)


def torchvision(file: str) -> Callable[[np.ndarray], object]:
    """The detector as its script made it."""
    from peers_torchvision import NETWORKS

    about = torch.load(file)
    model = NETWORKS[about["name"]][0](about["classes"]).eval()
    model.load_state_dict(about["weights"])
    return torch.inference_mode()(lambda image: model([torch.from_numpy(image).permute(2, 0, 1).float() / 255]))


def ultralytics(file: str) -> Callable[[np.ndarray], object]:
    """The detector at the frame of its training."""
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    LOGGER.setLevel("ERROR")  # it writes to standard output, which holds the answers
    model = YOLO(file, task="detect")
    return lambda image: model.predict(image, imgsz=320, conf=0.001, device="cpu", verbose=False)


def main() -> None:
    """Loads, detects once, prints a description, then detects on request."""
    torch.set_num_threads(1)
    detect = {"torchvision": torchvision, "ultralytics": ultralytics}[sys.argv[1]](sys.argv[2])
    image = np.random.default_rng(0).integers(0, 256, IMAGE, np.uint8)
    detect(image)
    answer({}, lambda: detect(image))


if __name__ == "__main__":
    main()
