"""Kill test of prepare: a bank written under random SIGKILLs against an undisturbed one.

    python -m bench.endurance.prepare_kills --kills=50

Two processes share the work like two hosts and are restarted whenever they end. The moment of a
kill is uniform over the duration of an undisturbed run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.data import bank

HOST = """
import sys
from pathlib import Path
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.teacher.encode_bank import prepare_bank
bank.SHARD_IMAGES = 8
config = from_mapping({"model": {"image_px": 96, "encoder": {"patch_px": 8}},
                       "teacher": {"grids": (1, 2, 3)}, "data": {"images": int(sys.argv[2])}})
prepare_bank(config, Path(sys.argv[1]), load_teacher("playground"),
             host_index=int(sys.argv[3]), host_count=int(sys.argv[4]))
"""


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("kills", 50, "number of kills", lower_bound=1)
    absl_flags.DEFINE_integer("images", 400, "number of scenes in the bank", lower_bound=8)
    record.define_output("prepare_kills")


def main(arguments: list[str]) -> None:
    """Run undisturbed; run with kills, as many banks as it takes; compare record by record."""
    del arguments
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        # The program compiles once for all starts.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        whole = Path(folder) / "whole"
        begin = time.time()
        assert _start(whole, 0, 1).wait() == 0
        usual = time.time() - begin
        banks: list[dict[str, Any]] = []
        while (left := FLAGS.kills - sum(len(bank["shards_at_kill"]) for bank in banks)) > 0:
            killed = Path(folder) / f"killed-{len(banks)}"
            found = _run_with_kills(killed, rng, usual, left)
            banks.append({**found, "records_equal": _compare(whole, killed)})
            print(banks[-1], flush=True)
    results = {
        "kills": sum(len(bank["shards_at_kill"]) for bank in banks),
        "undisturbed_seconds": round(usual, 1),
        "banks": banks,
    }
    record.write(results)
    print(f"{results['kills']} kills, {len(banks)} banks: every record equal")


def _run_with_kills(
    directory: Path, rng: random.Random, usual: float, kills: int
) -> dict[str, Any]:
    """Start two hosts again whenever they end, and kill one now and then, until all is done."""
    starts, shards = 0, []
    hosts: list[subprocess.Popen | None] = [None, None]
    while not (directory / "manifest.json").is_file():
        for i, host in enumerate(hosts):
            if host is None or host.poll() is not None:
                hosts[i] = _start(directory, i, 2)
                starts += 1
        time.sleep(rng.uniform(0, usual))
        alive = [host for host in hosts if host is not None and host.poll() is None]
        if alive and len(shards) < kills:
            victim = rng.choice(alive)
            victim.kill()
            victim.wait()
            shards.append(len(list(directory.glob("*.arrayrecord"))))
    for host in hosts:
        host.wait()
    return {"starts": starts, "shards_at_kill": shards}


def _start(directory: Path, host: int, hosts: int) -> subprocess.Popen:
    arguments = [str(directory), str(FLAGS.images), str(host), str(hosts)]
    return subprocess.Popen(
        [sys.executable, "-c", HOST, *arguments], env=os.environ, stdout=subprocess.DEVNULL
    )


def _compare(whole: Path, killed: Path) -> int:
    first, second = bank.BankSource(whole), bank.BankSource(killed)
    if len(first) != len(second):
        raise AssertionError(f"{len(second)} records, not {len(first)}")
    for i in range(len(first)):
        for field in ("name", "index", "image", "features"):
            if not np.array_equal(first[i][field], second[i][field]):
                raise AssertionError(f"record {i}: {field} differs")
    return len(first)


if __name__ == "__main__":
    flags.run(main, define_flags)
