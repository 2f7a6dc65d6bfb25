"""Serve a local web page for images and class names: zeroseg serve --model=NAME --port=8000.

Nothing is written to disk. The page listens on this machine only unless --host is given, and it
has no passwords.
"""

from __future__ import annotations

import sys

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags


def define_flags() -> None:
    """Define the command line."""
    flags.define_model()
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example stride_px=28")
    absl_flags.DEFINE_string("host", "127.0.0.1", "address to listen on")
    absl_flags.DEFINE_integer("port", 8000, "port to listen on; 0: any free one", 0, 65535)


def main(arguments: list[str]) -> None:
    """Load the model and serve until interrupted."""
    if arguments:
        raise ValueError(f"serve: takes no argument {arguments[0]!r}; name a model by --model.")
    try:
        from zeroseg_jax.inference.web import server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ValueError(
            f'serve: the page needs {error.name}; pip install "zeroseg_jax[serve]".'
        ) from error

    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.presets import parse_overrides

    flags.use_compilation_cache()
    predictor = Predictor.from_pretrained(
        FLAGS.model, teacher=FLAGS.teacher, readout=FLAGS.readout,
        settings=parse_overrides(FLAGS.set), cache_names=False,
    )  # fmt: skip
    with server.open_socket(FLAGS.host, FLAGS.port) as listener:
        running = server.build_server(predictor, host=FLAGS.host, warm_up=True)
        if FLAGS.host not in server.LOCAL_HOSTS:
            print(f"serve: {FLAGS.host} is reachable by others, and the page has no passwords")
        print(f"serve: {predictor}")
        if note := predictor.model.describe(predictor.preset)["note"]:
            print(f"serve: {note}", file=sys.stderr)
        address = f"http://{FLAGS.host}:{listener.getsockname()[1]}/"
        print(f"serve: {address}  (Ctrl-C ends)", flush=True)
        running.run(sockets=[listener])
