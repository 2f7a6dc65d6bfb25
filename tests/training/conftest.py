"""A tiny student, a bank of noise for it, and runs of it in this process and in others."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.compiling import QUICK
from tests.training.tiny import QUIET, TINY
from zeroseg_jax.config import MeshConfig, from_mapping, to_mapping
from zeroseg_jax.data import bank, sources
from zeroseg_jax.data.records import encode_record
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training.loop import train

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def clip():
    return load_teacher("playground")


@pytest.fixture(scope="session")
def bank_dir(tmp_path_factory, clip):
    directory = tmp_path_factory.mktemp("bank")
    rng = np.random.default_rng(0)
    settings = {
        "teacher": clip.digest,
        "embed_dim": 128,
        "grids": [1, 2],
        "overlap": False,
        "image_px": 32,
        "dtype": "float16",
        "source": sources.describe_source(from_mapping(TINY)),
    }
    bank.begin_bank(directory, settings)
    records = [
        encode_record(
            i,
            str(i),
            rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
            rng.normal(size=(5, 128)).astype(np.float16),
        )
        for i in range(24)
    ]
    bank.write_shard(directory, 0, records, [])
    bank.finish_bank(directory, 1, settings)
    return directory


@pytest.fixture(scope="session")
def configure(bank_dir):
    """Return a function from fields of optim, and mesh or run as dicts, to a tiny config."""

    def build(mesh=None, run=None, **optim):
        config = from_mapping(TINY)
        return dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, bank=str(bank_dir)),
            optim=dataclasses.replace(config.optim, **optim),
            mesh=MeshConfig(**(mesh or {"data": 1})),
            run=dataclasses.replace(config.run, **(run or {})),
        )

    return build


@pytest.fixture(scope="session")
def whole(tmp_path_factory, configure, clip):
    """Return the work directory of an undisturbed run on one device."""
    workdir = tmp_path_factory.mktemp("whole")
    assert train(configure(), workdir, teacher=clip, options=QUIET)["finished"]
    return workdir


@pytest.fixture
def start(tmp_path, bank_dir):
    """Return a function that starts `python -m zeroseg_jax train` in a process of its own.

    With as many devices as there are here it reads the programs that this process has compiled.
    """
    recipe = tmp_path / "tiny.py"
    recipe.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        f"    return ConfigDict({to_mapping(from_mapping(TINY))!r})\n"
    )
    running = []

    def run(workdir, *arguments, devices=8, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroseg_jax", "train", f"--config={recipe}",
             f"--workdir={workdir}", f"--config.data.bank={bank_dir}", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ,
                 "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
                 **environment},
        )  # fmt: skip
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
