"""The page's routes over a real socket: what is answered, and what is refused, and how."""

import base64
import io
import json
import random
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from bench.endurance import serve_hostile as hostile
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.inference.web import server
from zeroseg_jax.inference.web.models import Models


def post(port, path, content, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    status, answer = hostile.send(port, ("POST", path, body, headers))
    return status, answer


@pytest.fixture(scope="module")
def scene():
    return scenes.render(scenes.build_scene(2, 5), 120)[0]


@pytest.fixture
def picture(port, scene):
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "PNG")
    status, answer = post(port, "/pictures", buffer.getvalue())
    assert status == 200, answer
    assert json.loads(answer)["width"] == 120
    return json.loads(answer)["picture"]


def test_answers_are_the_predictors(port, picture, scene, predictor):
    ask = {"picture": picture, "words": "star; heart", "background": "grass", "refine": False}
    want = predictor.segment(scene, ["star", "heart"], background="grass", refine=False)
    status, answer = post(port, "/segment", ask)
    shown = json.loads(answer)
    assert status == 200 and shown["words"] == ["background", "star", "heart"]
    maps = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["maps"]))))
    np.testing.assert_array_equal(maps[..., 0], want.mask)
    np.testing.assert_allclose(maps[..., 1] / 255, want.scores, atol=0.003)
    status, mask = post(port, "/mask", {**ask, "threshold": 0.6})
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(mask))), want.with_background(0.6).mask
    )
    status, small = post(port, "/mask", {**ask, "width": 60, "height": 60})
    assert Image.open(io.BytesIO(small)).size == (60, 60)
    status, record = post(port, "/record", {**ask, "name": "<b>.png"})
    assert json.loads(record)["classes"] == want.to_record()["classes"]
    assert json.loads(record)["image"] == "<b>.png"


@pytest.mark.parametrize("kind", ["geojson", "coco"])
def test_polygons_are_those_of_the_result(port, picture, scene, predictor, kind):
    if kind == "geojson":
        pytest.importorskip("contourpy")
    want = predictor.segment(scene, "star; heart; grass", refine=False, source="a.png")
    ask = {"picture": picture, "words": "star; heart; grass", "refine": False, "name": "a.png"}
    status, answer = post(port, "/polygons", {**ask, "polygons": kind})
    assert status == 200 and json.loads(answer) == want.to_polygons(kind)
    status, answer = post(port, "/polygons", {**ask, "polygons": "svg"})
    assert status == 422 and "'svg' is not one of geojson, coco" in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("field", "value", "status", "sentence"),
    [
        ("words", "", 422, "no class name"),
        ("words", " ;, ", 422, "no class name"),
        ("words", "a; a", 422, "is given twice"),
        ("words", "; ".join(f"w{i}" for i in range(65)), 422, "65 classes are more than 64"),
        ("words", "x" * 61, 422, "61 letters is longer than 60"),
        ("words", ["a"], 422, "wrong type"),
        ("background", "star", 422, "is given twice"),
        ("threshold", 1.5, 422, "outside"),
        ("threshold", True, 422, "outside"),
        ("refine", 1, 422, "wrong type"),
        ("picture", "nobody", 410, "no longer cached"),
        ("width", 0, 422, "outside"),
        ("width", 10**9, 422, "outside"),
        ("width", 1.5, 422, "wrong type"),
        ("height", 240, 422, "aspect"),
        ("edits", [{"x": 1.0, "y": 0.5, "word": ""}], 422, "below 1"),
        ("edits", [{"x": float("nan"), "y": 0.5, "word": ""}], 422, "below 1"),
        ("edits", [{"x": 0.5, "y": 0.5, "word": "x" * 61}], 422, "longer than 60"),
        ("edits", [{"x": 0.5, "y": 0.5}], 422, "needs x, y and word"),
        ("edits", [{}] * 33, 422, "more than 32"),
        ("directory", "/etc", 422, "unknown or of a wrong type"),
    ],
)
def test_questions_that_are_refused(port, picture, field, value, status, sentence):
    ask = {"picture": picture, "words": "star; heart", "refine": False, field: value}
    for path in ("/segment", "/mask", "/record"):
        got, answer = post(port, path, ask)
        assert got == status and sentence in json.loads(answer)["error"], answer


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 422, "empty"),
        (b"plain text", 422, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "not an image"),
        (hostile._png(2100, 2000), 422, "limit of 4000000 pixels; make it smaller."),
        (hostile._png_header(60_000, 60_000), 422, "more than"),
        (hostile._jpeg()[:600], 422, "damaged"),
        (b"\xff\xd8" + bytes(2_000_000), 413, "limit of 2000000"),
    ],
)
def test_pictures_that_are_refused(port, content, status, sentence):
    got, answer = post(port, "/pictures", content)
    assert got in (status, 0)  # 0: refused by its length, before all was sent
    assert got == 0 or sentence in json.loads(answer)["error"], answer


def test_other_sites_and_names_are_refused(port):
    status, answer = post(port, "/segment", {}, Origin="http://evil.example")
    assert status == 403 and "is another site" in json.loads(answer)["error"]
    assert post(port, "/segment", {}, Origin="null")[0] == 403
    status, answer = hostile.send(port, ("GET", "/", b"", {"Host": "evil.example"}))
    assert status == 400 and "--public_url" in json.loads(answer)["error"]
    assert hostile.send(port, ("GET", "/../../pyproject.toml", b"", {}))[0] == 404


