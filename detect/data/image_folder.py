"""Pictures in one folder per class: a data set for a classifier without a detector."""

from collections.abc import Sequence
from pathlib import Path

from detect.config.legal_values import HeldOut
from detect.data.dataset import ClassificationDataset, CropExample, existing_folder, find_images
from detect.data.split import fill_splits
from detect.errors import DataError

# Common names of the folders of each split.
FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def read_image_folder(
    root: str | Path,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
) -> ClassificationDataset:
    """Read root/train/CLASS/*.jpg with val and test beside train, or root/CLASS/*.jpg.

    classes: names in their order; None takes the folders' names, sorted. A class's folder may have subfolders.
    Without a val folder, val is drawn from train, or from all pictures of root/CLASS (and test too, if there is none).
    Raises DataError for a missing or empty folder, a folder that is not a class, and a class without pictures.
    """
    folder = existing_folder(root)
    places = {s: p for s, titles in FOLDERS.items() for t in titles if (p := folder / t).is_dir()}
    if "train" not in places:
        places = {"train": folder}
    found = _class_folders(places["train"])
    names = tuple(sorted(found)) if classes is None else tuple(map(str, classes))
    if not found:
        raise DataError(f"{places['train']}: it has no folder with pictures; there must be one folder per class")
    missing = [n for n in names if n not in found]
    if missing:
        raise DataError(f"{places['train']}: no pictures of class '{missing[0]}'; there are {', '.join(sorted(found))}")
    given = {split: _examples(folder, place, names) for split, place in places.items()}
    source = f"folders {', '.join(p.name for p in places.values())}" if places["train"] != folder else "none given"
    parts, split_note = fill_splits(given, lambda e: [e.label], val_fraction, test_fraction, split_seed, source)
    note = "classes: as given" if classes is not None else "classes: the folders' names, sorted"
    return ClassificationDataset(name or folder.resolve().name, names, parts, (note, split_note))


def _class_folders(place: Path) -> dict[str, list[Path]]:
    """Pictures of each folder directly below `place`; folders without pictures are left out."""
    folders = sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {p.name: pictures for p in folders if (pictures := find_images(p))}


def _examples(root: Path, place: Path, names: tuple[str, ...]) -> list[CropExample]:
    examples = []
    for title, pictures in _class_folders(place).items():
        if title not in names:
            raise DataError(f"{place / title}: '{title}' is not a class of this data set; legal: {', '.join(names)}")
        label = names.index(title)
        examples += [CropExample(p, label, None, p.relative_to(root).as_posix()) for p in pictures]
    return examples
