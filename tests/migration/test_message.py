"""The fields of a pipeline.config: types, defaults, lines in messages, and what nobody read."""

from pathlib import Path

import pytest

from detect.errors import ConfigError
from detect.migration.message import Message, NoCounterpart
from detect.text_format import parse


def message(text):
    return Message(parse(text, "x.config"), Path("x.config"))


@pytest.mark.parametrize("text", ["-0x10", "+0X1f", "0x10"])
def test_a_hexadecimal_number_in_place_of_a_fraction(text):
    assert message(f"a: {text}").number("a", 0) == message(f"a: {text}").whole("a", 0) == int(text, 0)


def test_values_and_defaults():
    m = message("a: 'text' b: RELU_6 c: true d: 0x10 e: -1.5e-2 f: [1, 2.5] f: 3 g: ['p', 'q'] h: 010 i: .5f")
    assert (m.text("a"), m.word("b", "RELU"), m.flag("c", False), m.whole("d", 0)) == ("text", "RELU_6", True, 16)
    assert (m.number("e", 0), m.numbers("f"), m.texts("g"), m.whole("h", 0)) == (-0.015, [1, 2.5, 3], ["p", "q"], 8)
    assert m.number("i", 0) == 0.5 and m.number("d", 0) == 16
    assert (m.text("z", "t"), m.word("z", "W"), m.flag("z", True), m.whole("z", 7), m.number("z", 0.5)) == (
        *("t", "W", True, 7),
        0.5,
    )
    assert m.numbers("z") == [] and not m.message("z").given and m.message("z").whole("deep", 3) == 3


@pytest.mark.parametrize(
    ("text", "read", "reason"),
    [
        ("\na: 1.5", lambda m: m.whole("a", 0), "x.config:2: a: '1.5' is not legal: expected a whole number"),
        ("a: '1'", lambda m: m.whole("a", 0), "expected a whole number"),
        ("a: inf", lambda m: m.number("a", 0), "expected a number"),
        ("a: 1e999", lambda m: m.number("a", 0), "expected a finite number"),
        (f"a: {'9' * 5000}", lambda m: m.whole("a", 0), "expected a whole number"),
        ("a: yes", lambda m: m.flag("a", False), "expected true or false"),
        ("a: ssd", lambda m: m.text("a"), "expected text in quotes"),
        ("a: 'RELU'", lambda m: m.word("a", "RELU"), "without quotes"),
        ("a: 1\na: 2", lambda m: m.whole("a", 0), "x.config:2: a: is given twice"),
        ("a { b: 1 }", lambda m: m.whole("a", 0), "expected a value, not a message"),
        ("a: 1", lambda m: m.message("a"), "expected a message"),
        ("a {}\na {}", lambda m: m.message("a"), "x.config:2: a is given twice"),
        ("a {} b {}", lambda m: m.one(("a", "b")), "a is given, too"),
    ],
)
def test_wrong_values(text, read, reason):
    with pytest.raises(ConfigError) as error:
        read(message(text))
    assert reason in str(error.value)


def test_what_has_no_counterpart_has_a_name():
    m = message("loss {\n  weighted_l2 { }\n}")
    with pytest.raises(NoCounterpart) as error:
        m.message("loss").one(("weighted_smooth_l1",))
    assert str(error.value) == "x.config:2: loss.weighted_l2: weighted_l2 has no counterpart here"
    assert error.value.part == "weighted_l2"


def test_unread_fields():
    m = message("a { b: 1\n c: 2 d { e: 3 } }\nf: 4 g { h: 5 } i {}")
    m.message("a").whole("b", 0)
    m.message("a").message("d")
    m.ignore("g")
    assert sorted(m.unread()) == ["a.c (line 2)", "a.d.e (line 2)", "f (line 3)", "i (line 3)"]
