"""People choose between two runs: one HTML file, no server, choices kept and saved as CSV.

ZeroSeg's Table 2 asks which of two segmentations with 1,000 words fits a picture better. Which
run is on the left is drawn for every picture, so that a habit of the hand favours nobody.
"""

from __future__ import annotations

import hashlib
import json
from html import escape

import numpy as np

from zeroseg_jax.evaluation import render as page

_STYLE = """
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start; }
button { font: inherit; padding: .5rem 1rem; margin: .2rem; } button.chosen { background: #bde0fe; }
section { border-top: 2px solid #999; padding: 1rem 0; }
"""
_SCRIPT = """
const KEY = "votes-" + BALLOT.id;
let votes = {};
try { votes = JSON.parse(localStorage.getItem(KEY) || "{}"); } catch (error) { votes = {}; }
function show() {
  for (const button of document.querySelectorAll("button[data-image]")) {
    button.classList.toggle("chosen", votes[button.dataset.image] === button.dataset.choice);
  }
  document.getElementById("count").textContent =
    Object.keys(votes).length + " of " + BALLOT.images.length + " answered";
}
for (const button of document.querySelectorAll("button[data-image]")) {
  button.addEventListener("click", () => {
    votes[button.dataset.image] = button.dataset.choice;
    try { localStorage.setItem(KEY, JSON.stringify(votes)); } catch (error) { /* kept in memory */ }
    show();
  });
}
function cell(text) {
  // A leading = + - or @ would be a formula in a spreadsheet.
  const safe = /^[=+\\-@]/.test(text) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}
document.getElementById("save").addEventListener("click", () => {
  const voter = document.getElementById("voter").value;
  const lines = ["image,left,right,choice,winner,voter"];
  BALLOT.images.forEach((image, i) => {
    const choice = votes[String(i)] || "";
    const winner = choice === "left" ? image.left : choice === "right" ? image.right : choice;
    lines.push([image.name, image.left, image.right, choice, winner, voter].map(cell).join(","));
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\\r\\n") + "\\r\\n"], {type: "text/csv"}));
  link.download = "votes.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
show();
"""


def draw_sides(images: int, seed: int) -> list[bool]:
    """Return for each image whether the first run stands on the left."""
    return (np.random.default_rng(seed).random(images) < 0.5).tolist()


def write_ballot(pictures: list[tuple[str, str, str]], runs: tuple[str, str], seed: int) -> str:
    """Write the page.

    Args:
      pictures: name, and the data URL of each run's picture, from page.embed_picture.
      runs: names that the CSV records; the page does not show them.
      seed: of the sides.
    """
    first_left = draw_sides(len(pictures), seed)
    record, sections = [], []
    for i, ((name, *pair), straight) in enumerate(zip(pictures, first_left, strict=True)):
        left, right = (0, 1) if straight else (1, 0)
        record.append({"name": name, "left": runs[left], "right": runs[right]})
        shown = "".join(
            f'<img alt="{side}" src="{pair[which]}">'
            for side, which in (("left", left), ("right", right))
        )
        buttons = "".join(
            f'<button data-image="{i}" data-choice="{choice}">{label}</button>'
            for choice, label in (
                ("left", "left is better"),
                ("same", "cannot say"),
                ("right", "right is better"),
            )
        )
        title = escape(f"{i + 1}. {name}")
        sections.append(
            f"<section><h2>{title}</h2><div class=pair>{shown}</div>{buttons}</section>"
        )
    key = json.dumps([record, seed], ensure_ascii=False)
    ballot = {"id": hashlib.sha256(key.encode()).hexdigest()[:16], "images": record}
    # "<" would let a name end the script.
    data = json.dumps(ballot).replace("<", "\\u003c")
    body = (
        "<h1>Which side names and outlines the picture better?</h1>"
        "<p>Answers stay in this browser until they are saved. "
        '<label>Your name or number <input id="voter"></label> '
        '<button id="save">Save votes.csv</button> <span id="count"></span></p>'
        + "\n".join(sections)
        + f"<script>const BALLOT = {data};\n{_SCRIPT}</script>"
    )
    return page.wrap("Votes", body, _STYLE)
