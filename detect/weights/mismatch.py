"""The error message for weights that do not fit the model."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from detect.errors import first_few
from detect.weights.ledger import Ledger
from detect.weights.names import looks_like

HEADS = "*Predictor*"
"""The variables of the heads of an SSD or a Faster R-CNN."""


def complaint(ledger: Ledger, variables: Mapping[str, Any], arrays: Mapping[str, Any], use: str = "") -> str:
    """The message, with the names that don't fit and what is legal.

    variables: of the model; arrays: of the file. use: the overrides that build the file's network, if they are known.
    """
    if not ledger.loaded and not ledger.mismatched:
        return (
            f"{ledger.source} belongs to another network{_likeness(variables, arrays)}: it has none of the "
            f"{len(variables)} wanted variables ({first_few(variables, 3)}), "
            f"but {first_few(arrays, 3)} ({len(arrays)} in total). "
            "Choose the backbone that it was trained with, another file, or random weights with init=none."
        )
    shapes = {f"{name} {list(file)} for {list(model)}" for name, (file, model) in ledger.mismatched.items()}
    details = [
        f"{title}: {first_few(sorted(names), 3)}"
        for title, names in (
            ("missing in the file", ledger.missing),
            ("unknown to the model", ledger.unexpected),
            ("of another shape in the file", shapes),
        )
        if names
    ]
    offenders = {**ledger.missing, **ledger.mismatched, **ledger.unexpected}
    glob = HEADS if _heads(offenders) else next(iter(offenders))
    return "\n".join(
        [
            f"{ledger.source} does not fit the model, nothing was loaded{_likeness(variables, arrays)}:",
            *(f"  {line}" for line in ledger.lines(78)),
            *details,
            *hints(ledger),
            *([f"The file is of the network of {use}"] if use else []),
            "Choose a file of this network, start from random weights with init=none, or leave variables out with "
            f"globs: 'init.skip=[{glob}]'",
        ]
    )


def hints(ledger: Ledger) -> list[str]:
    """The usual causes of such a difference."""
    missing, unexpected = list(ledger.missing), list(ledger.unexpected)
    lines = []
    if ledger.mismatched and _heads(ledger.mismatched):
        lines.append(
            "Only heads have other shapes. detector.head.kernel sets the size of their kernels, and detector.anchors "
            "their number of outputs: set both as in the training of the file."
        )
    elif ledger.mismatched:
        lines.append("Check that depth_multiplier is the one that the file was trained with.")
    if gamma := [name for name in unexpected if name.endswith("/BatchNorm/gamma")]:
        lines.append(
            f"The file's batch norm has gamma ({gamma[0]}), the backbone's has none: set backbone.scale=true, if the "
            "backbone has that option. An SSD of the Object Detection API also needs backbone.activation=relu6."
        )
    elif gamma := [name for name in missing if name.endswith("/BatchNorm/gamma")]:
        lines.append(
            f"The file's batch norm has no gamma ({gamma[0]}): set backbone.scale=false, if the backbone has that "
            "option."
        )
    if any(name.startswith("Conv2d_1a_7x7/BatchNorm/") for name in unexpected):
        lines.append(
            "The file has batch norm after the first convolution: set backbone.stem_norm=true, if the backbone has "
            "that option."
        )
    if any("_depthwise/" in name and "Box" in name for name in (*missing, *unexpected)):
        lines.append("Either the file or the model is SSDLite, with depthwise heads and extra maps (detector=ssdlite).")
    if missing and all("Predictor" in name or "_Conv2d_" in name for name in missing):
        lines.append("Only the heads are missing: init.scope=backbone does not need them.")
    return lines


def _heads(names: Iterable[str]) -> bool:
    return all(fnmatchcase(name, HEADS) for name in names)


def _likeness(variables: Iterable[str], arrays: Iterable[str]) -> str:
    found = looks_like(arrays)
    return f", it looks like {found}" if found and found != looks_like(variables) else ""
