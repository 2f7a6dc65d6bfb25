"""Train a student: python -m zeroseg_jax train --config=... --workdir=DIR."""

from __future__ import annotations

import os

import jax
from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax import teacher
from zeroseg_jax.commands import flags
from zeroseg_jax.training import hosts
from zeroseg_jax.training.loop import Options, train


def define_flags() -> None:
    """Define the command line."""
    flags.define_config()
    absl_flags.DEFINE_integer("host_count", 1, "processes of this run, one a host")
    absl_flags.DEFINE_integer("host_index", 0, "which of them this is; needed with --coordinator")
    absl_flags.DEFINE_string(
        "coordinator", "", "HOST:PORT of process 0; Cloud TPU, GKE and Slurm tell it themselves"
    )
    absl_flags.DEFINE_integer("join_seconds", 300, "how long to wait for the other processes")
    absl_flags.DEFINE_bool(
        "allow_config_change", False, "go on in a work directory that another config made"
    )
    absl_flags.DEFINE_integer("profile_steps", 0, "trace so many steps into WORKDIR/profile")
    absl_flags.DEFINE_string("wandb_project", "", "also send scalars to Weights & Biases")


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
    hosts.join_hosts(
        FLAGS.host_count,
        index=FLAGS.host_index,
        coordinator=FLAGS.coordinator,
        timeout_seconds=FLAGS.join_seconds,
    )
    hosts.check_accelerator()
    options = Options(
        log=lambda line: print(line, flush=True) if jax.process_index() == 0 else None,
        overrides=overrides,
        allow_config_change=FLAGS.allow_config_change,
        wandb_project=FLAGS.wandb_project,
        profile_steps=FLAGS.profile_steps,
    )
    train(config, FLAGS.workdir, teacher=teacher.load(config.teacher.directory), options=options)
