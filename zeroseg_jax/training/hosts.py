"""Start of jax.distributed on several hosts, and check that JAX can use the accelerator."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import jax

_START_SECONDS = 300
_GRACE_SECONDS = 60


def join_hosts(
    count: int, *, index: int = 0, coordinator: str = "", timeout_seconds: int = _START_SECONDS
) -> None:
    """Start jax.distributed for a run on several hosts; call it before any other use of JAX.

    A missing host ends the process with exit code 2 after `timeout_seconds`, because JAX would
    abort it without an exception.

    Args:
      count: number of processes; 1 starts nothing.
      index: index of this process, needed with `coordinator`.
      coordinator: HOST:PORT of process 0; empty on Cloud TPU, GKE and Slurm, where JAX finds it.
      timeout_seconds: time to wait for the other processes.

    Raises:
      ValueError: an index outside the count, another number of processes in the cluster, or no
        way to find them.
    """
    if count < 1 or not 0 <= index < count:
        raise ValueError(f"--host_index: {index} is not below --host_count {count}.")
    if count == 1:
        return
    named: dict[str, Any] = {
        "coordinator_address": coordinator,
        "num_processes": count,
        "process_id": index,
    }
    failed = f"--host_count: {count} processes could not be joined within {timeout_seconds} s"
    advice = "start as many, or name --coordinator=HOST:PORT and --host_index on each."

    def give_up() -> None:
        # JAX would abort the process with a stack trace. Nothing of the run has started yet, so
        # an immediate exit loses nothing.
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
            f"--host_count: {count} differs from the {jax.process_count()} processes of the "
            "cluster; set --host_count to that number."
        )


def check_accelerator() -> None:
    """Refuse to compute on the CPU of a machine with an accelerator that JAX cannot use.

    Raises:
      ValueError: a GPU or TPU exists but JAX has no support for it, or JAX_PLATFORMS names a
        platform that does not exist.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "")
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # AssertionError: unknown name
        reason = next(iter(str(error).strip().splitlines()), "no plug-in for it")
        raise ValueError(
            f"JAX_PLATFORMS={wanted}: JAX cannot start it ({reason}); install the wheel for this "
            "machine (README.md) or unset JAX_PLATFORMS."
        ) from error
    if found != "cpu" or "cpu" in wanted.split(","):
        return
    for pattern, kind, wheel in (
        ("nvidia[0-9]*", "an NVIDIA GPU", "cuda12"),
        ("accel[0-9]*", "a TPU", "tpu"),
    ):
        if any(Path("/dev").glob(pattern)):
            raise ValueError(
                f"this machine has {kind}, but JAX {jax.__version__} finds only the CPU; install "
                f'"jax[{wheel}]=={jax.__version__}", or set JAX_PLATFORMS=cpu to use the CPU.'
            )
