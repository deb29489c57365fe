"""Detects the objects of one image with a loaded detector. `bench_inference.py` times it.

Usage: python detect_step.py RUN_OR_FILE [THREADS]
Prints a json line when it is ready; then, for each line N on standard input, detects N times and prints the seconds.
The image has 480x640 pixels: the time includes fitting it into the frame and moving the boxes back.
"""

import sys
import time

from answering import answer

from detect import environment

IMAGE = (480, 640, 3)


def main() -> None:
    """Loads, detects once, prints a description, then detects on request."""
    environment.for_program()  # as the command sets it, before TensorFlow is imported
    import numpy as np

    from detect.detector import Detector

    began = time.perf_counter()
    detector = Detector.load(sys.argv[1], threads=int(sys.argv[2]) if len(sys.argv) > 2 else None)
    image = np.random.default_rng(0).integers(0, 256, IMAGE, np.uint8)

    first = detector(image)[0]
    about = {
        "seconds_to_first_image": round(time.perf_counter() - began, 2),
        "detections": len(first.boxes),
    }
    answer(about, lambda: detector(image))


if __name__ == "__main__":
    main()
