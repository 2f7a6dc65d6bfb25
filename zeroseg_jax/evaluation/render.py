"""A report as one HTML file that needs nothing else: no server, no network, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import Any

from PIL import Image

from zeroseg_jax.evaluation import report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; color: #1e1e1e;
  padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .15rem .7rem; }
th { text-align: left; border-bottom: 2px solid #999; } td { border-bottom: 1px solid #ddd; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; display: block; } figure { margin: 1rem 0; }
figcaption { color: #555; } .line { background: #f3f3f3; padding: .7rem; }
"""


def write_page(result: dict[str, Any], panels: list[tuple[str, Image.Image]]) -> str:
    """Write report.html.

    Args:
      result: what report.json holds.
      panels: titles and pictures.
    """
    found = result["diagnostics"]
    measures = {
        "mIoU": result["miou"],
        "classes that occur": result["present_classes"],
        "images": result["images"],
        "pixel accuracy": result["pixel_accuracy"],
        "mean accuracy": result["mean_accuracy"],
        "frequency-weighted IoU": result["frequency_weighted_iou"],
        "boundary IoU": result["boundary_miou"],
        "oracle naming mIoU": found["oracle_naming_miou"],
        "oracle segments mIoU": found["oracle_segments_miou"],
        "segment purity": found["segment_purity"],
        "segment completeness": found["segment_completeness"],
        **{f"wrong pixels: {cause}": share for cause, share in found["wrong_pixels"].items()},
        "segments over 1 % an image": found["segments_used_per_image"],
        **{name.replace("_", " "): value for name, value in result["affected"].items()},
    }
    if split := result.get("split"):
        measures |= {name: split[name] for name in ("seen", "unseen", "harmonic")}
    parts = [
        f"<h1>{escape(result['benchmark'])}</h1>",
        f"<p class=line>{escape(report.score_line(result))}</p>",
        *(f"<p>{escape(note)}</p>" for note in result["notes"]),
        write_table(("measure", "value"), measures.items()),
        "<h2>Pictures</h2>" if panels else "",
        *(write_figure(title, picture) for title, picture in panels),
        "<h2>Classes</h2>",
        write_table(
            ("class", "IoU", "accuracy", "boundary IoU"),
            (
                (name, iou, result["per_class_accuracy"][name],
                 result["per_class_boundary_iou"][name])
                for name, iou in result["per_class_iou"].items()
            ),
        ),
        "<h2>Confusions</h2>",
        write_table(
            ("truth", "taken for", "pixels", "% of the true class"),
            (tuple(pair.values()) for pair in result["confusion_pairs"]),
        ),
        "<h2>Size of segments</h2>",
        write_table(("size", "segments"), found["segment_sizes"].items()),
    ]  # fmt: skip
    if result["preset"]:
        rows = {**result["preset"], **result["model"]}.items()
        words = "; ".join(", ".join(names) for names in result["words"])
        parts += [
            "<h2>Protocol</h2>",
            write_table(("field", "value"), ((k, str(v)) for k, v in rows)),
            f"<p>Words: {escape(words)}</p>",
        ]
    return wrap(result["benchmark"], "\n".join(parts))


def wrap(title: str, body: str, style: str = "") -> str:
    """Make a whole document of a body; the title is escaped, the body is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def write_table(head: tuple[str, ...], rows: Iterable[Any]) -> str:
    """Write a table; numbers to the right, None as "absent", everything escaped."""
    lines = ["<table><tr>", *(f"<th>{escape(name)}</th>" for name in head), "</tr>"]
    for row in rows:
        lines.append("<tr>")
        for value in row:
            number = isinstance(value, int | float)
            text = (
                "absent" if value is None else f"{value:.2f}" if isinstance(value, float) else value
            )
            kind = " class=number" if number else ""
            lines.append(f"<td{kind}>{escape(str(text))}</td>")
        lines.append("</tr>")
    return "".join(lines) + "</table>"


def write_figure(title: str, picture: Image.Image) -> str:
    """Write a picture with a caption, its bytes inside the page."""
    caption = escape(title)
    return (
        f'<figure><img alt="{caption}" src="{embed_picture(picture)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def embed_picture(picture: Image.Image) -> str:
    """Return a picture as a data URL (JPEG)."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
