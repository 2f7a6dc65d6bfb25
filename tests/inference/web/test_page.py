"""The page in a real browser: pictures, words, files, keys, touch, old answers, accessibility."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.endurance import serve_hostile as hostile
from tests.inference.web.serving import serve
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.inference.web.access import Access

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
expect.set_options(timeout=30_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
          "--disable-component-update"]  # fmt: skip
_SLOW_MS = 30_000
_DESK = {"viewport": {"width": 1200, "height": 800}}
_PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True,
          "device_scale_factor": 2}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)


@pytest.fixture
def open_page(browser, port):
    """Return a function that opens the page in a context of its own; no script may fail in it."""
    opened = []

    def open_one(*, script="", address=f"http://127.0.0.1:{port}/", **options):
        context = browser.new_context(accept_downloads=True, **options)
        page = context.new_page()
        page.set_default_timeout(_SLOW_MS)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append(dialog.message), dialog.dismiss()))
        if script:
            page.add_init_script(script)
        opened.append((context, page))
        page.goto(address)
        return page

    yield open_one
    for context, page in opened:
        assert page.faults == []
        context.close()


@pytest.fixture
def page(open_page):
    page = open_page(**_DESK)
    set_up(page)
    return page


def set_up(page):
    """Wait for the examples and leave out the refinement, so that areas are exact."""
    page.wait_for_selector("button.example img[src]")
    page.locator("#options").evaluate("options => { options.open = true; }")
    page.uncheck("#refine")


def draw_scene(path, size=(150, 150), index=5, **save):
    scene = Image.fromarray(scenes.render(scenes.build_scene(2, index), 150)[0])
    scene.resize(size).save(path, **save)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return draw_scene(tmp_path_factory.mktemp("page") / "my scene.png")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return draw_scene(tmp_path_factory.mktemp("page") / "wide.png", (200, 100), 0)


def choose(page, path, words):
    page.fill("#words", words)
    page.set_input_files("#file", path)
    await_answer(page)


def await_answer(page):
    page.wait_for_selector("#results:not([hidden])")
    page.wait_for_selector("#progress", state="hidden")


def shares(page):
    """Return the areas of the words that were found, in percent."""
    return dict(
        page.evaluate("""[...document.querySelectorAll("#shares tbody tr")].map((row) =>
        [row.cells[0].innerText, parseFloat(row.cells[1].innerText)])""")
    )


def download(page, selector):
    """Click; return the name and the path of the file."""
    with page.expect_download() as given:
        page.click(selector)
    return given.value.suggested_filename, Path(given.value.path())


def state(page, expression):
    """Evaluate an expression of the page's state `s`."""
    return page.evaluate(f"import('/state.js').then((m) => {{ const s = m.current(); "
                         f"return {expression}; }})")  # fmt: skip


def until(page, condition):
    """Wait for a condition of the page's state `s`; the page's policy forbids wait_for_function."""
    page.evaluate(f"""async () => {{
        const m = await import('/state.js'), end = performance.now() + {_SLOW_MS};
        for (let s = m.current(); !({condition}); s = m.current()) {{
            if (performance.now() > end) throw new Error({json.dumps(condition)});
            await new Promise((resolve) => setTimeout(resolve, 10));
        }} }}""")


def pixels(page):
    return page.evaluate("document.getElementById('canvas').toDataURL()")


