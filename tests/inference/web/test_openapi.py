"""The OpenAPI document against routes and answers; the examples of docs/http-api.md."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from bench.endurance import serve_hostile as hostile
from zeroseg_jax.inference.web import server as web
from zeroseg_jax.inference.web.sessions import _FIELDS

ROOT = Path(__file__).parents[3]
KINDS = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict,
    "array": list, "null": type(None),
}  # fmt: skip


@pytest.fixture(scope="module")
def document(port):
    status, answer = hostile.send(port, ("GET", "/openapi.json", b"", {}))
    assert status == 200
    return json.loads(answer)


def check(value, schema, document):
    """Check a value against the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        parts = schema["$ref"].removeprefix("#/").split("/")
        found = document
        for part in parts:
            found = found[part]
        return check(value, found, document)
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        assert any(isinstance(value, KINDS[name]) for name in names), (value, schema)
    assert "enum" not in schema or value in schema["enum"]
    if isinstance(value, int | float):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        for name, part in schema.get("properties", {}).items():
            if name in value:
                check(value[name], part, document)
    if isinstance(value, list):
        for one in value:
            check(one, schema.get("items", {}), document)


def test_the_document_lists_the_routes(document, models):
    app = web.build_server(models).config.app
    served = {
        (route.path, method.lower())
        for route in app.routes
        for method in route.methods - {"HEAD"}
        if "." not in route.path and route.path != "/"
    }
    listed = {(path, method) for path, one in document["paths"].items() for method in one}
    assert served == listed
    fields = document["components"]["schemas"]["Question"]["properties"]
    assert set(fields) == set(_FIELDS)


def test_answers_are_as_the_document_says(document, port):
    picture = (ROOT / "docs/images/scene.png").read_bytes()
    sent = hostile.send(port, ("POST", "/pictures", picture, {}))
    question = {
        "picture": json.loads(sent[1])["picture"], "words": "moon, cross, grass", "word": "moon",
        "background": "none", "threshold": 0.1, "refine": False, "name": "a.png",
        "polygons": "coco", "width": 100, "height": 100,
        "edits": [{"x": 0.5, "y": 0.5, "word": "arrow"}],
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    check(question, schemas["Question"], document)
    assert set(question) == set(schemas["Question"]["properties"])
    for path, methods in document["paths"].items():
        ((method, operation),) = methods.items()
        body = picture if path == "/pictures" else json.dumps(question).encode()
        sent = hostile.send(port, (method.upper(), path, body, {}))
        assert sent[0] == 200, (path, sent)
        ((kind, content),) = operation["responses"]["200"]["content"].items()
        if kind == "image/png":
            assert Image.open(io.BytesIO(sent[1])).size == (100, 100)
        else:
            answer = json.loads(sent[1])
            check(answer, content["schema"], document)
            if path == "/segment":
                maps = Image.open(io.BytesIO(base64.b64decode(answer["maps"])))
                assert maps.size == (answer["width"], answer["height"])
        refused = hostile.send(port, (method.upper(), f"{path}?model=9", b"", {}))
        assert str(refused[0]) in operation["responses"], path
        check(json.loads(refused[1]), schemas["Error"], document)


@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_examples_run(port, language, tmp_path):
    if language == "sh" and shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    text = (ROOT / "docs/http-api.md").read_text()
    code = re.findall(rf"```{language}\n(.*?)```", text, re.S)[-1]
    assert code.count("http://127.0.0.1:8000") == 1
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    program = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else ["python3", "-c"]
    run = subprocess.run(
        [*program, code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "moon" in run.stdout
    assert Image.open(tmp_path / "mask.png").size == Image.open(ROOT / "docs/images/scene.png").size
