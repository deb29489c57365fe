"""TFLite Metadata of a detector's file: what clients such as MediaPipe read before they run it.

The metadata are a flatbuffer in the entry `TFLITE_METADATA` of the file. The class names are in a ZIP archive after the
end of the file's own flatbuffer, where the interpreter does not look. The numbers of fields and enumerations are those
of version 1 of the public schema (`metadata_schema.fbs`, identifier `M001`).
"""

import io
import zipfile

import numpy as np

from detect.errors import printable
from detect.tflite import tables
from detect.tflite.metadata import Settings

ENTRY, IDENTIFIER, PARSER = "TFLITE_METADATA", b"M001", "1.0.0"
LABELS = "labels.txt"
RGB = np.int8(1)  # ColorSpaceType
IMAGE, BOX, FEATURE = np.uint8(2), np.uint8(3), np.uint8(1)  # of the union ContentProperties
NORMALIZATION = np.uint8(1)  # of the union ProcessUnitOptions
BOUNDARIES, RATIO = np.int8(1), np.int8(0)  # BoundingBoxType, CoordinateType
DESCRIPTIONS, VALUE_LABELS = np.int8(1), np.int8(3)  # AssociatedFileType
CORNERS = np.array([1, 0, 3, 2], np.uint32)  # where left, top, right and bottom are in ymin, xmin, ymax, xmax
ENDS = ("location", "category", "score", "number of detections")
"""The names that clients know, of the outputs in the order of `options.OUTPUTS`."""


def entries(settings: Settings) -> dict[str, bytes]:
    """The entry of the file's metadata."""
    kind = DESCRIPTIONS if settings.nms == "none" else VALUE_LABELS
    labels: tables.Fields = {0: LABELS, 1: "the name of each class", 2: kind}
    graph: dict[int, list[tables.Fields]] = {
        2: [_image(settings)],
        3: _heads() if settings.nms == "none" else _ends(labels),
    }
    if settings.nms == "none":
        graph[4] = [labels]
    said = f"finds {len(settings.classes)} classes of objects; {'raw heads' * (settings.nms == 'none')}".rstrip("; ")
    root: tables.Fields = {0: "ObjectDetector", 1: said, 3: [graph], 7: PARSER}
    return {ENTRY: tables.write(root, IDENTIFIER)}


def with_labels(content: bytes, settings: Settings) -> bytes:
    """The bytes of a TFLite file with the class names behind it, a line each, in the order of the classes."""
    file = io.BytesIO()
    file.write(content)
    with zipfile.ZipFile(file, "a") as archive:
        about = zipfile.ZipInfo(LABELS)  # the date is 1980: two exports of a run have the same bytes
        archive.writestr(about, "\n".join(map(printable, settings.classes)))
    return file.getvalue()


def _image(settings: Settings) -> tables.Fields:
    """The input: an RGB image whose levels 0..255 are neither shifted nor scaled."""
    height, width = settings.size
    size: tables.Fields = {0: np.uint32(width), 1: np.uint32(height)}
    levels: tables.Fields = {0: np.zeros(1, np.float32), 1: np.ones(1, np.float32)}  # mean, standard deviation
    said = f"RGB image of {height} x {width} pixels, levels 0..255; resize: {settings.resize}"
    content: tables.Fields = {0: IMAGE, 1: {0: RGB, 1: size}}
    unit: tables.Fields = {0: NORMALIZATION, 1: levels}
    stats: tables.Fields = {0: np.full(1, 255, np.float32), 1: np.zeros(1, np.float32)}
    return {0: "image", 1: said, 3: content, 4: [unit], 5: stats}


def _ends(labels: tables.Fields) -> list[tables.Fields]:
    """The outputs after the suppression, of which clients expect four."""
    each: tables.Fields = {0: np.int32(2), 1: np.int32(2)}  # the range of dimensions: one value for each detection
    box: tables.Fields = {0: CORNERS, 1: BOUNDARIES, 2: RATIO}
    said = ("boxes as shares of the frame", "classes, counted from 0", "scores, best first", "how many are detections")
    number: tables.Fields = {0: FEATURE, 1: {}, 2: each}
    contents: list[tables.Fields] = [{0: BOX, 1: box, 2: each}, number, number, {}]
    files: dict[str, list[tables.Fields]] = {"category": [labels]}
    outputs: list[tables.Fields] = []
    for name, text, content in zip(ENDS, said, contents, strict=True):
        output: tables.Fields = {0: name, 1: text, 3: content}
        outputs.append({**output, 6: files[name]} if name in files else output)
    return outputs


def _heads() -> list[tables.Fields]:
    """The outputs of a file with `nms=none`, which clients of the four outputs do not take."""
    said = {"codes": "codes of the boxes [anchor, 4]", "logits": "background, then the classes [anchor, class]"}
    return [{0: name, 1: text, 3: {0: FEATURE, 1: {}}} for name, text in said.items()]


def objections(settings: Settings, takes: str) -> list[str]:
    """Why MediaPipe's ObjectDetector would not take the file, or would find other boxes than it; [] if it takes it.

    Found by trial with MediaPipe 1.2: it takes images of uint8 and float32, and the four outputs after the suppression.
    takes: the type of the image.
    """
    found = []
    if settings.nms == "none":
        found.append("nms=none: it wants detections, so give nms=in_graph or nms=tflite_op")
    if takes == "int8":
        found.append("input=int8: it gives images of uint8 or float32")
    if settings.resize == "keep_aspect":
        found.append("detector.resize=keep_aspect: it stretches every image to the frame")
    return found
