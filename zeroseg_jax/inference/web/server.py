"""Server of the web page: uvicorn around the app, and the socket it listens on."""

from __future__ import annotations

import socket

import uvicorn

from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.inference.web.app import build_app
from zeroseg_jax.inference.web.models import Models
from zeroseg_jax.inference.web.sessions import Limits, Sessions

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
_EXAMPLES = (  # index among the Playground's evaluation scenes, and class names for it
    (0, "hourglass; arrow; cross; grass; sky"),
    (4, "moon; flower; star; water; sand"),
    (7, "ring; heart; circle; square; brick; sand"),
)
_EXAMPLE_PX = 384
_DRAWN_WORDS, _PHOTO_WORDS = "star, heart, grass, sky", "person, dog, sky, tree"


def build_server(
    models: Models,
    *,
    host: str = "127.0.0.1",
    limits: Limits | None = None,
    warm_up: bool = False,
) -> uvicorn.Server:
    """Build the server around models; `.run(sockets=[open_socket(...)])` serves.

    Args:
      models: models to choose from.
      host: address it will listen on.
      limits: limits of requests; None for the defaults.
      warm_up: compile in the background for the first visitor.
    """
    examples = [(render(build_scene(2, i), _EXAMPLE_PX)[0], words) for i, words in _EXAMPLES]
    sessions = Sessions(models, limits or Limits())
    if warm_up:
        sessions.warm_up(_DRAWN_WORDS if models.describe(0)["drawn"] else _PHOTO_WORDS)
    # With a wildcard address the host name is unknown.
    hosts = ["*"] if host in ("0.0.0.0", "::") else [*LOCAL_HOSTS, host]
    app = build_app(
        sessions, hosts=hosts, examples=examples, drawn_words=_DRAWN_WORDS,
        photo_words=_PHOTO_WORDS,
    )  # fmt: skip
    config = uvicorn.Config(
        app, http="h11", ws="none", log_level="warning", access_log=False, server_header=False,
        limit_concurrency=64, timeout_keep_alive=5, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    return uvicorn.Server(config)


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes any free one.

    Raises:
      ValueError: the address does not exist or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on connections wait for the server and are not refused.
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise ValueError(
            f"--host, --port: cannot listen on {host}:{port} ({reason}); use another port."
        ) from error
    return listener
