"""Serve a local web page for images and class names: zeroseg serve --model=NAME --port=8000.

Nothing is written to disk. The page listens on this machine only unless --host is given. Where
others can reach it, requests need a bearer token. The HTTP interface is at /openapi.json.
"""

from __future__ import annotations

import sys

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import compute, flags


def define_flags() -> None:
    """Define the command line."""
    flags.define_model()
    compute.define_compute()
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example stride_px=28")
    absl_flags.DEFINE_list(
        "models", [], "names to choose from on the page, in place of --model; the first is loaded"
    )
    absl_flags.DEFINE_string("host", "127.0.0.1", "address to listen on")
    absl_flags.DEFINE_string(
        "public_url", "", "address under which a proxy (JupyterHub, VS Code, nginx) shows the "
        "page, for example https://host.example/user/me/proxy/8000/"
    )  # fmt: skip
    absl_flags.DEFINE_string(
        "token", "", "bearer token of requests; empty: a random one with --host or --public_url, "
        "else none; 'none': none"
    )  # fmt: skip
    absl_flags.DEFINE_integer("port", 8000, "port to listen on; 0: any free one", 0, 65535)


def main(arguments: list[str]) -> None:
    """Fetch the models, load the first and serve until interrupted."""
    if arguments:
        raise ValueError(f"serve: takes no argument {arguments[0]!r}; name a model by --model.")
    names = [name.strip() for name in FLAGS.models] or [FLAGS.model]
    if FLAGS.models and not FLAGS["model"].using_default_value:
        raise ValueError("--models: is given beside --model; add that name to --models.")
    if len(set(names)) < len(names) or "" in names:
        raise ValueError("--models: a name is empty or is given twice; name each model once.")
    try:
        from zeroseg_jax.inference.web import server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ValueError(
            f'serve: the page needs {error.name}; pip install "zeroseg_jax[serve]".'
        ) from error

    from zeroseg_jax.inference.model import locate
    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.presets import parse_overrides
    from zeroseg_jax.inference.web.models import Models

    compute.select_device(FLAGS.device)
    flags.use_compilation_cache()
    settings = parse_overrides(FLAGS.set)
    for name in names[1:]:
        locate(name)  # Wrong names and downloads come before the page, not in it.

    def load(name: str) -> Predictor:
        return Predictor.from_pretrained(
            name, teacher=FLAGS.teacher, readout=FLAGS.readout, settings=settings,
            cache_names=False, dtype=FLAGS.dtype or "",
        )  # fmt: skip

    access = server.build_access(FLAGS.host, FLAGS.public_url, FLAGS.token)
    models = Models(names, load)
    with server.open_socket(FLAGS.host, FLAGS.port) as listener:
        running = server.build_server(models, access=access, warm_up=True)
        if FLAGS.host not in server.LOCAL_HOSTS and not access.token:
            print(f"serve: {FLAGS.host} is reachable by others, and no token protects it")
        print(f"serve: {models.get(0)}")
        if note := models.describe(0)["note"]:
            print(f"serve: {note}", file=sys.stderr)
        port = listener.getsockname()[1]
        # The part behind "#" stays in the browser: no log and no proxy sees it.
        secret = f"#token={access.token}" if access.token else ""
        host = f"[{FLAGS.host}]" if ":" in FLAGS.host else FLAGS.host
        address = access.public_url or f"http://{host}:{port}/"
        print(f"serve: {address}{secret}  (Ctrl-C ends)", flush=True)
        running.run(sockets=[listener])
