"""Blocks of a report as plain text for the console, and as Markdown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.studies.blocks import Listing, Table, console, literal, markdown

words = st.text("abc [*]/", max_size=60)
numbers = st.floats(-1, 1).map("{:.3f}".format)


@st.composite
def tables(draw) -> Table:
    kinds = [draw(st.sampled_from([words, numbers])) for _ in range(draw(st.integers(1, 14)))]
    rows = draw(st.lists(st.tuples(*kinds), max_size=4))
    return Table(tuple("ABCDEFGHIJKLMN"[: len(kinds)]), tuple(rows), caption="A caption", note="A note. " * 20)


@settings(max_examples=80)
@given(tables(), st.integers(60, 120))
def test_no_line_is_wider_and_no_column_is_lost(table, width):
    """A column stands in the table or in the last line."""
    text = console(table, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert text.startswith("A caption\n") and "A note. A note." in text
    shown = set(text.replace("A caption", "").replace("A note.", ""))
    assert set(table.heads) <= shown


def test_columns_that_do_not_fit_stand_below_with_the_labels():
    heads = ("arm", "seed", *(f"figure {k}" for k in range(12)))
    table = Table(heads, (("mine", "0", *(f"0.{k:02d}0" for k in range(12))),))
    assert console(table, 38).splitlines() == [
        "arm   seed  figure 0  figure 1",
        "mine  0     0.000     0.010",
        "",
        "arm   seed  figure 2  figure 3",
        "mine  0     0.020     0.030",
        "",
        "arm   seed  figure 4  figure 5",
        "mine  0     0.040     0.050",
        "",
        "table.md also has: figure 6, figure 7,",
        "figure 8, figure 9, figure 10, figure",
        "11",
    ]


def test_a_listing_is_indented():
    assert console(Listing("Commands", ("detect train",))) == "Commands\n  detect train"


NAMES = [
    ("[free](https://far.example)", r"[free\](https://far.example)"),
    ("![x](http://far.example/x.png)", r"![x\](http://far.example/x.png)"),
    ("_a_ __b__ a_b c_", r"\_a_ \_\_b__ a_b c_"),
    ("&lt;b&gt; &#60; R&D", r"\&lt;b\&gt; \&#60; R&D"),
    ("~~gone~~ a|b *c* `d` <e> \\\\", r"\~\~gone\~\~ a\|b \*c\* \`d\` \<e> \\\\"),
    ("+0.021 [+0.004, +0.038], n = 3", "+0.021 [+0.004, +0.038], n = 3"),
]


@pytest.mark.parametrize(("name", "told"), NAMES)
def test_markdown_shows_a_name_as_it_is(name, told):
    """Everywhere: in heads, cells, remarks, captions and notes."""
    assert literal(name) == told
    table = Table((name,), ((name,),), f"**{name}** on {name}", f"As {name}, `no`.")
    note = f"As {told}, `no`." if "`" not in name else markdown([table]).splitlines()[-1]
    assert markdown([table]).splitlines() == [
        f"**{told}** on {told}", "", f"| {told} |", "|---|", f"| {told} |", "", note,
    ]  # fmt: skip
    assert markdown([Listing("It", (name,), code=False)]).splitlines()[-1] == f"- {told}"
