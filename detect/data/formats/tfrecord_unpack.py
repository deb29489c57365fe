"""Unpacks TFRecord files with tf.Example of the Object Detection API into a folder: pictures, and an index of boxes.

It runs in a process of its own, `python -m detect.data.formats.tfrecord_unpack FOLDER FILE...`: TensorFlow's settings
of threads and devices can't change after its first operation, and the program makes them after the data is read.
"""

import gzip
import json
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detect.data.formats.values import flag
from detect.data.image_file import IMAGE_SUFFIXES
from detect.errors import DataError, first_few
from detect.files import write_json

INDEX = "index.json"
FORM = 2
"""The version of the index; it is part of the cache's name."""
TEXTS = ("image/encoded", "image/filename", "image/source_id", "image/object/class/text")
FLAGS = ("image/object/difficult", "image/object/is_crowd", "image/object/group_of")
NUMBERS = ("image/height", "image/width", "image/object/class/label", *FLAGS)
SIDES = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
AREA = "image/object/area"
TOLD = ("image/format", "image/key/sha256")
"""Fields that say nothing that the picture itself does not."""
MOST = 2.0
"""The largest legal share of a picture's side: a box may exceed the picture, and the check then clips it."""
_KINDS = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp",
    b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip
_TYPE = re.compile(r"Key: (.+?)\.\s+Data types don't match\. Expected type: (\w+), Actual type: (\w+)")


def picture_suffix(content: bytes) -> str | None:
    """The ending of a picture's file, by its first bytes; None if it is not a picture."""
    return next((suffix for start, suffix in _KINDS.items() if content.startswith(start)), None)


def unpack(files: list[Path], folder: Path) -> None:
    """Writes the pictures of TFRecord files into a folder, and INDEX at the end.

    The index has for each file its records, as `_record` makes them, the counts of fields that are not used and of
    texts that are not UTF-8; and of each picture the size in bytes and the time of its change.
    Raises DataError, naming the file and the record, for a damaged record and for fields that are missing or wrong.
    """
    content: list[dict[str, Any]] = []
    pictures: dict[str, list[int]] = {}
    for path in files:
        records, unused, other = [], Counter[str](), Counter[str]()
        for k, fields in enumerate(_examples(path, unused), 1):
            record, picture = _record(fields, f"{path}: record {k}", other)
            record["record"], record["picture"] = k, _write(folder, record["filename"], picture, len(pictures))
            stat = (folder / record["picture"]).stat()
            pictures[record["picture"]] = [stat.st_size, stat.st_mtime_ns]
            records.append(record)
        content.append({"path": str(path), "records": records, "unused": unused, "latin": other})
    write_json(folder / INDEX, {"form": FORM, "files": content, "pictures": pictures}, indent=None)


def _examples(path: Path, unused: Counter[str]) -> Iterator[dict[str, list[Any]]]:
    """The fields of each record that are read, as lists. unused: counts the records with values in other fields."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    kinds = dict.fromkeys(TEXTS, tf.string) | dict.fromkeys(NUMBERS, tf.int64) | dict.fromkeys(SIDES, tf.float32)
    spec = {name: tf.io.VarLenFeature(kind) for name, kind in kinds.items()}
    records = iter(tf.data.TFRecordDataset(str(path), compression_type="GZIP" if _is_gzip(path) else ""))
    k = 0
    while True:
        k += 1
        where = f"{path}: record {k}"
        try:
            raw = next(records, None)
            if raw is None:
                return
            parsed = tf.io.parse_single_example(raw, spec)
            features = tf.train.Example.FromString(raw.numpy()).features.feature
        except tf.errors.InvalidArgumentError as error:
            found = _TYPE.search(str(error))
            reason = f"{found[1]} is of type {found[3]}; it must be {found[2]}" if found else "it is not a tf.Example"
            raise DataError(f"{where}: {reason}") from None
        except (DecodeError, UnicodeDecodeError):  # TensorFlow's message quotes the bytes that it can't parse
            raise DataError(f"{where}: it is not a tf.Example") from None
        except tf.errors.OpError as error:
            raise DataError(f"{where} can't be read, the file is damaged ({_reason(error)})") from None
        unused.update(name for name, value in features.items() if name not in (*spec, *TOLD, AREA) and value.ByteSize())
        fields = {name: value.values.numpy().tolist() for name, value in parsed.items()}
        fields["present"] = sorted(features)
        fields[AREA] = list(features[AREA].float_list.value or features[AREA].int64_list.value)
        if len(fields[AREA]) != len(fields[SIDES[0]]):
            unused.update([AREA] * bool(fields[AREA]))
            fields[AREA] = []
        yield fields


def _reason(error: Exception) -> str:
    """TensorFlow's message without the name of its operation."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(getattr(error, "message", error)))
    return " ".join(text.split())[:200]


