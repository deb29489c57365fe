"""No picture shows an empty square: each character has a font that has it, or is written as an escape."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from detect.reporting import fonts, pictures
from detect.reporting.text import text_size

NAMES = ("猫", "🐈", "한국어", "ねこ", "машина", "λόγος", "แมว", "قطة", "שלום", "बिल्ली", "Größe", "👩\u200d🔬", "⚠")


@pytest.fixture
def only(monkeypatch):
    """A function that leaves only some fonts: those of the packages, and those of the system."""

    def leave(packaged=(), installed=()):
        monkeypatch.setattr(fonts, "_packaged", lambda: tuple(packaged))
        monkeypatch.setattr(fonts, "_installed", lambda: tuple(installed))
        fonts.font_of.cache_clear()

    yield leave
    fonts.font_of.cache_clear()


def drawn(text: str, file: Path) -> bytes:
    mask = fonts.load(file, 24).getmask(text)
    return bytes(str(mask.size), "ascii") + bytes(mask)


@pytest.mark.parametrize("name", NAMES)
def test_every_letter_is_a_shape_of_its_own_and_no_square(name):
    assert fonts.visible(name) == name
    for piece, file in fonts.pieces(name):
        square = drawn("\U0010fffe", file)  # no font has this one
        assert all(drawn(letter, file) != square for letter in piece)


def test_a_character_without_a_font_is_an_escape(only):
    only()
    assert fonts.visible("猫 cat") == "\\u732b cat" and fonts.visible("🐈") == "\\U0001f408"
    assert text_size("\u16a0", 12)[1] == text_size("\\u16a0", 12)[1] > 4 * text_size("i", 12)[1] / 2


def test_a_font_of_the_system_is_taken_where_no_other_has_the_character(only):
    (thai,) = [file for file in fonts._packaged() if "Thai" in file.name]
    only(installed=[thai])
    assert fonts.font_of("แ") == thai and fonts.font_of("猫") is None and fonts.font_of("a") == fonts.default()


def test_fonts_that_draw_nothing_or_can_not_be_read_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert fonts._characters(tmp_path / "broken.ttf") == frozenset()
    from matplotlib import font_manager

    fonts._installed.cache_clear()
    monkeypatch.setattr(
        font_manager, "findSystemFonts", lambda: ["/x/LastResort.otf", "/x/Adobe-Blank.ttf", "/x/a.ttf"]
    )
    assert fonts._installed() == (Path("/x/a.ttf"),)
    fonts._installed.cache_clear()


def test_control_characters_and_marks_of_direction_are_escapes():
    assert fonts.visible("a\nb\x1b[31m\u202ec\ud800") == "a\\nb\\x1b[31m\\u202ec\\ud800"


def test_a_score_stays_behind_a_name_that_is_written_from_the_right():
    assert [piece for piece, _ in fonts.pieces("قطة كبيرة .87")] == ["قطة كبيرة", " .87"]
    assert [piece for piece, _ in fonts.pieces("שלום 3D a")] == ["שלום", " 3D a"]
    assert [piece for piece, _ in fonts.pieces("a\u0301 猫 b")] == ["a\u0301 ", "猫", " b"]


def test_figures_have_every_letter_and_no_formula():
    names = ("background", *NAMES, "$x^$", "a $ b")
    matrix = np.eye(len(names), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        picture = pictures.confusion_figure(matrix, names)
        plain = pictures.confusion_figure(matrix, ("background", *("x" * len(name) for name in names[1:])))
    assert picture.shape != plain.shape or (picture != plain).any()


def test_lines_of_any_script_have_one_height():
    assert {text_size(name, 15)[0] for name in NAMES} == {text_size("cat", 15)[0]}
