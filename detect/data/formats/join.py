"""Several data sets as one: `dataset=join`."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.formats.auto import read_auto
from detect.data.records import Record
from detect.data.split import SPLITS
from detect.errors import ConfigError
from detect.files import expanded


def read_join(
    roots: Sequence[str | Path],
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads several folders, each in its own format, and joins their splits. Classes of one name are one class.

    roots: the folders. The split of each is its own; one that has none is drawn for each folder.
    classes, rename: of the classes of all folders. Other arguments: `detect.data.assemble.Selection`.
    The ids of images begin with the folder's name. Raises ConfigError without folders, DataError as the readers do.
    """
    if not roots:
        raise ConfigError("dataset.roots is empty: give dataset.roots=[DIR,DIR]")
    splits: dict[str, list[Record]] = {split: [] for split in SPLITS}
    notes: list[str] = []
    drawn: set[str] = set()
    titles: set[str] = set()
    for root in roots:
        part = read_auto(
            root, val_fraction=val_fraction, test_fraction=test_fraction, split_seed=split_seed, split_by=split_by,
            exif=exif,
        )  # fmt: skip
        title = next(t for k in count(1) if (t := part.name if k == 1 else f"{part.name}_{k}") not in titles)
        titles.add(title)
        notes += [f"{title}: {note}" for note in part.notes]
        drawn |= set(part.drawn)
        for split, examples in part.splits.items():
            splits[split] += [
                Record(
                    e.path, f"{title}/{e.id}", [part.classes[c - 1] for c in e.classes], e.boxes, e.crowd.tolist(),
                    e.source, e.annotated_size, areas=e.areas,
                )
                for e in examples
            ]  # fmt: skip
    found = Found(expanded(roots[0]), splits, "each folder's own", used=None)
    choice = Selection(classes, rename, name or "+".join(sorted(titles)), exif="displayed")
    joined = assemble(found, choice)
    told = (*joined.notes, *notes)
    return DetectionDataset(joined.name, joined.classes, joined.splits, told, drawn=tuple(sorted(drawn)))
