"""The report as one HTML file, and as Markdown."""

import base64
import re
from html.parser import HTMLParser

from detect.studies.blocks import Figure, Listing, Table, markdown
from detect.studies.html import page

BLOCKS = [
    Table(("arm", "AP"), (("C <crops>", "0.460 ± 0.050"), ("a|b", "n/a")), "**On val**", "a & note"),
    Listing("**Commands**", ("detect train 'a=[1,2]'",)),
    Listing("**Where**", ("host: X",), code=False),
]


class Checked(HTMLParser):
    """Collects cells, and raises for a tag that is closed out of order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.attributes = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_page_is_whole_and_needs_nothing_else():
    text = page("a <study>", [*BLOCKS, Figure("its curves", b"a picture"), Figure("faces", b"\xff\xd8jpeg")])
    found = Checked(text)
    assert found.cells == ["arm", "AP", "C <crops>", "0.460 ± 0.050", "a|b", "n/a"]
    assert ("img", "src", "data:image/png;base64," + base64.b64encode(b"a picture").decode()) in found.attributes
    assert ("img", "src", "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8jpeg").decode()) in found.attributes
    assert ("td", "data-head", "arm") in found.attributes
    assert "<h1>a &lt;study&gt;</h1>" in text and "a &amp; note" in text and "<li>host: X</li>" in text
    assert "<script" not in text and not re.search(r"https?:|url\(|src=\"(?!data:)|href=", text)
    assert "width=device-width" in text and "prefers-color-scheme: dark" in text


def test_figures_stand_right_and_words_left():
    text = page("s", BLOCKS)
    assert '<th>arm</th><th class="figure">AP</th>' in text and '<td class="figure" data-head="AP">n/a</td>' in text


def test_wide_tables_are_lists_and_narrow_ones_stay_tables():
    def table(columns, cell="1"):
        return page("s", [Table(tuple(f"c{k}" for k in range(columns)), ((cell,) * columns,))])

    assert '<table class="few">' in table(3) and "<table>" in table(4) and '<table class="many">' in table(15)
    assert 'class="wordy"' in table(4, "x" * 25) and 'class="wordy"' not in table(4, "x y" * 12)
    assert 'class="figure empty"' in table(4, "")


def test_an_empty_table():
    text = page("s", [Table(("a", "b"), ())])
    Checked(text)
    assert ">a</th>" in text and ">b</th>" in text and "<td" not in text


def test_markdown():
    assert markdown(BLOCKS) == (
        "**On val**\n\n| arm | AP |\n|---|---|\n| C \\<crops> | 0.460 ± 0.050 |\n| a\\|b | n/a |\n\na & note\n\n"
        "**Commands**\n\n    detect train 'a=[1,2]'\n\n**Where**\n\n- host: X\n"
    )


def test_markdown_has_no_emphasis_that_a_pattern_would_make():
    assert "| M\\*/B\\* |" in markdown([Table(("skip",), (("M*/B*",),))])
