"""Pictures in one folder per class: a data set for a classifier without a detector."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.dataset import ClassificationDataset
from detect.data.examples import CropExample
from detect.data.folder import existing_folder, find_images, leftovers, passed_over, split_folders, split_named
from detect.data.notes import Notes
from detect.data.split import HELD_OUT, SPLITS, draw_splits
from detect.data.text import one_name
from detect.errors import DataError, first_few


def read_image_folder(
    root: str | Path,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: Seed = 0,
) -> ClassificationDataset:
    """Reads root/train/CLASS/*.jpg with val and test beside train, or root/CLASS/*.jpg with root/test/CLASS/*.jpg.

    classes: names in their order, and pictures of other classes are left out; None takes the folders' names, sorted.
    A class's folder may have subfolders. If root holds nothing but one folder of folders, that one is read. Without a
    val folder, val is drawn from train, or from all pictures of root/CLASS (and test too, if there is none).
    Raises DataError for a missing or empty folder, a folder of val or test that train does not have, a folder of val
    without folders of classes, and a class without pictures. A folder of test without such folders is left out.
    """
    folder, own = existing_folder(root), Notes()
    top = _inner(folder)
    places = split_folders(top)
    if "train" not in places or _is_a_class(places, top):
        places = {"train": top, **_held_out(places, top)}
    found = {split: _class_folders(place, own) for split, place in places.items()}
    for split, place in places.items():
        if split != "train" and place.parent == places["train"]:
            del found["train"][one_name(place.name)]
    leftovers(folder, [pictures for folders in found.values() for pictures in folders.values()], own)
    if not found["train"]:
        raise DataError(f"{places['train']}: it has no folder with pictures; there must be one folder per class")
    if not found.get("test", True):  # pictures to predict on, which nobody has labelled
        del found["test"], places["test"]
    if not found.get("val", True):
        raise DataError(
            f"{places['val']}: it has no folder with pictures; there must be one folder per class, of the same names "
            f"as in {places['train']}; or move it out of dataset.root={folder}"
        )
    names = tuple(sorted(found["train"])) if classes is None else tuple(map(one_name, classes))
    for title in names:
        if title not in found["train"]:
            have = ", ".join(sorted(found["train"]))
            raise DataError(f"{places['train']}: no pictures of class '{title}'; there are {have}")
    given, left_out = {}, []
    for split, folders in found.items():
        others = [title for title in folders if title not in names]
        if others and classes is None:
            place = places[split] / others[0]
            raise DataError(f"{place}: '{others[0]}' is not a class of this data set; legal: {', '.join(names)}")
        left_out += [f"{split}/{title} with {len(folders[title])} pictures" for title in others]
        given[split] = tuple(
            CropExample(path, names.index(title), None, path.relative_to(folder).as_posix())
            for title, pictures in folders.items()
            if title in names
            for path in pictures
        )
    parts = {split: given.get(split, ()) for split in SPLITS}
    if "val" in given:
        note = f"split: folders {', '.join(p.name for p in places.values())}"
    else:
        fractions = {"val": val_fraction, "test": 0.0 if "test" in given else test_fraction}
        by_id = {e.id: e for e in given["train"]}
        drawn = draw_splits({e.id: [e.label] for e in given["train"]}, fractions, split_seed)
        parts |= {split: tuple(by_id[i] for i in ids) for split, ids in drawn.items() if split not in given or ids}
        note = (
            f"split: DRAWN from the training pictures from split_seed={split_seed}, because there is no folder of val"
        )
    notes = ["classes: as given" if classes is not None else "classes: the folders' names, sorted", note]
    notes += [f"left out by dataset.classes: {first_few(left_out)}"] if left_out else []
    made = tuple(split for split in HELD_OUT if split not in given and parts[split])
    return ClassificationDataset(name or folder.resolve().name, names, parts, (*notes, *own.lines()), made)


def _is_a_class(places: Mapping[str, Path], top: Path) -> bool:
    """Whether a folder called train holds pictures of trains: it is beside folders of other classes."""
    others = len(_class_folders(top, Notes())) > 1
    alone = not any(split_named(place.name) in HELD_OUT for place in places.values())
    return alone and others and bool(find_images(places["train"], recursive=False))


def _held_out(places: Mapping[str, Path], top: Path) -> dict[str, Path]:
    """The folders of val and test beside folders of classes: they have such folders, too."""
    titles = set(_class_folders(top, Notes())) - {one_name(place.name) for place in places.values()}
    inside = {split: set(_class_folders(place, Notes())) for split, place in places.items() if split in HELD_OUT}
    return {split: places[split] for split, known in inside.items() if known and known <= titles}


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one with pictures in it, as archives have it, if that one has none of its own."""
    inside = list(_class_folders(folder, Notes()).values())
    if len(inside) != 1:
        return folder
    only = folder / inside[0][0].relative_to(folder).parts[0]
    return folder if split_named(only.name) or find_images(only, recursive=False) else _inner(only)


def _class_folders(place: Path, notes: Notes) -> dict[str, list[Path]]:
    """Pictures of each folder directly below `place`; folders without pictures are left out and noted."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in place.iterdir() if p.is_dir() and not passed_over(p.name)):
        if pictures := find_images(path):
            found.setdefault(one_name(path.name), []).extend(pictures)
        else:
            notes.add("left out, folders without pictures that are read", path.name)
    return found
