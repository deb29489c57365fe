"""Writes a data set as TFRecord files, with the fields of `create_coco_tf_record.py` of the Object Detection API."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats.label_map import MOST, label_map_text
from detect.data.formats.tfrecord_unpack import AREA, picture_suffix
from detect.data.image_file import header, picture_bytes, read_image
from detect.data.notes import Notes
from detect.errors import DataError
from detect.files import expanded, replacing, write_text

LABEL_MAP = "label_map.pbtxt"


def write_tfrecord(dataset: DetectionDataset, folder: str | Path, notes: Notes | None = None) -> None:
    """Writes SPLIT.record for each split, and label_map.pbtxt. A split without images has a file without records.

    folder: a new or an empty folder. Boxes are written as shares of the picture in float32, as they are. A JPEG
    or PNG is copied byte for byte. A picture of another kind, or with an EXIF rotation, which readers of TFRecord files
    do not apply, is written as PNG of its displayed pixels. image/filename is the id of the image. The ids of the label
    map are the numbers of `dataset.category_ids`, or 1..C if one of these is below 1 or above the limit of label maps.

    `detect.data.formats.tfrecord.read_tfrecord` gives back the same classes, ids, crowd flags and areas, and boxes that
    differ by the rounding of float32. An object without an area gets that of its box. Raises DataError for a folder
    that is not empty, and for a picture that can't be read.
    """
    import tensorflow as tf

    place = expanded(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise DataError(
            f"{place}: it must be a new or an empty folder, so that no TFRecord file of another data set is in it"
        )
    place.mkdir(parents=True, exist_ok=True)
    numbers = dataset.category_ids or ()
    if min(numbers, default=0) < 1 or max(numbers) > MOST:
        numbers = tuple(range(1, dataset.num_classes + 1))
    for split, examples in dataset.splits.items():
        with replacing(place / f"{split}.record") as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for example in examples:
                writer.write(_serialised(example, dataset.classes, numbers))
    write_text(place / LABEL_MAP, label_map_text(dict(sorted(zip(numbers, dataset.classes, strict=True)))))


def _serialised(example: Example, classes: tuple[str, ...], numbers: tuple[int, ...]) -> bytes:
    """One image as a tf.Example."""
    import tensorflow as tf

    def texts(*values: bytes | str) -> tf.train.Feature:
        encoded = [value if isinstance(value, bytes) else os.fsencode(value) for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def whole(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def real(values: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))

    picture, kind = encoded(example)
    sides = np.array([example.height, example.width] * 2, np.float64)
    ymin, xmin, ymax, xmax = (example.boxes.astype(np.float64) / sides).T
    area = np.prod(example.boxes[:, 2:] - example.boxes[:, :2], axis=1)
    if example.areas is not None:
        area = np.where(np.isnan(example.areas), area, example.areas)
    labels = example.classes.tolist()
    features = {
        "image/height": whole(example.height),
        "image/width": whole(example.width),
        "image/filename": texts(example.id),
        "image/source_id": texts(example.id if example.source_id is None else str(example.source_id)),
        "image/key/sha256": texts(hashlib.sha256(picture).hexdigest()),
        "image/encoded": texts(picture),
        "image/format": texts(kind),
        "image/object/bbox/xmin": real(xmin),
        "image/object/bbox/xmax": real(xmax),
        "image/object/bbox/ymin": real(ymin),
        "image/object/bbox/ymax": real(ymax),
        "image/object/class/text": texts(*(classes[label - 1] for label in labels)),
        "image/object/class/label": whole(*(numbers[label - 1] for label in labels)),
        "image/object/is_crowd": whole(*example.crowd.astype(int).tolist()),
        AREA: real(area),
    }
    content: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return content


def encoded(example: Example) -> tuple[bytes, str]:
    """The picture as it is written, and its format."""
    try:
        content = picture_bytes(example.path)
    except OSError as error:
        raise DataError(f"{example.path}: can't read the image ({error.strerror})") from None
    found = header(example.path)
    kind = {".jpg": "jpeg", ".png": "png"}.get(picture_suffix(content) or "")
    if found and found.orientation == 1 and kind:
        return content, kind
    image = read_image(example.path)
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes(), "png"
