"""Protobuf's text format: what is read, what is refused with its line, and the same as protobuf's own parser."""

import random

import pytest
from google.protobuf import struct_pb2, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.errors import DataError
from detect.text_format import Field, Quoted, parse


def tree(text):
    """The fields without lines: (name, value) each."""

    def plain(value):
        if isinstance(value, list):
            return [(field.name, plain(field.value)) for field in value]
        return tuple(map(plain, value)) if isinstance(value, tuple) else value

    return plain(parse(text, "x"))


def test_messages_values_and_lists():
    text = """
    # a comment { with a brace
    model { type: 'ssd' scale: .5, on: true; }
    model: < at: -1 >
    sizes: [1, 2e3]
    name: "a" 'b'  # joined
    empty {}
    parts: [{ a: 1 }, { a: 2 }]
    """
    assert tree(text) == [
        ("model", [("type", "ssd"), ("scale", ".5"), ("on", "true")]),
        ("model", [("at", "-1")]),
        ("sizes", ("1", "2e3")),
        ("name", "ab"),
        ("empty", []),
        ("parts", ([("a", "1")], [("a", "2")])),
    ]


def test_lines_and_quotes():
    first, second = parse("\n\na: 'x'\n\nb: x", "file")
    assert first == Field("a", "x", 3) and isinstance(first.value, Quoted)
    assert second == Field("b", "x", 5) and not isinstance(second.value, Quoted)
    assert tree("a: ['b', 'c' 'd']") == [("a", ("b", "cd"))]
    assert tree(r"a: '\x41\102\n\'\u'")[0][1] == "AB\n'u"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {\n b: 1\n", "x:1: the file ends before the '}'"),
        ("a {\n b: <\n}", "x:3: '}' is not the name of a field"),
        ("a: 'b", "x:1: ''b' can't be read; is a quote missing"),
        ("a\nb: 1", "x:1: a has no value: a ':' or a '{' must follow it"),
        ("a 1", "x:1: a has no value"),
        ("a:", "x:1: a has no value"),
        ("a: }", "x:1: a has no value"),
        ("\n: 1", "x:2: ':' is not the name of a field"),
        ("a: [1", "x:1: the list of a is not closed"),
        ("a {" * 30, "x:1: messages are nested deeper than 20"),
        ("a: , 1", "x:1: a has no value"),
        ("a: " + "[{b:" * 30, "nested deeper than 20"),
    ],
)
def test_text_that_is_refused(text, message):
    with pytest.raises(DataError) as error:
        parse(text, "x")
    assert message in str(error.value)


ESCAPED = [r"\u00e9", r"\U0001F600", r"\303\251", r"\xe5\xb0\x8f", r"a\\u0041", r"\u0041\u5c0f\t", r"\101\x42"]
BROKEN = [r"\377", r"\xe9", r"\ud83d", r"\ude00\ud83d", r"\U00110000"]


@pytest.mark.parametrize("text", ESCAPED)
def test_escapes_mean_what_they_mean_to_protobuf(text):
    theirs = text_format.Parse(f"string_value: '{text}'", struct_pb2.Value()).string_value
    assert tree(f"a: '{text}'") == [("a", theirs)]


def test_two_surrogates_are_one_character():
    assert tree(r"a: '\ud83d\ude00'") == [("a", "\U0001f600")]  # as in protobuf for C++; that for Python refuses them


@pytest.mark.parametrize("text", BROKEN)
def test_escapes_that_are_no_text_are_refused(text):
    with pytest.raises(text_format.ParseError):
        text_format.Parse(f"string_value: '{text}'", struct_pb2.Value())
    with pytest.raises(DataError, match="x:2: the escapes in the text of name are no UTF-8"):
        parse(f"\nname: '{text}'", "x")


leaves = st.one_of(st.text(max_size=8), st.booleans(), st.floats(allow_nan=False, allow_infinity=False, width=32))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@settings(max_examples=60)
@given(st.lists(values, max_size=4))
def test_what_protobuf_writes(data):
    """Each text of protobuf is read, with as many fields of each name as its own text has lines."""
    message = struct_pb2.ListValue()
    message.extend(data)
    text = text_format.MessageToString(message)

    def count(fields):
        return sum(1 + (count(field.value) if isinstance(field.value, list) else 0) for field in fields)

    lines = [line.strip() for line in text.split("\n") if line]
    assert count(parse(text, "x")) == sum(line != "}" for line in lines)
    strings = [v for v in data if isinstance(v, str)]
    found = [f.value[0].value for f in parse(text, "x") if isinstance(f.value, list) and f.value]
    assert [v for v in found if isinstance(v, Quoted)] == strings


def test_damaged_texts_are_refused_or_read():
    sound = "model { ssd { num_classes: 3 a: [1, 2] b: 'x' \"y\" } }\ntrain { rate: .5 }\n" * 3
    draw = random.Random(0)
    signs = [*"{}[]<>:,;'\"\\#\n 0a", "\x00", "é"]
    for _ in range(3000):
        text = list(sound)
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(text))
            text[place : place + draw.randint(0, 3)] = draw.choice(signs) * draw.randint(0, 2)
        try:
            parse("".join(text), "x")
        except DataError as error:
            assert str(error).startswith("x:")


def test_a_long_text_takes_no_time():
    assert len(parse("a: 1\n" * 100_000, "x")) == 100_000
