"""Finds objects with a TFLite file of `detect export`, on a Raspberry Pi or any other small computer.

It needs ai-edge-litert, numpy and Pillow, and not this package:

    pip install ai-edge-litert numpy pillow
    python pi_detect.py model.tflite photo.jpg --score 0.5

The file is one of `nms=in_graph`, with float32 or int8 weights; it carries its class names and its frame. For each
object a line is printed: the image, the class, the score, and left, top, right, bottom in pixels of the image. An image
that can't be read is named, and all others are done; the exit code is then 1.
"""

import argparse
import io
import re
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

Image.MAX_IMAGE_PIXELS = 2**30  # a photograph of a phone may have more than Pillow's limit


class Detector:
    """A TFLite file that ends with detections.

    names: the class names, from the archive behind the file. resize: how an image becomes the frame: `stretch`,
    `keep_aspect` or `zoo`, as the file's description tells, which is JSON inside it.
    """

    def __init__(self, file: Path, threads: int = 1):
        content = file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            self.names = archive.read("labels.txt").decode("utf-8").splitlines()
        self.resize = re.findall(rb'"resize": "(\w+)"', content)[-1].decode()
        if b"TFLite_Detection_PostProcess" in content:  # with several threads, this operation may leave out a class
            threads = 1
        self.interpreter = Interpreter(model_content=content, num_threads=threads)
        self.run = self.interpreter.get_signature_runner()
        if "detection_boxes" not in self.run.get_output_details():
            raise SystemExit(f"{file}: it ends with raw heads; export it with nms=in_graph")
        details = self.run.get_input_details()["image"]
        (_, self.height, self.width, _), self.type = details["shape"], details["dtype"]
        if self.type == np.int8:
            raise SystemExit(f"{file}: it takes int8 images; export it without input=int8")

    def __call__(self, image: Image.Image, score: float) -> list[tuple[str, float, tuple[int, int, int, int]]]:
        """(class, score, (left, top, right, bottom) in pixels) of each object with at least this score, best first.

        The image is turned as its camera says (EXIF), and the pixels are those of the upright image.
        """
        image = ImageOps.exif_transpose(image)
        height, width = self.used(image)
        frame = np.zeros((1, self.height, self.width, 3), self.type)
        if self.resize == "zoo":
            pixels = between(between(colours(image), height).swapaxes(0, 1), width).swapaxes(0, 1)
        else:
            pixels = np.asarray(Image.fromarray(colours(image)).resize((width, height), Image.Resampling.BILINEAR))
        frame[0, :height, :width] = np.rint(pixels) if self.type == np.uint8 else pixels
        found = self.run(image=frame)
        count = int(found["num_detections"][0])
        shares = found["detection_boxes"][0, :count] * ([self.height / height, self.width / width] * 2)
        boxes = np.clip(shares, 0, 1) * ([image.height, image.width] * 2)
        real = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)  # a box may lie in the black part
        rows = zip(
            boxes, found["detection_classes"][0, :count], found["detection_scores"][0, :count], real, strict=True
        )
        return [
            (self.names[int(kind)], float(sure), (round(left), round(top), round(right), round(bottom)))
            for (top, left, bottom, right), kind, sure, inside in rows
            if sure >= score and inside
        ]

    def used(self, image: Image.Image) -> tuple[int, int]:
        """The height and the width of the part of the frame that the image fills; the rest stays black."""
        if self.resize != "keep_aspect":
            return self.height, self.width
        scale = min(self.height / image.height, self.width / image.width)
        return max(1, int(image.height * scale + 0.5)), max(1, int(image.width * scale + 0.5))


def colours(image: Image.Image) -> np.ndarray:
    """RGB uint8 [H, W, 3]. Grey of 16 bits is scaled by the range that its values use: 8, 10, 12, 14 or 16 bits."""
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    grey = np.asarray(image).astype(np.float64)
    most = next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 32) if grey.max() < 2**bits)
    return np.repeat(np.rint(grey * (255 / most)).astype(np.uint8)[..., None], 3, axis=2)


def between(image: np.ndarray, new: int) -> np.ndarray:
    """[old, ...] -> float32 [new, ...] as in the TF Object Detection API: a row lies between two old ones, without a
    mean over more of them."""
    old = len(image)
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    before = np.minimum(places.astype(int), old - 1)
    share = (places - before.astype(np.float32)).reshape(-1, 1, 1)
    first, second = (image[rows].astype(np.float32) for rows in (before, np.minimum(before + 1, old - 1)))
    return first + share * (second - first)


def main() -> None:
    """Prints a line for each object, and the time of each image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--score", type=float, default=0.5, help="the least score of what is printed")
    parser.add_argument("--threads", type=int, default=4, help="a Raspberry Pi has 4 cores")
    arguments = parser.parse_args()
    try:
        detector = Detector(arguments.model, arguments.threads)
    except OSError as error:
        sys.exit(f"{arguments.model}: can't read the model: {error.strerror}")
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, RuntimeError) as error:
        sys.exit(f"{arguments.model}: this is no TFLite file of `detect export`, or a damaged one: {error}")
    bad = 0
    for path in arguments.images:
        try:
            with Image.open(path) as image:
                started = time.perf_counter()
                found = detector(image, arguments.score)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, of damaged files
            print(f"{path}: can't read the image: {error}", file=sys.stderr)
            bad += 1
            continue
        print(f"{path}: {len(found)} objects, {1000 * (time.perf_counter() - started):.0f} ms")
        for name, sure, box in found:
            print(f"  {name} {sure:.2f} {' '.join(map(str, box))}")
    if bad:
        sys.exit(f"{bad} of {len(arguments.images)} images could not be read")


if __name__ == "__main__":
    main()
