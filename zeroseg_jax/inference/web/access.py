"""Rules of access of the web page: host names, origins, path behind a proxy, bearer token."""

from __future__ import annotations

import dataclasses
import hmac
import urllib.parse
from collections.abc import Container

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_MIN_TOKEN = 16


@dataclasses.dataclass(frozen=True)
class Access:
    """Rules of access.

    Attributes:
      hosts: host names that are served, against DNS rebinding; ("*",) for all.
      public_url: address under which a proxy shows the page, with a final "/"; "" for none. Its
        host and its origin are served too, and its path may be in front of the routes.
      token: bearer token that requests must carry; "" for none.
    """

    hosts: tuple[str, ...] = LOCAL_HOSTS
    public_url: str = ""
    token: str = ""

    @property
    def path(self) -> str:
        """Path of the public address without the final "/"; "" for none."""
        return urllib.parse.urlsplit(self.public_url).path.rstrip("/")

    def allows_host(self, host: str) -> bool:
        """Return whether a Host header names this page."""
        name = urllib.parse.urlsplit(f"//{host}").hostname if _is_authority(host) else None
        public = urllib.parse.urlsplit(self.public_url).hostname
        return self.hosts == ("*",) or (name is not None and name in (*self.hosts, public))

    def allows_origin(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may send requests."""
        parts = urllib.parse.urlsplit(self.public_url)
        public = f"{parts.scheme}://{parts.netloc}".lower()
        return origin.partition("://")[2] == host or (
            bool(self.public_url) and origin.lower() == public
        )

    def allows_token(self, authorization: str) -> bool:
        """Return whether an Authorization header carries the token; takes constant time."""
        kind, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return not self.token or (same and kind.lower() == "bearer")


def check_public_url(url: str) -> str:
    """Return a public address with a final "/".

    Raises:
      ValueError: it is no http or https address of a host, or has a query.
    """
    if not url:
        return ""
    try:
        parts = urllib.parse.urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        whole = False
    if not whole or parts.query or parts.fragment or parts.username:
        raise ValueError(
            f"--public_url: {url[:200]!r} is no address of a page; "
            "write for example https://host.example/path/."
        )
    return url.rstrip("/") + "/"


def check_token(token: str) -> str:
    """Return a token.

    Raises:
      ValueError: it is too short, or has characters that a header cannot carry.
    """
    if len(token) < _MIN_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(
            f"--token: give at least {_MIN_TOKEN} letters, digits or signs without a blank."
        )
    return token


class Guard:
    """Middleware: host name, origin, token and path of a request; security headers of the answer.

    Args:
      app: wrapped application.
      access: rules.
      open_paths: paths that need no token, because they hold nothing of a visitor.
    """

    def __init__(self, app: ASGIApp, access: Access, open_paths: Container[str]):
        self.app, self.access, self.open_paths = app, access, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if refused := self._find_fault(headers):
            await refused(scope, receive, send_guarded)
            return
        path, prefix = scope["path"], self.access.path
        if prefix and path == prefix:
            # The page's own addresses are relative and need the final "/".
            redirect = RedirectResponse(f"{prefix.rpartition('/')[2]}/")
            await redirect(scope, receive, send_guarded)
            return
        if prefix and path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        if path not in self.open_paths and not self.access.allows_token(
            headers.get("authorization", "")
        ):
            sentence = (
                "authorization: the bearer token is missing or wrong; zeroseg serve prints it."
            )
            answer = _refuse(401, sentence, {"www-authenticate": "Bearer"})
            await answer(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)

    def _find_fault(self, headers: Headers) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.access.allows_host(host):
            return _refuse(
                400, f"host: {host[:100]!r} is not this page's; "
                "start zeroseg serve with --public_url=ADDRESS.",
            )  # fmt: skip
        if origin is not None and not self.access.allows_origin(origin, host):
            return _refuse(
                403, f"origin: {origin[:100]!r} is another site, whose pages may not use this one; "
                "behind a proxy start zeroseg serve with --public_url=ADDRESS.",
            )  # fmt: skip
        return None


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # The unread rest of a body must not be parsed as the next request.
    return JSONResponse({"error": sentence}, status, {"connection": "close", **(headers or {})})


def _is_authority(host: str) -> bool:
    try:
        urllib.parse.urlsplit(f"//{host}")
    except ValueError:
        return False
    return not set(host) & set("/?#@\\")
