"""Starlette app of the web page: routes, bodies of requests, errors as one sentence."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zeroseg_jax.inference.web.access import Access, Guard
from zeroseg_jax.inference.web.openapi import build_document
from zeroseg_jax.inference.web.sessions import RequestError, Sessions

_PAGE = Path(__file__).parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def build_app(
    sessions: Sessions,
    *,
    access: Access,
    examples: Sequence[tuple[np.ndarray, str]],
    drawn_words: str,
    photo_words: str,
) -> Starlette:
    """Build the page's application.

    Args:
      sessions: the models behind the page.
      access: who may use the page, and under which address.
      examples: images uint8 (H, W, 3) for models of drawn shapes, each with class names for it.
      drawn_words, photo_words: class names that the page begins with, by kind of model.
    """
    files = {
        f"/{path.name}": Response(path.read_bytes(), media_type=_KINDS[path.suffix])
        for path in sorted(_PAGE.iterdir())
    }
    files["/"] = files.pop("/index.html")
    for number, (image, _) in enumerate(examples):
        files[f"/examples/{number}.png"] = _as_png(_to_png(image))
    document = JSONResponse(build_document(sessions.limits, access.public_url))
    files["/openapi.json"] = document

    async def file(request: Request) -> Response:
        return files[request.scope["path"]]

    async def about(request: Request) -> Response:
        number = sessions.check_model(request.query_params.get("model", "0"))
        facts = await sessions.describe(number)
        return JSONResponse(
            {
                "model": facts,
                "models": sessions.models.names,
                "words": drawn_words if facts["drawn"] else photo_words,
                "limits": dataclasses.asdict(sessions.limits),
                "examples": [words for _, words in examples] if facts["drawn"] else [],
            }
        )

    async def upload(request: Request) -> Response:
        model = sessions.check_model(request.query_params.get("model", "0"))
        content = await _read_body(
            request, sessions.limits.upload_bytes, sessions.limits.upload_seconds
        )
        if not content:
            raise RequestError(422, "picture: the file is empty.")
        return JSONResponse(await run(request, lambda: sessions.upload(content, model)))

    async def run(request: Request, job: Callable[[], Any]) -> Any:
        return await sessions.run(job, request.is_disconnected)

    def ask(job: Callable[..., Any], wrap: Callable[[Any], Response]) -> Callable:
        async def endpoint(request: Request) -> Response:
            body = await _read_body(
                request, sessions.limits.request_bytes, sessions.limits.upload_seconds
            )
            try:
                content = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise RequestError(422, "request: not valid JSON.") from error
            picture, options = sessions.read(content)
            return wrap(await run(request, lambda: job(picture, options)))

        return endpoint

    routes = [
        *[Route(path, file) for path in files],
        Route("/about", about),
        Route("/pictures", upload, methods=["POST"]),
        Route("/segment", ask(sessions.maps, JSONResponse), methods=["POST"]),
        Route("/mask", ask(sessions.mask, _as_png), methods=["POST"]),
        Route("/alpha", ask(sessions.alpha, _as_png), methods=["POST"]),
        Route("/polygons", ask(sessions.polygons, JSONResponse), methods=["POST"]),
        Route("/record", ask(sessions.record, JSONResponse), methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, access=access, open_paths=frozenset(files)),
        ],
        exception_handlers={RequestError: _refuse, 500: _fail, ClientDisconnect: _gone},
    )


async def _read_body(request: Request, limit: int, seconds: float) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > limit:
        raise RequestError(413, f"{announced} bytes are more than the limit of {limit}.")
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                if len(content) > limit:
                    raise RequestError(413, f"more bytes than the limit of {limit}.")
    except TimeoutError as error:
        raise RequestError(408, f"the request did not arrive within {seconds:g} s.") from error
    return bytes(content)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    # The unread rest of a body must not be parsed as the next request.
    return JSONResponse({"error": error.sentence}, error.status, headers={"connection": "close"})


async def _gone(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the client disconnected."}, 400)


async def _fail(request: Request, error: BaseException) -> Response:
    return JSONResponse({"error": "the server failed; see its log."}, 500)


def _as_png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _to_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