def _is_gzip(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            file.read(1)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _record(fields: Mapping[str, list[Any]], where: str, other: Counter[str]) -> tuple[dict[str, Any], bytes]:
    """What the index tells of a record, and its encoded picture.

    boxes: [ymin, xmin, ymax, xmax] as shares. texts, labels: class of each box, or empty. crowd: whether a box is
    difficult, a crowd or a group. areas: in square pixels, None for a value that is no area, or empty. present: the
    names of all fields, if there is no box.
    """
    encoded = fields["image/encoded"]
    if len(encoded) != 1 or not encoded[0]:
        raise DataError(f"{where} has no picture in image/encoded; its fields are {first_few(fields['present'], 10)}")
    if picture_suffix(encoded[0]) is None:
        raise DataError(
            f"{where}: image/encoded begins with {encoded[0][:8]!r}, which is no picture; legal: an encoded JPEG or PNG"
        )
    count = len(fields[SIDES[0]])
    for name in (*SIDES, "image/object/class/text", "image/object/class/label", *FLAGS):
        if len(fields[name]) != count and (fields[name] or name in SIDES):
            raise DataError(
                f"{where}: {name} has {len(fields[name])} values, but {SIDES[0]} has {count}; each box needs one"
            )
    boxes = [list(box) for box in zip(*(fields[name] for name in SIDES), strict=True)]
    for box in boxes:
        for name, value in zip(SIDES, box, strict=True):
            if not math.isfinite(value) or abs(value) > MOST:
                raise DataError(
                    f"{where}: {name} is {value:g}, which is not a share of the picture; legal: numbers from 0 to 1"
                )
    flags = [fields[name] for name in FLAGS if fields[name]]
    for name in FLAGS:
        bad = next((value for value in fields[name] if flag(value) is None), None)
        if bad is not None:
            raise DataError(f"{where}: {name} is {bad}; it must be 0 or 1")
    record = {
        "filename": _text(fields["image/filename"], "image/filename", other),
        "source_id": _text(fields["image/source_id"], "image/source_id", other),
        "size": [_side(fields[f"image/{side}"], f"{where}: image/{side}") for side in ("width", "height")],
        "boxes": boxes,
        "texts": [_text([text], "image/object/class/text", other) for text in fields["image/object/class/text"]],
        "labels": fields["image/object/class/label"],
        "crowd": [any(map(flag, values)) for values in zip(*flags, strict=True)] if flags else [False] * count,
        "areas": [area if math.isfinite(area) and area >= 0 else None for area in fields[AREA]],
        "present": [] if count else fields["present"],
    }
    return record, encoded[0]


def _text(values: list[bytes], name: str, other: Counter[str]) -> str:
    content = values[0] if values else b""
    try:
        return content.decode()
    except UnicodeError:
        other[name] += 1
        return content.decode("latin-1")


def _side(values: list[int], where: str) -> int:
    """A side of the picture in pixels; 0 if it is not given."""
    side = values[0] if values else 0
    if not 0 <= side < 1 << 30:
        raise DataError(f"{where} is {side}; it must be a number of pixels")
    return side


def _write(folder: Path, name: str, content: bytes, number: int) -> str:
    """Writes a picture, below `folder` under its own name if that is possible. Returns its place."""
    parts = [re.sub(r'[\x00-\x1f<>:"|?*]', "_", part) for part in name.replace("\\", "/").split("/")]
    parts = [part for part in parts if part.strip(". ")]
    suffix = picture_suffix(content) or ""
    place = Path("pictures", *parts)
    if place.suffix.lower() not in IMAGE_SUFFIXES:
        place = place.with_name(place.name + suffix)
    plain = Path("pictures", f"record-{number:08d}{suffix}")
    for tried in (place, plain) if parts else (plain,):
        try:
            (folder / tried).parent.mkdir(parents=True, exist_ok=True)
            with (folder / tried).open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        except (OSError, ValueError) as error:
            if tried == plain:
                raise DataError(f"{folder}: can't write the picture {tried} ({error}); set DETECT_CACHE") from None
        else:
            return tried.as_posix()
    raise DataError(f"{folder}: can't write the picture {plain}, because it is there; remove the folder")


def main(arguments: list[str]) -> int:
    """Unpacks; an error that the user can correct goes to standard output as json."""
    folder, *files = map(Path, arguments)
    try:
        unpack(files, folder)
    except DataError as error:
        print(json.dumps({"error": str(error)}))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
