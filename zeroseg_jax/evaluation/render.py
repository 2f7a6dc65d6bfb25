"""Rendering of reports: sections of text, tables and figures as Markdown and as one HTML file.

The HTML file is self-contained: figures are embedded, no server, no network, no script. It is light
or dark as the browser asks, and fits a phone.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from PIL import Image

_STYLE = """
:root { color-scheme: light dark; --ink: #1e1e1e; --paper: #fff; --quiet: #555; --rule: #767676;
  --line: #ddd; --link: #0b57d0; --chosen: #bde0fe; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #161616; --quiet: #adadad;
  --rule: #8c8c8c; --line: #3a3a3a; --link: #8ab4f8; --chosen: #0b4a75; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
a { color: var(--link); }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .15rem .7rem; }
th { text-align: left; border-bottom: 2px solid var(--rule); }
td { border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; display: block; background: #fff; } figure { margin: 1rem 0; }
figcaption { color: var(--quiet); }
@media (max-width: 40rem) {
  body { margin: 1rem auto; }
  td, th { padding: .15rem .35rem; }
  td:not(.number, :first-child) { overflow-wrap: anywhere; }
  table { display: block; overflow-x: auto; }
  .wide tbody, .wide tr, .wide td { display: block; }
  .wide thead { display: none; }
  .wide tr { border-bottom: 2px solid var(--rule); padding: .4rem 0; }
  .wide td { display: flex; justify-content: space-between; gap: 1rem; border: 0; }
  .wide td::before { content: attr(data-column); color: var(--quiet); flex: none; }
  .wide td:empty { display: none; }
}
"""
_WIDE = 5  # columns from which a phone shows each row as a list


@dataclasses.dataclass(frozen=True)
class Link:
    """Table cell that links to a file.

    Attributes:
      text: text of the link.
      target: relative address.
    """

    text: str
    target: str


Cell = str | int | float | Link | None


@dataclasses.dataclass(frozen=True)
class Section:
    """Part of a report; its parts are rendered in this order.

    Attributes:
      title: heading; "" for none.
      paragraphs: plain text, one string a paragraph.
      head: column titles of the table; empty for no table.
      rows: table rows, one cell a column; None is shown as "absent", floats with two decimals.
      figures: captions and images; only HTML shows them.
    """

    title: str = ""
    paragraphs: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    figures: Sequence[tuple[str, Image.Image]] = ()


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """Render sections as a Markdown document; figures are left out."""
    blocks = [f"# {title}"]
    for section in sections:
        if not (section.paragraphs or section.head):
            continue
        if section.title:
            blocks.append(f"## {section.title}")
        blocks += section.paragraphs
        if section.head:
            blocks.append(render_markdown_table(section.head, section.rows))
    return "\n\n".join(blocks) + "\n"


def render_markdown_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Render a Markdown table; columns of numbers are aligned to the right."""
    rules = ["---:" if _is_numeric(rows, i) else "---" for i in range(len(head))]
    cells = [[_render_markdown_cell(value) for value in row] for row in (head, *rows)]
    head_line, *lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([head_line, f"|{'|'.join(rules)}|", *lines])


def render_html(title: str, sections: Sequence[Section]) -> str:
    """Render sections as a self-contained HTML document; all text is escaped."""
    parts = [f"<h1>{escape(title)}</h1>"]
    for section in sections:
        if section.title and (section.paragraphs or section.head or section.figures):
            parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
        if section.head:
            parts.append(_render_html_table(section.head, section.rows))
        for caption, image in section.figures:
            text = escape(caption)
            parts.append(
                f'<figure><img alt="{text}" src="{encode_data_url(image)}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
    return render_document(title, "\n".join(parts))


def render_document(title: str, body: str, style: str = "") -> str:
    """Render a whole HTML document.

    Args:
      title: plain text, escaped here.
      body: HTML.
      style: CSS rules in addition to the common ones.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def render_cell(value: Cell) -> str:
    """Render a table cell: None as "absent", a float with two decimals, a link as its text."""
    if value is None:
        return "absent"
    if isinstance(value, Link):
        return value.text
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def encode_data_url(image: Image.Image) -> str:
    """Encode an image as a data URL (JPEG)."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _render_markdown_cell(value: Cell) -> str:
    text = render_cell(value).replace("|", "\\|")
    return f"[{text}](<{value.target}>)" if isinstance(value, Link) else text


def _render_html_cell(value: Cell) -> str:
    text = escape(render_cell(value))
    return (
        f'<a href="{escape(quote(value.target))}">{text}</a>' if isinstance(value, Link) else text
    )


def _render_html_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    kinds = [" class=number" if _is_numeric(rows, i) else "" for i in range(len(head))]
    titles = (f"<th{kind}>{escape(name)}</th>" for name, kind in zip(head, kinds, strict=True))
    lines = []
    for row in rows:
        cells = (
            f'<td{kind} data-column="{escape(name)}">{_render_html_cell(value)}</td>'
            for name, value, kind in zip(head, row, kinds, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    kind = " class=wide" if len(head) >= _WIDE else ""
    return (
        f"<table{kind}><thead><tr>{''.join(titles)}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _is_numeric(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    values = [row[column] for row in rows]
    return bool(values) and not any(isinstance(value, str | Link) for value in values)
