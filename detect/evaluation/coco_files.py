"""Writes a data set as COCO files: a json for each split, and the pictures."""

from pathlib import Path

from detect.data.dataset import DetectionDataset
from detect.data.formats.writing import copy, file_names
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.evaluation.coco_json import coco_truth, image_ids
from detect.files import write_json


def write_coco(dataset: DetectionDataset, folder: Path, notes: Notes) -> None:
    """`annotations/SPLIT.json` and `images/`. Images and categories keep the ids of the source.

    If the images of a split have no ids of their own, they are numbered from 1 in each file.
    """
    names = file_names(dataset)
    (folder / "annotations").mkdir(parents=True)
    for split in SPLITS:
        examples = dataset.splits[split]
        truth = coco_truth(examples, dataset.classes, dataset.category_ids, image_ids(examples))
        for entry, example in zip(truth["images"], examples, strict=True):
            entry["file_name"] = names[example.id].as_posix()
            copy(example.path, folder / "images" / names[example.id])
        write_json(folder / "annotations" / f"{split}.json", truth, indent=None)
