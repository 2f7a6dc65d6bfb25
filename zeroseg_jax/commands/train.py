"""Train a student, or resume: zeroseg train --config=FILE --workdir=DIR.

SIGTERM and Ctrl-C save a checkpoint; the exit code is then 143 or 130. The same command resumes.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.commands.signals import SIGNAL_EXIT


def define_flags() -> None:
    """Define the command line."""
    flags.define_config()
    absl_flags.DEFINE_integer("host_count", 1, "number of processes of the run, one per host")
    absl_flags.DEFINE_integer(
        "host_index", 0, "index of this process, below --host_count; needed with --coordinator"
    )
    absl_flags.DEFINE_string(
        "coordinator", "", "HOST:PORT of process 0; empty on Cloud TPU, GKE and Slurm"
    )
    absl_flags.DEFINE_integer("join_seconds", 300, "seconds to wait for the other processes")
    absl_flags.DEFINE_bool(
        "allow_config_change", False, "permission to resume with other settings than before"
    )
    absl_flags.DEFINE_integer("profile_steps", 0, "number of steps traced to WORKDIR/profile")
    absl_flags.DEFINE_string("wandb_project", "", "Weights & Biases project to log to; empty: none")


def main(arguments: list[str]) -> int:
    """Train --config in --workdir, or resume from its last checkpoint.

    Returns:
      0, or 128 + the number of the signal that stopped the run before its last step.
    """
    del arguments
    import jax

    from zeroseg_jax.teacher.load import load_teacher, pin_teachers
    from zeroseg_jax.training import hosts
    from zeroseg_jax.training.loop import Options, train
    from zeroseg_jax.training.methods import fit_teacher

    config, overrides = flags.read_config()
    flags.use_compilation_cache()
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
    # The manifest and exports name the commits, so that anyone can fetch the same teacher.
    config = pin_teachers(config)
    teacher = load_teacher(config.teacher.directory, attention=config.run.attention)
    config = fit_teacher(config, teacher)
    result = train(config, FLAGS.workdir, teacher=teacher, options=options)
    return 0 if result["finished"] else SIGNAL_EXIT + result["signal"]
