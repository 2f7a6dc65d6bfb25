"""Train a student: python -m zeroseg_jax.train --config=... --workdir=DIR."""

from __future__ import annotations

import os

import jax
from absl.flags import FLAGS

from zeroseg_jax import flags, teacher
from zeroseg_jax.training.loop import train


def use_compilation_cache() -> None:
    """Keep compiled programs on disk between runs; JAX_COMPILATION_CACHE_DIR overrides where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(root, "zeroseg_jax"))


def main(arguments: list[str]) -> None:
    """Train --config in --workdir, or go on with what is there."""
    del arguments
    config, overrides = flags.read_config()
    use_compilation_cache()
    clip = teacher.load(config.teacher.directory)
    train(config, FLAGS.workdir, teacher=clip, overrides=overrides)


if __name__ == "__main__":
    flags.run(main, flags.define_config)
