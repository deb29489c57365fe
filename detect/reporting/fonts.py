"""Fonts by the characters that they have, so that no picture shows an empty square.

The fonts come from matplotlib (DejaVu Sans: Latin, Greek, Cyrillic, Arabic) and from two packages with Noto fonts
(other scripts, emoji, Chinese, Japanese, Korean). They are the same on every machine. The fonts of the system are
searched once, and only for a character that these lack. A character that no font has is an escape: `\\u16a0`.
"""

import functools
import importlib.util
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from detect.errors import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")
BLANK = ("lastresort", "adobeblank", "notdef")
"""Words in the file names of fonts that have a glyph for every character, which is empty."""
MARKS = "\u200d\u200c\ufe0e\ufe0f"
"""Joiners and variation selectors: they have no shape of their own."""
BOLD = 700


def visible(text: str) -> str:
    """The text as it can be drawn: characters that no font has, and control characters, are written as escapes."""
    return "".join(c if c in MARKS or font_of(c) else _escape(c) for c in printable(text))


def pieces(text: str) -> list[tuple[str, Path]]:
    """The `visible` text in pieces from left to right, each with the file of its font and of one writing direction.

    Marks stay with the letter before them. A score behind a name that is written from the right stays behind it.
    """
    shown = visible(text)
    parts: list[tuple[str, Path]] = []
    before = False
    for c, leftward in zip(shown, _leftward(shown), strict=True):
        last = parts[-1][1] if parts and leftward == before else None
        if c in MARKS and c != "\u200c":  # an emoji of several parts is drawn as its parts
            continue
        joins = last is not None and (c == "\u200c" or (unicodedata.combining(c) and ord(c) in _characters(last)))
        font = last if last and joins else font_of(c) or default()
        if font == last:
            parts[-1] = (parts[-1][0] + c, font)
        else:
            parts.append((c, font))
        before = leftward
    return parts


def _leftward(text: str) -> list[bool]:
    """Whether each character is written from right to left; what is between two such words is, too."""
    strong = [unicodedata.bidirectional(c) in ("R", "AL") for c in text]
    for start in [k for k in range(1, len(text)) if strong[k - 1] and not strong[k]]:
        end = start
        while end < len(text) and not strong[end] and unicodedata.bidirectional(text[end]) not in ("L", "EN"):
            end += 1
        if end < len(text) and strong[end]:
            strong[start:end] = [True] * (end - start)
        while start < end and unicodedata.combining(text[start]):
            strong[start] = True
            start += 1
    return strong


def families(characters: Iterable[str]) -> list[str]:
    """The names of matplotlib's font families for some characters: DejaVu Sans first, then what they need beyond it."""
    from matplotlib import font_manager

    files = dict.fromkeys(font for c in characters if ord(c) > 126 and (font := font_of(c)))
    names = {file: f"detect {file.stem}" for file in files if file != default()}
    listed = {entry.name for entry in font_manager.fontManager.ttflist}
    for file, name in names.items():
        if (
            name not in listed
        ):  # a name of its own: matplotlib's for a variable font has the weight of its thinnest form
            font_manager.fontManager.ttflist.append(
                font_manager.FontEntry(fname=str(file), name=name, weight="normal", size="scalable")
            )
    return ["DejaVu Sans", *names.values()]


@functools.lru_cache(maxsize=256)
def load(file: Path, size: int) -> "FreeTypeFont":
    """A font at a size in pixels; a variable font in bold."""
    from PIL import ImageFont

    font = ImageFont.truetype(str(file), size)
    try:
        axes = font.get_variation_axes()
    except OSError:  # it is no variable font
        return font
    weight = [a["name"] == b"Weight" for a in axes]
    wanted: list[float] = [
        min(BOLD, a["maximum"] or BOLD) if w else a["default"] or 0 for w, a in zip(weight, axes, strict=True)
    ]
    font.set_variation_by_axes(wanted)
    return font


@functools.lru_cache(maxsize=4096)
def font_of(character: str) -> Path | None:
    """The file of the first font that has the character; None if no font has it."""
    code = ord(character)
    return next((file for file in _files() if code in _characters(file)), None)


@functools.cache
def default() -> Path:
    """DejaVu Sans Bold, which comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"


def _files() -> Iterator[Path]:
    yield default()
    yield from _packaged()
    yield from _installed()


@functools.cache
def _packaged() -> tuple[Path, ...]:
    """The fonts of the packages; none of a package that is not installed."""
    found = (importlib.util.find_spec(name) for name in PACKAGES)
    folders = [Path(place) for spec in found if spec for place in spec.submodule_search_locations or ()]
    return tuple(p for f in folders for p in sorted(f.iterdir()) if p.suffix in (".ttf", ".otf", ".ttc"))


@functools.cache
def _installed() -> tuple[Path, ...]:
    """The fonts of the system, as matplotlib finds them: by fontconfig and in the usual folders."""
    from matplotlib.font_manager import findSystemFonts

    files = sorted(map(Path, findSystemFonts()))
    return tuple(file for file in files if not any(word in file.name.lower().replace("-", "") for word in BLANK))


@functools.cache
def _characters(file: Path) -> frozenset[int]:
    """The characters of a font; none if it can't be read or has only bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(file))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


def _escape(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape", "surrogatepass").decode()
