"""Values of annotation files: numbers and flags that tools also write as text."""

import math
import reprlib

MOST = 1e9
"""The largest number of pixels that is legal: no image has as many in a row."""
NO, YES = ("", "false", "no"), ("true", "yes")
UNSAID = ("none", "null", "nil", "n/a", "na", "unspecified", "unknown", "undefined", "__undefined__")
"""The values of a flag as text in lower case, and those of tools for a flag that nobody has set."""

CROWD = ("difficult", "crowd", "is_crowd", "iscrowd", "ignore", "group_of", "is_group_of", "groupof", "isgroupof")
"""Names of flags, in lower case, that make an object crowd: it is neither trained nor scored."""


def finite(value: object) -> float | None:
    """A number of at most `MOST`, or text that is one; None for anything else."""
    if type(value) is float:  # the usual case, and a large file has millions of them
        return value if -MOST <= value <= MOST else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:  # Python's own way to write a number
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= MOST else None


def flag(value: object) -> bool | None:
    """A flag that is true or false, a level from 0, or text that is one of them; null, -1 (Open Images: unknown) and
    words for a flag that nobody has set are false. None for anything else."""
    if value is not None and not isinstance(value, bool | int | float | str):
        return None
    word = "" if value is None else str(value).strip().lower()
    if (level := finite(word)) is not None:
        return level > 0 if level >= 0 or level == -1 else None
    return True if word in YES else False if word in (*NO, *UNSAID) else None


def short(value: object) -> str:
    """A value as a message shows it: its first parts, however large it is."""
    return reprlib.repr(value)
