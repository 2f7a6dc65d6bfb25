"""Nothing is lost: killed, stopped, cut short, out of room, on other devices, and going on."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from tests.training.tiny import QUIET, losses_of
from zeroseg_jax.training import sharding, timing, zeroseg
from zeroseg_jax.training.checkpoint import CheckpointError, Checkpoints, load_params
from zeroseg_jax.training.loop import Options, train
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state


def assert_same_run(first, second):
    one, two = (load_params(directory)[0] for directory in (first, second))
    chex.assert_trees_all_equal(one, two)
    assert losses_of(first) == losses_of(second)


def wait_for(process, happened):
    while process.poll() is None and not happened():
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_and_started_again_equals_undisturbed(tmp_path, whole, start):
    """The long form, with at least 20 kills, is bench/endurance/train_kills.py."""
    workdir = tmp_path / "run"
    chance = random.Random(3)
    for logged in (3, 6):
        process = start(workdir)
        # After a save has begun, at any moment of it or of the steps that follow.
        wait_for(process, lambda logged=logged: len(losses_of(workdir)) >= logged)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(workdir).wait() == 0
    assert_same_run(whole, workdir)


def test_sigterm_saves_and_another_mesh_goes_on(tmp_path, configure, clip, whole, start):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for(process, lambda: losses_of(workdir))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == (0 if "step 8/8" in output else 143), output
    assert "asked to stop, saved step" in output or "step 8/8" in output
    mesh = {"data": 2, "fsdp": 2, "tensor": 2, "shard_optimizer": True}
    result = train(configure(mesh), workdir, teacher=clip,
                   options=QUIET)  # fmt: skip
    assert result["finished"]
    for step, loss in losses_of(whole).items():
        # Another mesh adds in another order.
        np.testing.assert_allclose(losses_of(workdir)[step], loss, rtol=1e-5)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, configure, clip, whole):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    for path in sorted((workdir / "checkpoints" / "8").rglob("*")):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    lines = []
    result = train(configure(), workdir, teacher=clip, options=Options(log=lines.append))
    assert result["finished"]
    assert any("8" in line and "damaged" in line for line in lines)
    assert any("resuming from step 6" in line for line in lines)
    assert_same_run(whole, workdir)


@pytest.fixture
def small_disk(tmp_path):
    """Return a directory on a file system of its own of 4 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs privileges")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays(
    small_disk, configure, whole, caplog
):
    workdir = small_disk / "run"
    shutil.copytree(whole / "checkpoints" / "8", workdir / "checkpoints" / "8")
    free = shutil.disk_usage(small_disk).free
    # Room for a checkpoint at the start, and not for what comes.
    (small_disk / "other").write_bytes(b"x" * (free - _size(workdir / "checkpoints" / "8") // 2))
    abstract_state = _state_of(configure())
    with (
        pytest.raises(CheckpointError, match=r"written \(No space left on device\); .* is step 8;"),
        Checkpoints(workdir / "checkpoints", keep=2, log=print) as checkpoints,
    ):
        state, clock = checkpoints.restore_latest(abstract_state)
        checkpoints.save(10, state, clock)
    assert not caplog.records  # Orbax's errors arrive as that sentence
    (small_disk / "other").unlink()
    with Checkpoints(workdir / "checkpoints", keep=2, log=print) as checkpoints:
        assert checkpoints.steps == [8]
        state, clock = checkpoints.restore_latest(abstract_state)
        assert int(state.step) == 8 and clock.shape == (timing.count_values(),)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _state_of(config):
    objective, optimizer = zeroseg.build_abstract(config), build_optimizer(config, 8)
    shapes = jax.eval_shape(lambda: init_state(config, objective, optimizer))
    return sharding.shard_state(shapes, sharding.build_mesh(config))
