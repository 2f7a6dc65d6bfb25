"""Open vocabulary: words files, the best words of what a picture shows, and the page for votes."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.evaluation import open_vocabulary as vocabulary
from zeroseg_jax.evaluation import render as page
from zeroseg_jax.evaluation import vote_page as ballot
from zeroseg_jax.inference import presets, ranking
from zeroseg_jax.inference.canvas import Scored


def test_ids_of_imagenet_are_no_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("n01440764; tench\nn02012849; crane\ncrane; hoist\n")
    assert vocabulary.read_vocabulary(str(path)) == [["tench"], ["crane"], ["crane", "hoist"]]
    for content, sentence in (
        ("tench\n\ncrane\n", "line 2: a blank line"),
        ("tench\nn02012849\n", "line 2 has an id and no word"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=sentence):
            vocabulary.read_vocabulary(str(path))


class Halves:
    """Left looks like word 900, then 3; right like word 7, then 900; of a thousand."""

    native_px, patch_px, unit, facts = 16, 8, 1, {}
    rule = ranking.Rule(np.arange(1000), 10.0)

    @staticmethod
    def score(windows):
        table = np.zeros((1, 2, 1000), np.float32)
        table[0, 0, [900, 3]], table[0, 1, [7, 900]] = (0.9, 0.5), (0.8, 0.4)
        right = np.broadcast_to(np.arange(16) >= 6, (1, 16, 16)).astype(int)
        return Scored(table, right)


def test_best_words_of_each_part():
    changes = {"short_side_px": "0", "window_px": "0", "stride_px": "0"}
    preset = presets.get_preset("sclip", "folder", changes)
    image = np.full((40, 40, 3), 200, np.uint8)
    names = [f"word {i}" for i in range(1000)]
    ids, found = vocabulary.name_segments(Halves(), image, names, preset, 2)
    assert [[w["word"] for w in region["words"]] for region in found] == [
        ["word 7", "word 900"],
        ["word 900", "word 3"],
    ]
    assert found[0]["share"] == pytest.approx(0.625, abs=0.03)
    assert (ids[:, :12] == 1).all() and (ids[:, 20:] == 0).all()
    scores = [w["score"] for w in found[0]["words"]]
    e = np.exp(10 * np.array([0.8, 0.4]))
    np.testing.assert_allclose(scores, e / (e.sum() + 998), atol=2e-3)
    picture = vocabulary.draw_words(image, ids, found)
    assert picture.height > 40


def test_sides_are_drawn_and_recorded():
    assert ballot.draw_sides(50, 3) == ballot.draw_sides(50, 3)
    assert 10 < sum(ballot.draw_sides(50, 3)) < 40
    red, blue = (page.embed_picture(Image.new("RGB", (8, 8), c)) for c in ("red", "blue"))
    names = [f"</script><b>{i}.png" for i in range(20)]
    html = ballot.write_ballot([(n, red, blue) for n in names], ("ours", "theirs"), 3)
    record = json.loads(re.search(r"const BALLOT = (.*);\n", html).group(1))
    straight = ballot.draw_sides(20, 3)
    assert [image["left"] for image in record["images"]] == [
        "ours" if s else "theirs" for s in straight
    ]
    assert [image["name"] for image in record["images"]] == names
    assert html.count("</script>") == 1 and "<b>" not in html and "http" not in html
    # What is embedded on the left is what the record says.
    sources = re.findall(r'alt="left" src="([^"]+)"', html)
    assert sources == [red if s else blue for s in straight]


def test_the_page_s_script_runs(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node runs the page's script, and is not installed")
    red = page.embed_picture(Image.new("RGB", (8, 8), "red"))
    html = ballot.write_ballot([('=a"b.png', red, red), ("c.png", red, red)], ("x", "y"), 0)
    script = re.search(r"<script>(.*)</script>", html, re.S).group(1)
    buttons = re.findall(r'data-image="(\d)" data-choice="(\w+)"', html)
    harness = """
const handlers = {}, made = [];
function element(key, data) {
  return {dataset: data || {}, value: "me", classList: {toggle() {}}, click() {},
    addEventListener(kind, run) { handlers[key] = run; }};
}
const BUTTONS = %s.map(([image, choice]) => element(image + choice, {image, choice}));
const known = {save: element("save"), voter: element("voter"), count: element("count")};
globalThis.document = {
  querySelectorAll: () => BUTTONS, getElementById: (id) => known[id],
  createElement: () => element("link"),
};
globalThis.localStorage = {getItem: () => null, setItem() {}};
globalThis.Blob = class { constructor(parts) { made.push(parts.join("")); } };
URL.createObjectURL = () => "blob:"; URL.revokeObjectURL = () => {};
%s
handlers["0left"](); handlers["1left"](); handlers["1same"](); handlers["save"]();
console.log(JSON.stringify([made, known.count.textContent]));
"""
    path = tmp_path / "page.cjs"
    path.write_text(harness % (json.dumps(buttons), script))
    done = subprocess.run([node, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (csv,), count = json.loads(done.stdout)
    left = "x" if ballot.draw_sides(2, 0)[0] else "y"
    lines = csv.splitlines()
    assert lines[0] == "image,left,right,choice,winner,voter"
    assert lines[1].startswith('"\'=a""b.png",') and lines[1].endswith(f'"left","{left}","me"')
    assert lines[2].endswith('"same","same","me"') and count == "2 of 2 answered"
