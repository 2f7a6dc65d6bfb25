"""Vote page: one HTML file on which people choose the better of two segmentations of an image.

Source: ZeroSeg, Table 2 (a human study with 1,000 class names). The left/right order is random per
image, to avoid position bias. The page needs no server; choices stay in the browser until they are
saved as votes.csv.
"""

from __future__ import annotations

import hashlib
import json
from html import escape
from pathlib import Path

import numpy as np

from zeroseg_jax.evaluation.render import render_document

_SCRIPT = Path(__file__).with_name("vote.js")
_STYLE = """
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start; }
button { font: inherit; padding: .5rem 1rem; margin: .2rem; }
button.chosen { background: var(--chosen); }
section { border-top: 2px solid var(--rule); padding: 1rem 0; }
"""
_CHOICES = (("left", "left is better"), ("same", "cannot say"), ("right", "right is better"))
_INTRODUCTION = """<h1>Which side has the better names and outlines?</h1>
<p>Answers stay in this browser until they are saved.
<label>Your name or number <input id="voter"></label>
<button id="save">Save votes.csv</button> <span id="count"></span></p>
"""


def draw_sides(images: int, seed: int) -> list[bool]:
    """Draw for each image if the first run is on the left.

    Args:
      images: number of images.
      seed: random seed.
    """
    return (np.random.default_rng(seed).random(images) < 0.5).tolist()


def render_vote_page(pairs: list[tuple[str, str, str]], runs: tuple[str, str], seed: int) -> str:
    """Render vote.html.

    Args:
      pairs: name of each image and the data URLs of the two runs' drawings of it.
      runs: names of the runs; votes.csv records them, the page does not show them.
      seed: random seed of the sides.
    """
    record, sections = [], []
    sides = draw_sides(len(pairs), seed)
    for i, ((name, *urls), first_left) in enumerate(zip(pairs, sides, strict=True)):
        left, right = (0, 1) if first_left else (1, 0)
        record.append({"name": name, "left": runs[left], "right": runs[right]})
        drawings = (
            f'<img alt="{side}" src="{urls[run]}">'
            for side, run in (("left", left), ("right", right))
        )
        buttons = (
            f'<button data-image="{i}" data-choice="{choice}">{label}</button>'
            for choice, label in _CHOICES
        )
        sections.append(
            f"<section><h2>{escape(f'{i + 1}. {name}')}</h2>"
            f"<div class=pair>{''.join(drawings)}</div>{''.join(buttons)}</section>"
        )
    key = json.dumps([record, seed], ensure_ascii=False)
    vote = {"id": hashlib.sha256(key.encode()).hexdigest()[:16], "images": record}
    # Without the escape, "</script>" in a name would end the script.
    data = json.dumps(vote).replace("<", "\\u003c")
    script = f"<script>const VOTE = {data};\n{_SCRIPT.read_text(encoding='utf-8')}</script>"
    return render_document("Votes", _INTRODUCTION + "\n".join(sections) + script, _STYLE)