@pytest.mark.parametrize("number", ["3", "9" * 5000, "-1", "x", "0.png/.."])
def test_an_example_that_is_not_there(port, number):
    assert hostile.send(port, ("GET", f"/examples/{number}.png", b"", {}))[0] == 404
    assert hostile.send(port, ("GET", "/examples/2.png", b"", {}))[0] == 200


def test_an_alpha_is_opaque_inside_and_soft_at_the_edge(port, picture, scene, predictor):
    ask = {"picture": picture, "words": "star; heart", "background": "grass", "refine": False}
    want = predictor.segment(scene, ["star", "heart"], background="grass", refine=False)
    word = max(("star", "heart"), key=lambda name: want.areas[name])
    answer = post(port, "/alpha", {**ask, "word": word})[1]
    alpha = np.asarray(Image.open(io.BytesIO(answer)))[..., 1]
    inside = want.mask == want.class_names.index(word)
    assert ((alpha > 127) == inside).mean() > 0.98
    assert 0 < ((alpha > 0) & (alpha < 255)).mean() < 0.2
    status, answer = post(port, "/alpha", {**ask, "word": "moon"})
    assert status == 422 and "none of the words" in json.loads(answer)["error"]


def test_corrections_are_in_every_answer(port, picture, scene, predictor):
    want = predictor.segment(scene, "star; heart; grass", refine=False)
    height, width = want.mask.shape
    ask = {"picture": picture, "words": "star; heart; grass", "refine": False}
    edits = [{"x": 0.01, "y": 0.01, "word": "pond"}]
    before = json.loads(post(port, "/record", ask)[1])["classes"]
    after = json.loads(post(port, "/record", {**ask, "edits": edits})[1])["classes"]
    assert [c["word"] for c in after] == ["star", "heart", "grass", "pond"]
    assert sum(c["area_px"] for c in after) == height * width
    changed = [a["area_px"] - b["area_px"] for a, b in zip(after, before, strict=False)]
    assert after[3]["area_px"] == -sum(changed) > 0 and sum(1 for c in changed if c) == 1
    mask = np.asarray(Image.open(io.BytesIO(post(port, "/mask", {**ask, "edits": edits})[1])))
    assert (mask == 3).sum() == after[3]["area_px"] and mask[1, 1] == 3


def test_slow_senders_are_cut_off(port):
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"POST /pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nab")
        slow.settimeout(20)
        begin = time.monotonic()
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begin > 1.5


def test_old_pictures_make_room(port, picture):
    for i in range(4):
        assert post(port, "/pictures", hostile._png(40 + i, 40))[0] == 200
    assert post(port, "/segment", {"picture": picture, "words": "a"})[0] == 410


def test_few_may_wait_and_the_rest_is_told(port, picture, limits):
    answers = []
    lock = threading.Lock()

    def ask():
        got = post(port, "/segment", {"picture": picture, "words": "star; sky", "refine": True})
        with lock:
            answers.append(got)

    threads = [threading.Thread(target=ask) for _ in range(5 * limits.queue)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {status for status, _ in answers}
    assert statuses == {200, 503}, statuses
    busy = next(json.loads(answer)["error"] for status, answer in answers if status == 503)
    assert "try again soon" in busy
    assert post(port, "/segment", {"picture": picture, "words": "star"})[0] == 200


def test_hostile_requests_leave_it_answering(port, picture):
    rng = random.Random(1)
    kinds = set()
    for _ in range(120):
        kind, request = hostile.draw_hostile(rng, picture)
        status, answer = hostile.send(port, request)
        kinds.add(kind)
        assert status < 500, (kind, status, answer[:200])
        assert b"Traceback" not in answer
    assert len(kinds) > 25
    assert post(port, "/pictures", hostile._png(50, 50))[0] == 200


def test_an_image_belongs_to_the_model_that_was_chosen(port, scene, models):
    about = json.loads(hostile.send(port, ("GET", "/about?model=1", b"", {}))[1])
    assert about["models"] == ["playground", "clip"]  # no local path
    assert about["model"]["name"] == "naclip of clip" and about["model"]["drawn"]
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "PNG")
    tokens = [
        json.loads(post(port, f"/pictures?model={number}", buffer.getvalue())[1])["picture"]
        for number in (0, 1)
    ]
    for number, token in enumerate(tokens):  # the first one's model was not the last to be chosen
        ask = {"picture": token, "words": "star; heart; grass", "refine": False}
        record = json.loads(post(port, "/record", ask)[1])
        want = models.get(number).segment(scene, "star; heart; grass", refine=False)
        assert record["classes"] == want.to_record()["classes"]
        assert record["checkpoint"] == want.checkpoint


@pytest.mark.parametrize("number", ["2", "-1", "x", "9" * 5000, "%C2%B2", ""])
def test_a_model_that_is_not_offered_is_refused(port, number):
    for method, path in (("GET", "/about"), ("POST", "/pictures")):
        got, answer = hostile.send(port, (method, f"{path}?model={number}", b"", {}))
        assert got == 422 and "is not one of 0 to 1" in json.loads(answer)["error"]


def test_the_last_models_are_kept(predictor):
    loaded = []

    def load(name):
        loaded.append(name)
        return predictor

    models = Models(["a", "runs/b", "c"], load, kept=2)
    assert models.names == ["a", "b", "c"] and loaded == ["a"]
    for number in (1, 0, 2, 0, 1):
        models.get(number)
    assert loaded == ["a", "runs/b", "c", "runs/b"]


def test_a_taken_port_is_one_sentence(port):
    with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{port}"):
        server.open_socket("127.0.0.1", port)
