"""How the API page shows docstrings: an extension of griffe. A line `name: what it is` becomes an item of a list."""

import re
from typing import Any

import griffe

ITEM = re.compile(r"((?:\w+|\*\w+)(?:, (?:\w+|\*\w+))*): (.*)")


def as_list(text: str) -> str:
    """The docstring with every line that begins with an argument's name as an item, its further lines indented."""
    lines, inside = [], False
    for line in text.splitlines():
        found = ITEM.fullmatch(line)
        if found:
            lines += [] if inside else [""]
            lines.append(f"- **{found.group(1)}**: {found.group(2)}".replace("**\\*", "**"))
        elif inside and line and not line.startswith("Raises "):
            lines.append(f"    {line.strip()}")
        else:
            lines += ["", line] if inside and line else [line]
        inside = bool(found) or (inside and bool(line) and not line.startswith("Raises "))
    return "\n".join(lines)


class Lists(griffe.Extension):
    """Rewrites the docstrings of what the page names."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_list(obj.docstring.value)
