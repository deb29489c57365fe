"""Texts of messages."""

import pytest

from detect.errors import counted, one_line


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "class", "1 class"), (2, "class", "2 classes"), (0, "box", "0 boxes"), (3, "image", "3 images")],
)
def test_a_number_with_its_noun(number, noun, text):
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("\n one \ntwo"), "one "), (KeyError(), "KeyError"), (ValueError("x" * 999), "x" * 300)],
)
def test_an_error_of_a_library_in_one_line(error, text):
    assert one_line(error) == text
