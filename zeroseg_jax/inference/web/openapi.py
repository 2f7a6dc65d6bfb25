"""OpenAPI document of the web page's HTTP interface, served at /openapi.json."""

from __future__ import annotations

from typing import Any

from zeroseg_jax.inference.outputs import POLYGONS
from zeroseg_jax.inference.web.edits import MAX_EDITS
from zeroseg_jax.inference.web.sessions import Limits

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_OBJECT = {"type": "object"}


def build_document(limits: Limits, public_url: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the server.

    Args:
      limits: limits of requests, which the document states.
      public_url: address under which a proxy shows the server; "" for its own.
    """
    model = {
        "name": "model", "in": "query", "schema": {**_COUNT, "default": 0},
        "description": "number of the model in /about",
    }  # fmt: skip
    question = {"$ref": "#/components/schemas/Question"}
    asked = {"required": True, "content": {"application/json": {"schema": question}}}
    image = {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zeroseg serve",
            "version": "1",
            "description": "Segment a picture with any words: send it to /pictures once, then ask.",
        },
        "servers": [{"url": public_url or "/"}],
        "security": [{}, {"token": []}],
        "paths": {
            "/about": {
                "get": _operation(
                    "The model, the models to choose from, limits, examples.",
                    _json(_OBJECT | {"required": ["model", "models", "words", "limits"]}),
                    {"parameters": [model]}, (422, 504),
                )
            },
            "/pictures": {
                "post": _operation(
                    f"Encode a picture file of at most {limits.upload_bytes} bytes and "
                    f"{limits.pixels} pixels. The last {limits.pictures} stay in memory.",
                    _json({"$ref": "#/components/schemas/Picture"}),
                    {"parameters": [model], "requestBody": image},
                )
            },
            "/segment": {
                "post": _operation(
                    "Class, score and segment of each pixel, for display: long side at most "
                    f"{limits.shown_px} pixels; threshold and edits are not applied.",
                    _json({"$ref": "#/components/schemas/Maps"}), {"requestBody": asked},
                )
            },
            "/mask": {
                "post": _operation(
                    "Class of each pixel: a PNG with a palette. 0 is the first class.",
                    _png(), {"requestBody": asked},
                )
            },
            "/alpha": {
                "post": _operation(
                    "The field word's class as the alpha channel of a white PNG, with soft edges.",
                    _png(), {"requestBody": asked},
                )
            },
            "/polygons": {
                "post": _operation(
                    "Classes as GeoJSON or COCO JSON, by the field polygons.",
                    _json(_OBJECT), {"requestBody": asked},
                )
            },
            "/record": {
                "post": _operation(
                    "Areas and scores, model, licence, settings: the JSON of zeroseg segment.",
                    _json({"$ref": "#/components/schemas/Record"}), {"requestBody": asked},
                )
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _build_schemas(limits),
        },
    }  # fmt: skip


def _build_schemas(limits: Limits) -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    side = {"type": "integer", "minimum": 1}
    fraction = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    return {
        "Question": {
            "type": "object",
            "required": ["picture", "words"],
            "additionalProperties": False,
            "properties": {
                "picture": _TEXT | {"description": "from /pictures"},
                "words": _TEXT | {
                    "description": f"class names as in --words: 'dog, sofa/couch'; at most "
                    f"{limits.words}, each of at most {limits.letters} letters"
                },
                "background": _TEXT | {
                    "default": "",
                    "description": "class names of the background, 'auto', 'none', or empty for "
                    "the model's default",
                },
                "threshold": share | {
                    "default": 0, "description": "pixels with a lower score become background"
                },
                "refine": {
                    "type": "boolean", "default": True, "description": "follow the image's edges"
                },
                "name": _TEXT | {"default": "", "description": "file name, for the answer"},
                "word": _TEXT | {"default": "", "description": "class to cut out (/alpha)"},
                "polygons": {
                    "enum": ["", *POLYGONS], "default": "", "description": "format (/polygons)"
                },
                "width": side | {
                    "description": "width of the answer, if the picture was made smaller before "
                    f"it was sent; width times height is at most {limits.pixels}"
                },
                "height": side,
                "edits": {
                    "type": "array",
                    "maxItems": MAX_EDITS,
                    "description": "corrections: the region at a point gets another class",
                    "items": {
                        "type": "object",
                        "required": ["x", "y", "word"],
                        "additionalProperties": False,
                        "properties": {
                            "x": fraction | {"description": "fraction of the width"},
                            "y": fraction | {"description": "fraction of the height"},
                            "word": _TEXT | {"description": "class name; empty for background"},
                        },
                    },
                },
            },
        },
        "Picture": {
            "type": "object",
            "required": ["picture", "width", "height"],
            "properties": {
                "picture": _TEXT | {"description": "name of the picture in questions"},
                "width": side,
                "height": side,
            },
        },
        "Maps": {
            "type": "object",
            "required": [
                "width", "height", "words", "colours", "spare_colours", "has_background", "maps",
            ],
            "properties": {
                "width": side,
                "height": side,
                "words": {"type": "array", "items": _TEXT},
                "colours": {"type": "array", "items": _TEXT},
                "spare_colours": {
                    "type": "array", "items": _TEXT, "description": "for class names of edits"
                },
                "has_background": {"type": "boolean", "description": "class 0 is background"},
                "maps": _TEXT | {
                    "contentEncoding": "base64",
                    "contentMediaType": "image/png",
                    "description": "class in red, 255 times the score in green, segment modulo "
                    "256 in blue",
                },
            },
        },
        "Record": {
            "type": "object",
            "required": ["image", "width", "height", "model", "note", "found", "classes"],
            "properties": {
                "image": _TEXT, "width": side, "height": side, "checkpoint": _TEXT,
                "model": _OBJECT, "note": _TEXT, "found": {"type": "boolean"},
                "classes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["word", "index", "colour", "area_px", "area", "score"],
                        "properties": {
                            "word": _TEXT, "index": _COUNT, "colour": _TEXT, "area_px": _COUNT,
                            "area": share, "score": {"type": ["number", "null"]},
                        },
                    },
                },
            },
        },
        "Error": {
            "type": "object", "required": ["error"],
            "properties": {"error": _TEXT | {"description": "one sentence"}},
        },
    }  # fmt: skip


_REFUSALS = {
    401: "The token is missing or wrong.",
    408: "The request did not arrive in time.",
    410: "The picture is no longer in memory; send it again.",
    413: "The request is too large.",
    422: "A field is wrong.",
    503: "Too many requests wait; try again soon.",
    504: "The answer takes too long.",
}


def _operation(
    summary: str, answer: dict[str, Any], parts: dict[str, Any],
    refusals: tuple[int, ...] = (408, 410, 413, 422, 503, 504),
) -> dict[str, Any]:  # fmt: skip
    error = _json({"$ref": "#/components/schemas/Error"})
    return {
        "summary": summary,
        **parts,
        "responses": {
            "200": {"description": "The answer.", **answer},
            **{
                str(status): {"description": _REFUSALS[status], **error}
                for status in (401, *refusals)
            },
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _png() -> dict[str, Any]:
    return {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
