"""Writes a translation as an experiment file."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from detect.config import grammar
from detect.files import experiment_text
from detect.migration.translation import Translation

WIDTH = 118
BY = "by detect migrate"


def name_of(file: Path) -> str:
    """The name of an experiment: that of the file, or of its folder if the file is called pipeline.config.

    `migrated_` stands before a name such as 300 or true, which would be no text in `experiment=300`.
    """
    stem = file.stem if file.stem != "pipeline" else file.resolve().parent.name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-") or "migrated"
    return name if grammar.is_text(name) else f"migrated_{name}"


def notes(found: Translation) -> list[str]:
    """The account of a translation: what differs, and what is left out."""
    lines = []
    for title, items in (("Differs from the file:", found.differs), ("Has no counterpart:", found.left_out)):
        if items:
            lines += [title, *(f"- {item}" for item in items)]
    return lines


def text(source: Path, command: str, found: Translation) -> str:
    """The experiment as YAML: a comment with its source and the account, options of groups, values."""
    head = [f"Translated from {source.name} {BY}.", f"Command:  {command}", *notes(found)]
    comments = [line for each in head for line in textwrap.wrap(each, WIDTH - 2, subsequent_indent="  ")]
    order = [(group, option) for group, option in found.choices.items() if "@" not in group]
    order += [(group, option) for group, option in found.choices.items() if "@" in group]
    defaults: Sequence[Any] = [*({f"override /{group}": option} for group, option in order), "_self_"]
    body = yaml.safe_dump({"defaults": list(defaults)}, sort_keys=False)
    body += yaml.safe_dump(_plain(found.values), sort_keys=False, default_flow_style=None, width=WIDTH)
    return experiment_text(comments, body)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without empty nodes."""
    result = {key: _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in result.items() if value != {}}
