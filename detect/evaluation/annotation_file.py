"""The ids in a COCO file of the user, for results that are scored against it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detect.data.formats.coco_categories import with_supercategory
from detect.data.formats.coco_file import with_file_name
from detect.data.formats.coco_ids import id_text
from detect.data.notes import Notes
from detect.data.text import one_name, read_text
from detect.errors import DataError, first_few
from detect.evaluation.coco_json import Category, ImageId
from detect.evaluation.image_names import ImageNames

NEEDED = {"images": "file_name", "categories": "name"}


class AnnotationFile:
    """The images and categories of a COCO file.

    Raises DataError, naming the file, if it can't be read, or if an image or a category has no id or no name.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            content = json.loads(read_text(path, Notes()))
        except (ValueError, RecursionError) as error:
            raise DataError(f"annotations={path}: malformed json ({error})") from None
        parts: dict[str, list[dict[str, Any]]] = {}
        for key, name in NEEDED.items():
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                raise DataError(f"annotations={path}: no list '{key}'; name a COCO file with images and categories")
            entries = list(map(with_file_name, entries)) if key == "images" else entries
            for k, entry in enumerate(entries):
                legal = isinstance(entry, dict) and isinstance(entry.get(name), str | int)
                if not legal or id_text(entry.get("id")) is None:
                    raise DataError(f"annotations={path}: {key}[{k}] must have an id and a {name}")
            parts[key] = entries
        self._images: ImageNames[ImageId] = ImageNames(
            (str(entry["file_name"]), _own_id(entry)) for entry in parts["images"]
        )
        boxes = content.get("annotations")
        rows = [box for box in boxes if isinstance(box, dict)] if isinstance(boxes, list) else []
        self._used = {id_text(box.get("category_id")) for box in rows}
        self._categories: dict[str, list[int | str]] = {}
        for entry in parts["categories"]:
            self._categories.setdefault(one_name(entry["name"]), []).append(_own_id(entry))
        for entry in parts["categories"]:  # `read_coco` may have told them apart
            longer = with_supercategory(entry)
            if longer and len(self._categories[one_name(entry["name"])]) > 1:
                self._categories.setdefault(longer, []).append(_own_id(entry))

    def image_ids(self, names: Sequence[str]) -> list[ImageId]:
        """The id of each picture. names: paths relative to the folder of the pictures, with forward slashes.

        The entry is taken that `ImageNames.fitting` finds.
        Raises DataError for a picture that no entry or more than one fits, and for two pictures of one entry.
        """
        ids = [self._image_id(name) for name in names]
        taken: dict[ImageId, str] = {}
        for name, number in zip(names, ids, strict=True):
            if number in taken:
                raise DataError(
                    f"annotations={self.path}: the pictures {taken[number]} and {name} both fit its image {number}; "
                    "name the folder that its file names start from: images=FOLDER"
                )
            taken[number] = name
        return ids

    def _image_id(self, name: str) -> ImageId:
        fits = self._images.fitting(name)
        if len(fits) != 1:
            found = first_few("/".join(entry[0]) for entry in fits)
            reason = f"{len(fits)} of its images fit: {found}" if fits else "none of its images has this file name"
            raise DataError(f"annotations={self.path}: picture {name}: {reason}")
        return fits[0][1]

    def categories(self, classes: Sequence[str], ids: Sequence[int]) -> list[Category]:
        """The detector's classes with the ids of the categories of the same name, numbers or text as in the file.

        ids: the numbers that the detector knows; a class that the file does not list keeps its own. Of two categories
        of one name, the one counts that has annotations, as in `read_coco`, or else the detector's number: Roboflow
        gives its category 0, which has none, the name of another one.
        Raises DataError if no class is listed, if a name is listed twice otherwise, or if the number of a class that
        the file does not list is another category's.
        """
        listed = self._categories
        known = [name for name in classes if one_name(name) in listed]
        legal = first_few(listed, 10)
        if not known:
            raise DataError(f"annotations={self.path}: it has none of the classes {first_few(classes)}, but {legal}")
        found: list[Category] = []
        for name, number in zip(classes, ids, strict=True):
            numbers = listed.get(one_name(name), [number])
            used = [n for n in numbers if id_text(n) in self._used]
            numbers = used or [n for n in numbers if id_text(n) == str(number)] or numbers
            if len(numbers) > 1:
                raise DataError(f"annotations={self.path}: category {name} has the ids {numbers}; legal is one id")
            found.append({"id": numbers[0], "name": name})  # type: ignore[typeddict-item]  # as the file has it
        own = {id_text(row["id"]) for row in found if row["name"] not in known}
        others = {id_text(number) for numbers in listed.values() for number in numbers}
        if own & others or len({row["id"] for row in found}) < len(found):
            strange = first_few(name for name in classes if name not in known)
            raise DataError(f"annotations={self.path}: it has no category {strange}, whose ids it gives to others")
        return found


def _own_id(entry: dict[str, Any]) -> int | str:
    """The id of an image or category as the file has it; 1.0 is 1."""
    return entry["id"] if isinstance(entry["id"], str) else int(entry["id"])
