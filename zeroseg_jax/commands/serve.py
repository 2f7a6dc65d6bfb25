"""Open a local page to try pictures and words: zeroseg serve --workdir=DIR --port=8000.

Nothing is kept on disk. The page listens on this machine alone unless --host says otherwise, and
it knows no passwords.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags

if TYPE_CHECKING:
    import uvicorn

    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.web.sessions import Limits

_EXAMPLES = (  # index among the Playground's evaluation scenes, and words for it
    (0, "hourglass; arrow; cross; grass; sky"),
    (4, "moon; flower; star; water; sand"),
    (7, "ring; heart; circle; square; brick; sand"),
)
_EXAMPLE_PX = 384
_LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")


def define_flags() -> None:
    """Define the command line."""
    flags.define_model()
    absl_flags.DEFINE_string("host", "127.0.0.1", "address to listen on")
    absl_flags.DEFINE_integer("port", 8000, "port to listen on; 0: any free one", 0, 65535)


def build_server(
    predictor: Predictor, *, host: str = "127.0.0.1", limits: Limits | None = None
) -> uvicorn.Server:
    """Build the server around a predictor; `.run(sockets=[open_socket(...)])` serves.

    Args:
      predictor: answers; words that visitors type must not go to disk (keep_words=False).
      host: the address it will listen on.
      limits: None for the usual ones.
    """
    import uvicorn

    from zeroseg_jax.data.playground.scenes import build_scene, render
    from zeroseg_jax.inference.web.app import build_app
    from zeroseg_jax.inference.web.sessions import Desk, Limits

    examples = [(render(build_scene(2, i), _EXAMPLE_PX)[0], words) for i, words in _EXAMPLES]
    # Under a wildcard address nobody knows by which name one will be called.
    hosts = ["*"] if host in ("0.0.0.0", "::") else [*_LOCAL, host]
    app = build_app(Desk(predictor, limits or Limits()), hosts=hosts, examples=examples)
    config = uvicorn.Config(
        app, http="h11", ws="none", log_level="warning", access_log=False, server_header=False,
        limit_concurrency=64, timeout_keep_alive=5, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    return uvicorn.Server(config)


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes any free one.

    Raises:
      ValueError: the address is not there or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on visitors wait for the server instead of being turned away.
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise ValueError(
            f"--host, --port: cannot listen on {host}:{port} ({reason}); use another port."
        ) from error
    return listener


def main(arguments: list[str]) -> None:
    """Load the model and serve until interrupted."""
    if arguments:
        raise ValueError(f"serve: takes no {arguments[0]!r}; name a model by --workdir=DIR.")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'the page needs {error.name}; pip install "zeroseg_jax[serve]".'
        ) from error

    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.presets import parse_overrides

    flags.use_compilation_cache()
    predictor = Predictor.from_pretrained(
        FLAGS.workdir, teacher=FLAGS.teacher, settings=parse_overrides(FLAGS.set), keep_words=False
    )
    with open_socket(FLAGS.host, FLAGS.port) as listener:
        server = build_server(predictor, host=FLAGS.host)
        if FLAGS.host not in _LOCAL:
            print(f"serve: {FLAGS.host} is open to others, and the page knows no passwords")
        print(f"serve: {predictor}")
        address = f"http://{FLAGS.host}:{listener.getsockname()[1]}/"
        print(f"serve: {address}  (Ctrl-C ends)", flush=True)
        server.run(sockets=[listener])