def click_at(page, x, y):
    """Click on a point of the picture, in fractions of a square picture at the whole view."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    side = min(box["width"], box["height"])
    page.mouse.click(box["x"] + box["width"] / 2 + (x - 0.5) * side,
                     box["y"] + box["height"] / 2 + (y - 0.5) * side)  # fmt: skip


def test_a_picture_and_words_give_areas_and_files_of_its_name(page, photo):
    choose(page, photo, "star; heart; grass")
    got = shares(page)
    assert set(got) <= {"star", "heart", "grass"} and abs(sum(got.values()) - 100) < 1
    page.hover("#canvas")
    assert any(word in page.inner_text("#tip") for word in got)
    assert "score" in page.inner_text("#tip") and "segment" in page.inner_text("#tip")
    # The threshold is moved in the page, and the files follow it.
    page.fill("#threshold", "70")
    assert shares(page)["background"] > 0
    name, path = download(page, "#get-record")
    record = json.loads(path.read_text())
    areas = {c["word"]: 100 * c["area"] for c in record["classes"]}
    shown = shares(page)
    assert name == "my scene.json" and record["image"] == "my scene.png"
    assert {word: areas[word] for word in shown} == pytest.approx(shown, abs=0.6)
    name, path = download(page, "#get-mask")
    mask = np.asarray(Image.open(path))
    assert name == "my scene_mask.png" and mask.shape == (150, 150)
    assert 100 * (mask == 0).mean() == pytest.approx(areas["background"], abs=0.1)
    name, path = download(page, "#get-coco")
    found = json.loads(path.read_text())["annotations"]
    assert name == "my scene_coco.json"
    assert {a["category_id"]: a["area"] for a in found} == {
        i: (mask == i).sum() for i in np.unique(mask) if i
    }
    name, path = download(page, "#get-overlay")
    overlay = np.asarray(Image.open(path))
    assert name == "my scene_overlay.png" and overlay.shape[:2] == (150, 150)
    assert (overlay[..., :3] != np.asarray(Image.open(photo))).mean() > 0.5


def test_polygons_of_the_shown_result(page, photo):
    pytest.importorskip("contourpy")
    choose(page, photo, "star; heart; grass")
    name, path = download(page, "#get-geojson")
    features = json.loads(path.read_text())["features"]
    assert name == "my scene.geojson"
    areas = {f["properties"]["word"]: 100 * f["properties"]["area"] for f in features}
    shown = shares(page)
    assert {word: areas[word] for word in shown} == pytest.approx(shown, abs=0.1)


def test_views_opacity_and_a_picked_word_change_the_picture(page, photo):
    choose(page, photo, "star; heart; grass")
    seen = set()
    for change in (
        lambda: None,
        lambda: page.click("button.word >> nth=0"),
        lambda: page.check("input[value=segments]", force=True),
        lambda: page.check("input[value=scores]", force=True),
        lambda: page.fill("#opacity", "20"),
        lambda: page.fill("#opacity", "0"),
    ):
        change()
        page.evaluate("new Promise(requestAnimationFrame)")
        page.evaluate("new Promise(requestAnimationFrame)")
        seen.add(pixels(page))
        assert page.is_visible("#scale") == page.is_checked("input[value=scores]")
    assert len(seen) == 6


def test_commas_lines_and_semicolons_separate_words(page, photo):
    choose(page, photo, "star, heart")
    for words, wanted in (
        ("moon\nwater\nsand", ["moon", "water", "sand"]),
        ("moon, water,", ["moon", "water"]),
        ("moon; water, sea; sand", ["moon", "water", "sand"]),
        ("moon/crescent, sand", ["moon", "sand"]),
    ):
        page.fill("#words", words)
        page.click("#ask")
        until(page, f"s.question?.words === {json.dumps(words)}")
        assert state(page, "s.result.words") == wanted
    page.fill("#behind", "night")
    expect(page.locator("#results")).to_contain_text("background")


def test_words_are_words_and_never_markup(page, photo):
    markup = "<img src=x onerror=alert(1)>"
    choose(page, photo, f"{markup}; <script>alert(2)</script>; grass")
    page.locator("#missing").evaluate("element => { element.open = true; }")
    assert markup in page.inner_text("#results")
    assert page.locator("#results img, #results script, #tip img").count() == 0


def test_bad_files_are_one_sentence(page, tmp_path):
    for content, sentence in (
        (b"", "empty"),
        (b"no picture", "not an image"),
        (bytes(2_000_001), "limit of 2.0 MB"),
    ):
        (tmp_path / "bad.png").write_bytes(content)
        page.set_input_files("#file", tmp_path / "bad.png")
        expect(page.locator("#error")).to_contain_text(sentence)
        assert page.is_visible("#choose") and page.is_hidden("#results")
    page.click("button.example >> nth=0")
    await_answer(page)
    assert page.is_hidden("#error")


def test_no_error_while_typing_and_no_old_answer_beside_one(page, photo):
    choose(page, photo, "star; heart")
    page.evaluate("""() => { window.errors = []; new MutationObserver(() => {
        const error = document.getElementById("error");
        if (!error.hidden) errors.push(error.textContent);
    }).observe(document.getElementById("error"), { attributes: true, childList: true }); }""")
    page.fill("#words", "")
    page.locator("#words").press_sequentially("star, star", delay=60)
    page.locator("#words").press_sequentially("s", delay=60)
    until(page, "s.result?.words.includes('stars')")
    assert page.evaluate("errors") == []
    page.fill("#words", "star, star")  # and now a pause
    expect(page.locator("#error")).to_contain_text("given twice")
    assert page.is_hidden("#results") and state(page, "s.result") is None
    page.fill("#words", "x" * 61)
    page.click("#ask")
    expect(page.locator("#error")).to_contain_text("longer than 60")
    page.fill("#words", "star; sky")
    await_answer(page)
    assert page.is_hidden("#error")


def test_words_that_are_not_there_are_folded(page, photo):
    choose(page, photo, ", ".join(f"word {i}" for i in range(30)))
    assert len(shares(page)) < 25
    missing = page.inner_text("#missing-count")
    assert missing == f"{30 - len(shares(page))} words were not found"
    page.fill("#threshold", "100")
    assert page.inner_text("#none") == "None of your words is in this picture."
    assert list(shares(page)) == ["background"]


def test_an_old_answer_is_never_drawn_on_a_new_picture(open_page, port, photo, wide):
    """A slow answer for one picture arrives after another was chosen, and nothing aborts it."""
    page = open_page(script="AbortController.prototype.abort = () => {};", **_DESK)
    set_up(page)
    choose(page, photo, "star, heart")
    page.evaluate("""async () => { window.seen = []; (await import('/state.js')).subscribe((s) => {
        if (s.picture) seen.push([s.picture.name, s.picture.width / s.picture.height,
          s.result && s.result.width / s.result.height, s.result && s.question.words]); }); }""")
    answers = []
    page.on("response", lambda response: answers.append(response.url))
    token = state(page, "[...s.picture.entry.held.values()][0].picture")
    words = ", ".join(f"thing {i}" for i in range(48))
    body = json.dumps({"picture": token, "words": words}).encode()
    slow = threading.Thread(target=hostile.send, args=(port, ("POST", "/segment", body, {})))
    slow.start()  # it occupies the model, so that the page's question has to wait
    with page.expect_request("**/segment"):
        page.fill("#words", "moon, sand, grass")
        page.click("#ask")
    page.set_input_files("#file", wide)
    until(page, "s.picture.name === 'wide.png'")
    assert page.is_hidden("#results") and page.is_visible("#progress")  # the new one, at once
    page.fill("#opacity", "70")
    until(page, "s.result")
    slow.join()
    page.wait_for_selector("#progress", state="hidden")
    assert sum(url.endswith("/segment") for url in answers) == 2  # the old one came, too
    for name, shape, result, asked in page.evaluate("seen"):
        assert result is None or result == shape, (name, asked)
        assert asked is None or (asked == "star, heart") == (name != "wide.png")


def test_a_question_can_be_cancelled_and_asked_again(page, port, photo):
    choose(page, photo, "star, heart")
    before = state(page, "s.question.words")
    token = state(page, "[...s.picture.entry.held.values()][0].picture")
    words = ", ".join(f"matter {i}" for i in range(48))
    body = json.dumps({"picture": token, "words": words}).encode()
    slow = threading.Thread(target=hostile.send, args=(port, ("POST", "/segment", body, {})))
    slow.start()
    page.fill("#words", "moon, sand")
    page.click("#ask")
    page.click("#cancel")
    assert page.is_hidden("#progress") and page.is_visible("#cancelled")
    assert state(page, "s.question.words") == before  # what is shown is still one answer
    slow.join()
    page.click("#ask")
    await_answer(page)
    assert state(page, "s.question.words") == "moon, sand" and page.is_hidden("#cancelled")


def test_large_photographs_are_made_smaller_and_upright(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show it
    path = draw_scene(tmp_path / "phone.jpg", (3000, 1500), exif=exif, quality=80)
    choose(page, path, "star, heart, grass")
    assert state(page, "[s.picture.width, s.picture.height]") == [1500, 3000]
    sent = state(page, "[...s.picture.entry.held.values()][0]")
    assert (sent["width"], sent["height"]) == (1024, 2048)
    # 4.5 megapixels are more than the limit of 4: the files are as large as it allows.
    assert "1414 × 2828 pixels, the most" in page.inner_text("#size")
    word = page.inner_text("button.word >> nth=0")
    cut = Image.open(download(page, f"button[aria-label='Cut out {word}']")[1])
    assert cut.size == (1414, 2828)
    upright = Image.open(path).convert("RGB").rotate(-90, expand=True).resize(cut.size)
    opaque = np.asarray(cut)[..., 3] == 255
    apart = np.abs(np.asarray(cut)[..., :3].astype(int) - np.asarray(upright))[opaque]
    assert apart.mean() < 6


def test_a_file_that_only_the_server_can_read(page, tmp_path):
    path = draw_scene(tmp_path / "scan.tiff")
    choose(page, path, "star, heart, grass")
    assert page.is_visible("#undrawn") and page.locator("text=Cut out").count() == 0
    assert Image.open(download(page, "#get-mask")[1]).size == (150, 150)
    assert Image.open(download(page, "#get-overlay")[1]).size == (150, 150)


def test_a_cut_out_holds_the_pixels_of_one_word_alone(page, photo):
    choose(page, photo, "star, heart, grass")
    word = page.inner_text("button.word >> nth=0")
    name, path = download(page, f"button[aria-label='Cut out {word}']")
    assert name == f"my scene_cutout_{word}.png"
    cut = np.asarray(Image.open(path))
    opaque = cut[..., 3] == 255
    assert cut.shape == (150, 150, 4)
    assert 100 * (cut[..., 3] > 127).mean() == pytest.approx(shares(page)[word], abs=0.5)
    np.testing.assert_array_equal(cut[..., :3][opaque], np.asarray(Image.open(photo))[opaque])


def test_regions_are_renamed_and_dropped_in_the_page_and_in_the_files(page, photo):
    choose(page, photo, "star, heart, grass")
    click_at(page, 0.02, 0.02)
    old = page.inner_text("#region-name")
    area = float(page.inner_text("#region-share").split()[0])
    page.fill("#region-word", "ocean")
    page.click("#region >> text=Rename")
    assert page.is_hidden("#region")
    assert shares(page)["ocean"] == pytest.approx(area, abs=0.2)
    click_at(page, 0.02, 0.98)
    page.click("#region-drop")
    shown = shares(page)
    assert shown["background"] > 0
    record = json.loads(download(page, "#get-record")[1].read_text())
    areas = {c["word"]: 100 * c["area"] for c in record["classes"]}
    assert {word: areas[word] for word in shown} == pytest.approx(shown, abs=0.3)
    assert {c["word"]: c["colour"] for c in record["classes"]}["ocean"] == page.evaluate(
        """import('/result.js').then(async (r) => { const s = (await import('/state.js')).current();
        const all = r.label(s.result, s.look.threshold, s.edits);
        return all.colours[all.words.indexOf('ocean')]; })"""
    )
    # Other words keep the corrections that still fit; each is undone alone.
    assert page.inner_text("#corrections-text") == "2 corrections"
    page.click("#undo")
    assert "background" not in shares(page)
    page.click("#undo-all")
    assert "ocean" not in shares(page) and old in shares(page)
    assert page.is_hidden("#corrections")


def test_several_pictures_are_a_strip_and_keep_their_corrections(page, photo, wide):
    page.fill("#words", "star, heart, grass")
    page.set_input_files("#file", [photo, wide])
    await_answer(page)
    assert state(page, "s.picture.name") == "my scene.png"
    # A question while another picture is being read is one about that picture.
    page.evaluate("""document.querySelector("button.thumbnail[title='wide.png']").click();
        document.getElementById("ask").click();""")
    until(page, "s.picture.name === 'wide.png' && s.result")
    page.click("button.thumbnail[title='my scene.png']")
    until(page, "s.picture.name === 'my scene.png' && s.result")
    click_at(page, 0.02, 0.02)
    page.fill("#region-word", "ocean")
    page.keyboard.press("Enter")
    assert "ocean" in shares(page)
    page.click("button.thumbnail[title='wide.png']")
    until(page, "s.picture.name === 'wide.png' && s.result")
    assert "ocean" not in shares(page)
    current = page.locator("button.thumbnail[aria-current=true]")
    assert current.get_attribute("title") == "wide.png"
    uploads = []
    page.on("request", lambda request: uploads.append("/pictures" in request.url))
    page.click("button.thumbnail[title='my scene.png']")
    until(page, "s.picture.name === 'my scene.png' && s.result")
    assert "ocean" in shares(page) and not any(uploads)  # the server still has it
    page.click("#remove")
    until(page, "s.picture.name === 'wide.png' && s.result")
    assert page.is_hidden("#strip")
    page.click("#remove")
    assert page.is_visible("#choose") and page.is_hidden("#results")


def test_zoom_and_pan_by_wheel_drag_and_buttons(page, photo):
    choose(page, photo, "star, heart")
    box = page.locator("#canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    expect(page.locator("#zoom-level")).not_to_have_text("100 %")
    near = page.inner_text("#tip"), pixels(page)
    page.mouse.down()
    page.mouse.move(middle[0] + 90, middle[1] + 40, steps=3)
    page.mouse.up()
    page.evaluate("new Promise(requestAnimationFrame)")
    assert pixels(page) != near[1] and page.is_hidden("#region")  # a drag selects nothing
    page.click("#zoom-whole")
    expect(page.locator("#zoom-level")).to_have_text("100 %")
    assert page.is_disabled("#zoom-out")
    for _ in range(6):
        page.click("#zoom-in")
    expect(page.locator("#zoom-level")).to_have_text("1600 %")
    assert page.is_disabled("#zoom-in")


def test_everything_works_by_keyboard(open_page, photo):
    page = open_page(**_DESK)
    page.wait_for_selector("button.example img[src]")
    # The first is the choice of models. The ring is round the button that the key would press.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.evaluate("""document.getElementById("file").addEventListener("click", (event) => {
        event.preventDefault(); window.asked = true; }, { once: true })""")
    page.keyboard.press("Enter")
    assert page.evaluate("window.asked")
    page.set_input_files("#file", photo)
    await_answer(page)
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")
    assert "score" in page.inner_text("#tip") and page.inner_text("#heard") != ""
    for _ in range(9):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("+")
    expect(page.locator("#zoom-level")).to_have_text("160 %")
    page.keyboard.press("0")
    expect(page.locator("#zoom-level")).to_have_text("100 %")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "region-word"
    page.keyboard.type("ocean")
    page.keyboard.press("Enter")
    assert "ocean" in shares(page)
    assert page.evaluate("document.activeElement.id") == "canvas"
    page.locator("#options").evaluate("options => { options.open = true; }")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"words", "ask", "behind", "threshold", "refine", "opacity", "view", "names", "add",
            "remove", "zoom-in", "undo", "get-mask", "get-record"} <= set(reached)  # fmt: skip


def test_a_forgotten_picture_is_sent_again(page, photo, limits):
    choose(page, photo, "star; heart")
    page.evaluate("""async (count) => {
        for (let i = 0; i < count; i++) {
            const blob = await (await fetch(`/examples/${i % 3}.png`)).blob();
            await fetch('/pictures', { method: 'POST', body: blob });
        }
    }""", limits.pictures)  # fmt: skip
    page.fill("#words", "moon; water")
    until(page, "s.result?.words.includes('water')")
    assert page.is_hidden("#error")


def test_touch_reads_out_selects_and_zooms(open_page, photo):
    page = open_page(**_PHONE)
    page.wait_for_selector("button.example img[src]")
    choose(page, photo, "star; heart; grass; " + "w" * 60)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#canvas").bounding_box()
    assert box["width"] > 300
    assert page.evaluate("document.getElementById('canvas').width") == round(2 * box["width"])
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.touchscreen.tap(x, y)
    assert "score" in page.inner_text("#tip") and page.is_visible("#region")
    small = page.evaluate("""[...document.querySelectorAll("button, summary, select, textarea, " +
        "input:not([type=radio], [type=checkbox]), label.check, .choice span")]
      .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.9)
      .map((e) => e.id || e.textContent)""")
    assert small == []
    fingers = page.context.new_cdp_session(page)
    for kind, apart in (("Start", 30), ("Move", 60), ("Move", 90), ("End", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        fingers.send("Input.dispatchTouchEvent",
                     {"type": f"touch{kind}", "touchPoints": points if apart else []})  # fmt: skip
    expect(page.locator("#zoom-level")).to_have_text("300 %")


def test_the_model_line_says_what_the_model_knows(page):
    line = page.inner_text("#model")
    assert "MB" in line and "preset zeroseg" in line
    assert "only the drawn shapes of the Playground" in page.inner_text("#note")


def test_another_model_is_chosen_on_the_page(page, photo):
    choose(page, photo, "star, heart, grass")
    before = shares(page)
    page.select_option("#models", "1")
    until(page, "s.question?.model === 1")
    await_answer(page)
    assert page.input_value("#words") == "star, heart, grass"
    assert shares(page) != before
    assert page.locator("button.example").count() == 3
    record = json.loads(download(page, "#get-record")[1].read_text())
    assert record["model"]["name"].endswith("of clip")


def test_the_token_is_asked_for_and_the_page_works_below_a_path(open_page, models, limits, photo):
    access = Access(public_url="http://127.0.0.1/user/me/", token="t" * 20)
    with serve(models, limits=limits, access=access) as port:
        address = f"http://127.0.0.1:{port}/user/me/"
        page = open_page(address=address, **_DESK)
        page.wait_for_selector("#access")
        assert page.is_disabled("#choose")
        page.fill("#token", "wrong" * 5)
        page.keyboard.press("Enter")
        page.wait_for_selector("#access")
        page.fill("#token", access.token)
        page.keyboard.press("Enter")
        page.wait_for_selector("button.example img[src]")
        choose(page, photo, "star, heart")
        assert page.is_hidden("#access")
        other = open_page(address=f"{address}#token={access.token}", **_DESK)
        other.wait_for_selector("button.example img[src]")
        assert other.is_hidden("#access")


@pytest.mark.parametrize("options", [_DESK, _PHONE], ids=["desk", "phone"])
def test_no_rule_of_accessibility_is_broken(open_page, photo, options):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(reduced_motion="reduce", **options)
    page.wait_for_selector("button.example img[src]")
    found = [axe.run(page)]
    choose(page, [photo, photo], "star, heart, grass, ship")
    page.locator("#options").evaluate("element => { element.open = true; }")
    click_at(page, 0.02, 0.02)
    page.wait_for_selector("#region")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found.append(axe.run(page))
    assert [one.violations_count for one in found] == [0, 0, 0], found[-1].generate_report()


def test_high_contrast_and_reduced_motion(open_page, photo):
    page = open_page(forced_colors="active", reduced_motion="reduce", **_DESK)
    page.wait_for_selector("button.example img[src]")
    choose(page, photo, "star, heart, grass")
    shown = page.evaluate("getComputedStyle(document.querySelector('.swatch')).backgroundColor")
    assert shown == page.evaluate("document.querySelector('.swatch').style.backgroundColor")
    assert page.evaluate("getComputedStyle(document.querySelector('.spinner')).animationName") == (
        "none"
    )
