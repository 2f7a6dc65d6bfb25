"""Joining the processes of a run, and noticing a JAX that does not fit the machine."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import jax

_START_SECONDS = 300
_GRACE_SECONDS = 60


def join_hosts(
    count: int, *, index: int = 0, coordinator: str = "", timeout_seconds: int = _START_SECONDS
) -> None:
    """Start jax.distributed where a run has several hosts; call it before anything else of JAX.

    Args:
      count: processes of the run; 1 starts nothing.
      index: of this one, needed with a coordinator.
      coordinator: address:port of process 0; empty where the cluster tells it (Cloud TPU, GKE,
        Slurm).
      timeout_seconds: how long to wait for the others.

    Raises:
      ValueError: other processes than said, or no way to find them. Where a host does not come
        in time the process ends with a sentence and exit code 2: JAX leaves no other way.
    """
    if count < 1 or not 0 <= index < count:
        raise ValueError(f"--host_index: {index} is not below --host_count {count}.")
    if count == 1:
        return
    named = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    failed = f"--host_count: {count} processes could not be joined within {timeout_seconds} s"
    advice = "start as many, or name --coordinator=HOST:PORT and --host_index on each."

    def give_up() -> None:
        # JAX would abort the process with its stack where a host does not come; nothing of the
        # run has begun, so leaving at once loses nothing.
        print(f"error: {failed}; {advice}", file=sys.stderr, flush=True)
        os._exit(2)

    watch = threading.Timer(timeout_seconds, give_up)
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            **(named if coordinator else {}),
            initialization_timeout=timeout_seconds + _GRACE_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{failed} ({reason}); {advice}") from error
    finally:
        watch.cancel()
    if jax.process_count() != count:
        raise ValueError(
            f"--host_count: {count} said, but the cluster runs {jax.process_count()} processes; "
            "say as many, or start as many."
        )


def check_accelerator() -> None:
    """Refuse to compute on the CPU of a machine whose accelerator this JAX cannot use.

    Raises:
      ValueError: a GPU or TPU is there and JAX was installed without it, or JAX_PLATFORMS names
        a platform that is not there.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "")
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter where no plug-in serves the name
        reason = next(iter(str(error).strip().splitlines()), "no plug-in for it")
        raise ValueError(
            f"JAX_PLATFORMS={wanted}: JAX cannot start it ({reason}); install the wheel for this "
            "machine (README.md, Two commands) or unset JAX_PLATFORMS."
        ) from error
    if found != "cpu" or "cpu" in wanted.split(","):
        return
    for pattern, kind, wheel in (
        ("nvidia[0-9]*", "an NVIDIA GPU", "cuda12"),
        ("accel[0-9]*", "a TPU", "tpu"),
    ):
        if any(Path("/dev").glob(pattern)):
            raise ValueError(
                f"this machine has {kind}, but JAX {jax.__version__} sees only the CPU; install "
                f'"jax[{wheel}]=={jax.__version__}", or set JAX_PLATFORMS=cpu to go on without it.'
            )
