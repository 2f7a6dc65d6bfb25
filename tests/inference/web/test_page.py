"""The page in a real browser: pictures, words, keys, hostile input, a phone's width."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.playground import scenes

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
expect.set_options(timeout=120_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
          "--disable-component-update"]  # fmt: skip
_SLOW_MS = 120_000


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)


@pytest.fixture
def page(browser, port):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(_SLOW_MS)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: (page.faults.append(dialog.message), dialog.dismiss()))
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("button.example img")
    page.uncheck("#refine")
    yield page
    assert page.faults == []
    context.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "scene.png"
    Image.fromarray(scenes.render(scenes.build_scene(2, 5), 150)[0]).save(path)
    return path


def choose(page, path, words):
    page.fill("#words", words)
    page.set_input_files("#file", path)
    page.wait_for_selector("#shares:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")


def shares(page):
    return {
        row.locator("td").nth(0).inner_text(): float(row.locator("td").nth(1).inner_text()[:-1])
        for row in page.locator("#shares tbody tr").all()
    }


def test_a_picture_and_words_give_areas_names_and_files(page, photo):
    choose(page, photo, "star; heart; grass")
    got = shares(page)
    assert set(got) == {"star", "heart", "grass"} and abs(sum(got.values()) - 100) < 0.5
    page.hover("#canvas")
    assert any(word in page.inner_text("#tip") for word in got)
    assert "score" in page.inner_text("#tip") and "segment" in page.inner_text("#tip")
    # The threshold is moved in the page, and the files follow it.
    page.fill("#threshold", "70")
    assert shares(page)["background"] > 0
    with page.expect_download() as download:
        page.click("#get-record")
    record = json.loads(Path(download.value.path()).read_text())
    areas = {c["word"]: 100 * c["area"] for c in record["classes"]}
    assert areas == pytest.approx(shares(page), abs=0.6)
    with page.expect_download() as download:
        page.click("#get-mask")
    mask = np.asarray(Image.open(download.value.path()))
    assert mask.shape == (150, 150)
    assert 100 * (mask == 0).mean() == pytest.approx(areas["background"], abs=0.1)
    with page.expect_download() as download:
        page.click("#get-coco")
    assert download.value.suggested_filename == "polygons_coco.json"
    found = json.loads(Path(download.value.path()).read_text())["annotations"]
    assert {a["category_id"]: a["area"] for a in found} == {
        i: (mask == i).sum() for i in np.unique(mask) if i
    }


def test_views_and_opacity_change_the_picture(page, photo):
    choose(page, photo, "star; heart; grass")
    seen = set()
    for change in (
        lambda: None,
        lambda: page.check("input[value=segments]"),
        lambda: page.check("input[value=scores]"),
        lambda: page.uncheck("#names"),
        lambda: page.fill("#opacity", "0"),
    ):
        change()
        seen.add(page.evaluate("document.getElementById('canvas').toDataURL()"))
    assert len(seen) == 5


def test_new_words_are_enough(page, photo):
    choose(page, photo, "star; heart")
    page.fill("#words", "moon; water; sand")
    expect(page.locator("#shares")).to_contain_text("sand")
    page.fill("#behind", "night")
    expect(page.locator("#shares")).to_contain_text("background")


def test_words_are_words_and_never_markup(page, photo):
    markup = "<img src=x onerror=alert(1)>"
    choose(page, photo, f"{markup}; <script>alert(2)</script>; grass")
    assert markup in shares(page)
    assert page.locator("#shares img, #shares script, #tip img").count() == 0
    page.click(f"#shares button:has-text('{markup}')")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "empty"), (b"no picture", "not an image"), (bytes(2_000_001), "limit of 2000000")],
)
def test_bad_files_are_one_sentence(page, tmp_path, content, sentence):
    (tmp_path / "bad.png").write_bytes(content)
    page.set_input_files("#file", tmp_path / "bad.png")
    page.wait_for_selector("#error:not([hidden])")
    assert sentence in page.inner_text("#error")
    page.click("button.example >> nth=0")
    page.wait_for_selector("#shares:not([hidden])")
    assert page.is_hidden("#error")


def test_bad_words_are_one_sentence_and_mended_by_typing(page, photo):
    choose(page, photo, "star; heart")
    for words, sentence in (
        ("", "no class name"),
        (" ;, ", "no class name"),
        ("x" * 61, "longer than 60"),
    ):
        page.fill("#words", words)
        expect(page.locator("#error")).to_contain_text(sentence)
    page.fill("#words", "; ".join(f"w{i}" for i in range(10_000)))
    expect(page.locator("#error")).to_contain_text("more")
    page.fill("#words", "star; sky")
    page.wait_for_selector("#error", state="hidden")


def test_everything_works_by_keyboard(page, photo):
    choose(page, photo, "star; heart")
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")
    first = page.inner_text("#tip")
    assert "score" in first
    for _ in range(5):
        page.keyboard.press("Shift+ArrowUp")
    assert page.is_visible("#tip")
    # Tab reaches every control.
    page.focus("#canvas")
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"file", "words", "behind", "opacity", "threshold", "view", "names", "refine",
            "get-mask", "get-record"} <= reached  # fmt: skip


def test_a_forgotten_picture_is_sent_again(page, photo, limits, port):
    choose(page, photo, "star; heart")
    page.evaluate("""async (count) => {
        for (let i = 0; i < count; i++) {
            const blob = await (await fetch(`/examples/${i % 3}.png`)).blob();
            await fetch('/pictures', { method: 'POST', body: blob });
        }
    }""", limits.pictures)  # fmt: skip
    page.fill("#words", "moon; water")
    expect(page.locator("#shares")).to_contain_text("water")
    assert page.is_hidden("#error")


def test_nothing_is_cut_off_at_a_phones_width(page, photo):
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, photo, "star; heart; grass; " + "w" * 60)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#canvas").bounding_box()["width"] > 300


def test_the_model_line_says_what_the_model_knows(page):
    line = page.inner_text("#model")
    assert "MB" in line and "preset zeroseg" in line
    assert "only the drawn shapes of the Playground" in page.inner_text("#note")


def test_a_cut_out_holds_the_pixels_of_one_word_alone(page, photo):
    choose(page, photo, "star, heart, grass")
    page.click("#shares tbody button >> nth=0")
    word = page.inner_text("#shares tbody button >> nth=0")
    with page.expect_download() as download:
        page.click("#get-cutout")
    assert download.value.suggested_filename == f"cutout_{word}.png"
    cut = np.asarray(Image.open(download.value.path()))
    opaque = cut[..., 3] == 255
    assert cut.shape == (150, 150, 4)
    assert 100 * (cut[..., 3] > 127).mean() == pytest.approx(shares(page)[word], abs=0.5)
    np.testing.assert_array_equal(cut[..., :3][opaque], np.asarray(Image.open(photo))[opaque])


def test_no_word_in_the_picture_is_said(page, photo):
    choose(page, photo, "star, heart")
    assert page.is_hidden("#none")
    page.fill("#threshold", "100")
    assert page.inner_text("#none") == "None of your words is in this picture."


def test_another_model_is_chosen_on_the_page(page, photo):
    choose(page, photo, "star, heart, grass")
    before = shares(page)
    page.select_option("#models", "1")
    expect(page.locator("#model")).to_contain_text("naclip of clip")
    page.wait_for_selector("#busy", state="hidden")
    assert page.input_value("#words") == "star, heart, grass"
    after = shares(page)
    assert set(after) == set(before) and after != before
    assert page.locator("button.example").count() == 3
    with page.expect_download() as download:
        page.click("#get-record")
    assert json.loads(Path(download.value.path()).read_text())["model"]["name"] == "naclip of clip"
