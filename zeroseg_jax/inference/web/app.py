"""Starlette app of the web page: routes, request limits and security headers."""

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
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroseg_jax.inference.web.sessions import RequestError, Sessions

_PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def build_app(
    sessions: Sessions,
    *,
    hosts: Sequence[str],
    examples: Sequence[tuple[np.ndarray, str]],
    drawn_words: str,
    photo_words: str,
) -> Starlette:
    """Build the page's application.

    Args:
      sessions: the models behind the page.
      hosts: host names that are served; others are refused, against DNS rebinding.
      examples: images uint8 (H, W, 3) for models of drawn shapes, each with class names for it.
      drawn_words, photo_words: class names that the page begins with, by kind of model.
    """
    files = {path: ((_PAGE / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
    pictures = [_to_png(image) for image, _ in examples]

    async def file(request: Request) -> Response:
        content, kind = files[request.url.path]
        return Response(content, media_type=kind)

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

    async def example(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(pictures):
            raise RequestError(404, f"example {number}: there are {len(pictures)}.")
        return Response(pictures[number], media_type="image/png")

    uploads = asyncio.Semaphore(sessions.limits.queue)

    async def upload(request: Request) -> Response:
        if uploads.locked():
            raise RequestError(503, "busy: too many uploads at once; try again soon.")
        model = sessions.check_model(request.query_params.get("model", "0"))
        async with uploads:
            content = await _read_body(
                request, sessions.limits.upload_bytes, sessions.limits.upload_seconds
            )
            if not content:
                raise RequestError(422, "picture: the file is empty.")
            return JSONResponse(await sessions.run(lambda: sessions.upload(content, model)))

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
            return wrap(await sessions.run(lambda: job(picture, options)))

        return endpoint

    routes = [
        *[Route(path, file) for path in files],
        Route("/about", about),
        Route("/examples/{number:int}.png", example),
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
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(Guard),
        ],
        exception_handlers={RequestError: _refuse, 500: _fail, ClientDisconnect: _gone},
    )


class Guard:
    """Middleware that refuses cross-site requests and adds security headers."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, host = headers.get("origin"), headers.get("host", "")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if origin is not None and origin.partition("://")[2] != host:
            sentence = {"error": "another site's page may not use this one."}
            await JSONResponse(sentence, 403)(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)


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
