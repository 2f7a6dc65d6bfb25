"""Server of the web page: uvicorn around the app, and the socket it listens on."""

from __future__ import annotations

import secrets
import socket

import uvicorn

from zeroseg_jax.data.playground.scenes import EVALUATION_SEED, build_scene, render
from zeroseg_jax.inference.web.access import LOCAL_HOSTS, Access, check_public_url, check_token
from zeroseg_jax.inference.web.app import build_app
from zeroseg_jax.inference.web.connections import ConnectionLimits, Connections, build_protocol
from zeroseg_jax.inference.web.models import Models
from zeroseg_jax.inference.web.sessions import Limits, Sessions

EXAMPLES = (  # index of an evaluation scene, and what is in it; the shipped student finds it
    (64, "moon, cross, sky, grass"),
    (77, "heart, pill, night, water"),
    (22, "square, star, brick, water"),
)
_EXAMPLE_PX = 384
_DRAWN_WORDS, _PHOTO_WORDS = "star, heart, grass, sky", "person, dog, sky, tree"


def build_server(
    models: Models,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
    warm_up: bool = False,
) -> uvicorn.Server:
    """Build the server around models; `.run(sockets=[open_socket(...)])` serves.

    Args:
      models: models to choose from.
      access: who may use it; None for this machine alone.
      limits: limits of requests; None for the defaults.
      connections: limits of connections; None for the defaults.
      warm_up: compile in the background for the first visitor.
    """
    examples = [
        (render(build_scene(EVALUATION_SEED, i), _EXAMPLE_PX)[0], words) for i, words in EXAMPLES
    ]
    sessions = Sessions(models, limits or Limits())
    if warm_up:
        sessions.warm_up(_DRAWN_WORDS if models.describe(0)["drawn"] else _PHOTO_WORDS)
    access, connections = access or Access(), connections or ConnectionLimits()
    if access.public_url:
        connections = connections.without_addresses()
    app = build_app(
        sessions, access=access, examples=examples, drawn_words=_DRAWN_WORDS,
        photo_words=_PHOTO_WORDS,
    )  # fmt: skip
    config = uvicorn.Config(
        app, http=build_protocol(Connections(connections)), ws="none", log_level="error",
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=5,
        timeout_graceful_shutdown=5, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    return uvicorn.Server(config)


def build_access(host: str, public_url: str = "", token: str = "") -> Access:
    """Build the rules of access from flags.

    Args:
      host: address to listen on.
      public_url: address under which a proxy shows the page, or "".
      token: bearer token; "none" for none; "" for a random one wherever others reach the page.

    Raises:
      ValueError: an address or a token that is wrong.
    """
    public_url = check_public_url(public_url)
    if token == "none":
        token = ""
    elif token:
        token = check_token(token)
    elif public_url or host not in LOCAL_HOSTS:
        token = secrets.token_urlsafe(24)
    # With a wildcard address the host name is unknown.
    hosts = ("*",) if host in ("0.0.0.0", "::") else (*LOCAL_HOSTS, host)
    return Access(hosts, public_url, token)


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
