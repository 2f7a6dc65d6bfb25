"""Vote page: the drawn sides, what is recorded, and the script under node."""

import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from zeroseg_jax.evaluation.render import encode_data_url
from zeroseg_jax.evaluation.vote_page import draw_sides, render_vote_page


def test_sides_are_drawn_and_recorded():
    assert draw_sides(50, 3) == draw_sides(50, 3)
    assert 10 < sum(draw_sides(50, 3)) < 40
    red, blue = (encode_data_url(Image.new("RGB", (8, 8), c)) for c in ("red", "blue"))
    names = [f"</script><b>{i}.png" for i in range(20)]
    html = render_vote_page([(n, red, blue) for n in names], ("ours", "theirs"), 3)
    record = json.loads(re.search(r"const VOTE = (.*);\n", html).group(1))
    straight = draw_sides(20, 3)
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
    red = encode_data_url(Image.new("RGB", (8, 8), "red"))
    html = render_vote_page([('=a"b.png', red, red), ("c.png", red, red)], ("x", "y"), 0)
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
    left = "x" if draw_sides(2, 0)[0] else "y"
    lines = csv.splitlines()
    assert lines[0] == "image,left,right,choice,winner,voter"
    assert lines[1].startswith('"\'=a""b.png",') and lines[1].endswith(f'"left","{left}","me"')
    assert lines[2].endswith('"same","same","me"') and count == "2 of 2 answered"
