"""Sections as Markdown and HTML: the same content, escaped, readable by another parser."""

import re
from html.parser import HTMLParser

from PIL import Image

from zeroseg_jax.evaluation.render import (
    Link,
    Section,
    encode_data_url,
    render_html,
    render_markdown,
)

SECTIONS = [
    Section(
        paragraphs=["score <b>1</b>"], head=("name", "value"), rows=[("a|b", 1.5), ("c", None)]
    ),
    Section("Images", figures=[("a & b", Image.new("RGB", (4, 4), "red"))]),
    Section("Counts", head=("size", "n"), rows=[("small", 3)]),
]


class Tables(HTMLParser):
    """Collects the cells and the class of each."""

    def __init__(self):
        super().__init__()
        self.rows, self.classes, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.classes.append(dict(attributes).get("class"))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1].append(data)


def test_markdown():
    assert render_markdown("T", SECTIONS) == (
        "# T\n\nscore <b>1</b>\n\n"
        "| name | value |\n|---|---:|\n| a\\|b | 1.50 |\n| c | absent |\n\n"
        "## Counts\n\n| size | n |\n|---|---:|\n| small | 3 |\n"
    )


def test_html_has_the_same_tables_and_is_self_contained():
    page = render_html("<T>", SECTIONS)
    tables = Tables()
    tables.feed(page)
    assert tables.rows == [["name", "value"], ["a|b", "1.50"], ["c", "absent"],
                           ["size", "n"], ["small", "3"]]  # fmt: skip
    assert tables.classes == [None, "number"] * 5
    assert "<title>&lt;T&gt;</title>" in page and "score &lt;b&gt;1" in page
    assert '<img alt="a &amp; b" src="data:image/jpeg;base64,' in page
    assert "<script" not in page and "http" not in page
    assert page.count("<main>") == page.count("</main>") == 1  # a landmark for screen readers


def test_links_are_relative_and_quoted():
    section = Section(head=("run", "n"), rows=[(Link("a<b", 'x y/"#.html'), 1)])
    assert '[a<b](<x y/"#.html>)' in render_markdown("", [section])
    page = render_html("", [section])
    assert '<a href="x%20y/%22%23.html">a&lt;b</a>' in page


def test_every_text_has_contrast_in_light_and_in_dark():
    """WCAG AA: 4.5 between text and background, of the colours in the style."""
    light, dark = re.findall(r":root \{(.+?)\}", render_html("", []), re.DOTALL)
    for style in (light, dark):
        colours = dict(re.findall(r"--(\w+): #(\w+);", style))
        for name in ("ink", "quiet", "link"):
            pair = sorted(luminance(colours[one]) for one in (name, "paper"))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, name


def luminance(colour):
    """Return the relative luminance of RGB or RRGGBB."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    levels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_data_urls_hold_the_image():
    assert encode_data_url(Image.new("RGBA", (2, 2))).startswith("data:image/jpeg;base64,/9j/")
