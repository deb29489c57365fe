"""Text files of any tool: every reader reads them with the functions of this module."""

import codecs
import json
import re
import unicodedata
from pathlib import Path

from detect.data.image_file import LFS_POINTER
from detect.data.notes import Notes
from detect.errors import DataError
from detect.errors import printable as printable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))
"""Characters that nobody sees and that change no letter, such as the zero-width space that comes with copied text."""
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_TYPED = re.compile(
    r"0|[1-9]\d*|(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w.-]*(?: [\w.-]+)*", re.ASCII | re.IGNORECASE
)
"""Names that Hydra's grammar takes without quotes, and reads as they are."""


def read_text(path: Path, notes: Notes) -> str:
    """The text of a file: by its byte order mark, as an XML file declares it, as UTF-8, or else as Latin-1.

    An XML declaration is left out, because it tells only the encoding. A guess of Latin-1 is noted.
    Raises DataError, naming the file, if it can't be read, or if it is not text in the encoding that it declares.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"can't read it ({error.strerror})"
        raise DataError(f"{path}: {reason}") from None
    if data.startswith(LFS_POINTER):
        raise DataError(f"{path}: this is a pointer of Git LFS, not the file itself: run git lfs pull")
    encoding = _encoding(data)
    try:
        text = data.decode(encoding or "utf-8")
    except LookupError:
        raise DataError(
            f"{path}: it declares the encoding '{encoding}', which does not exist; save it as UTF-8"
        ) from None
    except UnicodeError:
        if encoding:
            raise DataError(f"{path}: it is not text in {encoding}, its encoding; save it as UTF-8") from None
        if b"\0" in data:
            raise DataError(f"{path}: this is not a text file (it has zero bytes)") from None
        notes.add("read as Latin-1, because it is neither UTF-8 nor declares an encoding", path.name)
        text = data.decode("latin-1")
    return _DECLARATION.sub("", text)


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file without zero bytes and byte order mark, to recognise its format before it is read.

    Raises DataError naming the file if it can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(1 << 16).replace(b"\0", b"")
    except OSError as error:
        raise DataError(f"{path}: can't read it ({error.strerror})") from None
    for mark in (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        data = data.removeprefix(mark)
    return data


def read_lines(path: Path, notes: Notes) -> list[str]:
    """The lines of a text file, without blanks at their ends; numbers of lines stay, so empty lines do, too."""
    return [line.strip() for line in re.split(r"\r\n|\r|\n", read_text(path, notes))]


def one_name(text: object) -> str:
    """A name as it is compared: in Unicode's composed form, with single blanks and none at its ends.

    Characters that nobody sees are left out.
    """
    if type(text) is str and _has_one_form(text):
        return text
    return unicodedata.normalize("NFC", " ".join(str(text).translate(_INVISIBLE).split()))


def loose(text: str) -> str:
    """A name without letter case and without the differences of Unicode's compatibility forms."""
    if _has_one_form(text):
        return text.lower()
    return unicodedata.normalize("NFKC", one_name(text)).casefold()


def _has_one_form(text: str) -> bool:
    """Whether a name has neither blanks nor letters that Unicode writes in two ways: so most names of files."""
    return text.isascii() and text.isprintable() and " " not in text


def _encoding(data: bytes) -> str | None:
    """The encoding that the bytes tell; None if they tell none."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if data[:4].count(0) == 2 and len(data) % 2 == 0:  # UTF-16 of Western text, without a mark
        return "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    declared = _DECLARED.match(data[:400])
    known = declared.group(1).decode().lower() if declared else None
    return None if known and known.startswith(("utf-16", "utf-32", "ucs")) else known  # it was just read byte by byte


def renaming(*names: str) -> str:
    """What gives classes the name of the last one, for messages: an override in the quotes of a shell, or a line of an
    experiment's YAML file if Hydra's grammar can't write the names."""
    *olds, new = names
    if all(map(_TYPED.fullmatch, names)):
        return f"'dataset.rename={{{', '.join(f'{old}: {new}' for old in olds)}}}'"
    content = json.dumps(dict.fromkeys(olds, new), ensure_ascii=False)
    return f"the line `dataset: {{rename: {content}}}` in the YAML file of an experiment"
