"""The peer of `detect_step.py`: torchvision's SSDLite320 with a MobileNet v3, random weights, and the same protocol.

Usage: PYTHON detect_step_torchvision.py CLASSES (`make bench` makes a venv with torchvision)
"""

import sys
import time

import torch
from answering import answer
from torchvision.models import detection

IMAGE = (480, 640, 3)


def main() -> None:
    """Builds, detects once, prints a description, then detects on request."""
    began = time.perf_counter()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    random = {"weights": None, "weights_backbone": None, "num_classes": int(sys.argv[1]) + 1}
    model = detection.ssdlite320_mobilenet_v3_large(**random).eval()
    image = torch.randint(0, 256, IMAGE, dtype=torch.uint8)

    @torch.inference_mode()
    def step() -> None:
        model([image.permute(2, 0, 1).float() / 255])

    step()
    answer({"seconds_to_first_image": round(time.perf_counter() - began, 2)}, step)


if __name__ == "__main__":
    main()
