"""Errors that the user can correct. The command line prints the message without a traceback and exits with code 2.

After `Unfinished` the code is 1.
"""

import unicodedata
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct; the message names the file or key, the value and what is legal."""


class ConfigError(UserError):
    """A key, a value or a combination of them that the configuration does not allow."""


class InUse(ConfigError):
    """A folder in which another process works at this moment; nothing in it is changed."""


class DataError(UserError):
    """An image, an annotation or a data set that can't be used."""


class WeightsError(UserError):
    """A checkpoint, a run folder or a weight file that can't be used."""


class Unfinished(UserError):
    """A part of the work could not be done, such as a damaged image; all other parts are done and written."""


DISTRIBUTION = "tf-detect"
"""The name of the package for pip. On PyPI, `detect` is another package."""


def to_install(extra: str) -> str:
    """The command that installs an optional part, for messages."""
    return f"pip install -e '.[{extra}]', in the checkout of detect"


def first_few(items: Iterable[object], most: int = 5, between: str = ", ", last: str = " and") -> str:
    """The first items as text, and the number of the others: `a, b and 3 more`."""
    named = [str(item) for item in items]
    more = f"{last} {len(named) - most} more" if len(named) > most else ""
    return between.join(named[:most]) + more


def one_line(error: BaseException, line: int = 0) -> str:
    """One line of an error of a library, in at most 300 characters; the type of an error without a text."""
    return (str(error).strip() or type(error).__name__).splitlines()[line][:300]


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 class`, `2 classes`, `3 boxes`, `4 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def score_text(value: float | None, digits: int = 3) -> str:
    """A score as text; `n/a` if there is none, because there was nothing to score."""
    return "n/a" if value is None else f"{value:.{digits}f}"


_JOINERS = "\u200d\u200c"  # parts of emoji and of words in some scripts
_HARMFUL = ("Cc", "Cf", "Zl", "Zp", "Cs")


def printable(text: object) -> str:
    """Text with control characters, line ends and marks of writing direction escaped, for consoles and tables."""
    return "".join(_escape(c) if unicodedata.category(c) in _HARMFUL and c not in _JOINERS else c for c in str(text))


def shortened(text: object, width: int) -> str:
    """`printable` text of at most `width` characters: a longer one ends in two dots."""
    told = printable(text)
    return told if len(told) <= width else told[: width - 2] + ".."


def printable_lines(text: object) -> str:
    """Text of several lines: its line feeds stay, and every line is `printable`."""
    return "\n".join(map(printable, str(text).split("\n")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
