"""Milliseconds from a question to its drawn answer on the page, in a real browser.

python -m bench.speed.page

`zeroseg serve` with the shipped student answers for a picture that the server holds and programs
that are compiled. "known words" were asked before, "new words" are embedded for the answer. The
time is from the press of Segment to the frame that shows the answer; while one types, the page
waits for a pause of 350 ms before that.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bench import record
from zeroseg_jax import Predictor
from zeroseg_jax.commands import flags
from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.inference.web import server
from zeroseg_jax.inference.web.models import Models

_KNOWN = ("moon, cross, grass, sky", "heart, star, sand, water")
_ASK = """async (words) => {
  const { current, subscribe } = await import("/state.js");
  document.getElementById("words").value = words;
  const begin = performance.now();
  document.getElementById("ask").click();
  while (current().question?.words !== words) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - begin;
}"""


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("repeats", 20, "number of timed questions of each kind", 3)
    absl_flags.DEFINE_multi_integer("sides", [384, 1024], "widths of the pictures in pixels")
    record.define_output("page_speed")


def measure(page: Page, folder: Path, side: int) -> dict[str, list[float]]:
    """Ask about a picture of side x 3/4 side pixels; return milliseconds of each kind."""
    path = folder / f"{side}.png"
    scene = Image.fromarray(render(build_scene(2, 4), side)[0])
    scene.crop((0, side // 8, side, side // 8 + side * 3 // 4)).save(path)
    page.set_input_files("#file", path)
    page.wait_for_selector("#results:not([hidden])")
    for words in (*_KNOWN, "this, is, compiled, now"):
        page.evaluate(_ASK, words)
    found: dict[str, list[float]] = {"known words": [], "new words": []}
    for i in range(FLAGS.repeats):
        new = ", ".join(f"thing {side} {i} {j}" for j in range(4))
        found["known words"].append(round(page.evaluate(_ASK, _KNOWN[i % 2]), 1))
        found["new words"].append(round(page.evaluate(_ASK, new), 1))
    return found


def main(arguments: list[str]) -> None:
    """Serve, ask, print medians and write all times."""
    del arguments
    predictor = Predictor.from_pretrained("playground", cache_names=False)
    running = server.build_server(Models(["playground"], lambda name: predictor))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with (
        server.open_socket("127.0.0.1", 0) as listener,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
    ):
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        while not running.started:
            time.sleep(0.05)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        page.wait_for_selector("#choose:enabled")
        found = {str(side): measure(page, Path(folder), side) for side in FLAGS.sides}
        browser.close()
        running.should_exit = True
        thread.join()
    medians = {
        side: {kind: statistics.median(times) for kind, times in kinds.items()}
        for side, kinds in found.items()
    }
    for side, kinds in medians.items():
        print(f"{side} px: " + ", ".join(f"{kind} {ms:.0f} ms" for kind, ms in kinds.items()))
    record.write({"milliseconds": found, "medians": medians})


if __name__ == "__main__":
    flags.run(main, define_flags)
