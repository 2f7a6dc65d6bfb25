"""The loop: refusals before the start, learning, TensorBoard and a profile."""

import dataclasses
import os
import signal

import jax
import pytest

from tests.training.tiny import QUIET, TINY, losses_of
from zeroseg_jax.config import from_mapping
from zeroseg_jax.training.loop import Options, train


def test_misfits_are_named_before_anything_starts(tmp_path, configure, clip):
    narrow = from_mapping({**TINY, "model": {**TINY["model"], "embed_dim": 64}})
    narrow = dataclasses.replace(narrow, data=configure().data)
    with pytest.raises(ValueError, match="model.embed_dim: 64 .* 128"):
        train(narrow, tmp_path / "a", teacher=clip, options=QUIET)
    with pytest.raises(ValueError, match="optim.batch_global: 9 is not a multiple of 8"):
        train(configure({"data": 8}, batch_global=9), tmp_path / "b", teacher=clip, options=QUIET)
    other = from_mapping({**TINY, "teacher": {"grids": (1, 3)}})
    other = dataclasses.replace(other, data=configure().data)
    with pytest.raises(ValueError, match="bank: grids"):
        train(other, tmp_path / "c", teacher=clip, options=QUIET)
    assert not any(tmp_path.iterdir())


def test_it_learns_eight_images(tmp_path, configure, clip):
    rarely = {"log_every_steps": 50, "checkpoint_every_steps": 150}
    config = configure(run=rarely, steps=150, base_rate=0.3)
    train(config, tmp_path, teacher=clip, options=QUIET)
    losses = losses_of(tmp_path)
    assert losses[150] < 0.9 * losses[1]


def test_pictures_and_scalars_go_to_tensorboard_and_a_profile_is_written(tmp_path, configure, clip):
    pytest.importorskip("tensorboardX", reason="tensorboardX is an extra")
    config = configure(run={"pictures_every_steps": 4})
    options = dataclasses.replace(QUIET, profile_steps=1)
    train(config, tmp_path, teacher=clip, options=options)
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    for name in (b"loss_matching", b"segments/0", b"images_per_second"):
        assert name in events
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_and_is_in_the_result(tmp_path, configure, clip, number):
    """The code of `zeroseg train` comes from it: a stopped training is not done."""
    before = signal.getsignal(number)

    def log(line):
        if "step 1/" in line and not stopped:
            stopped.append(line)
            os.kill(os.getpid(), number)

    stopped = []
    options = Options(log=log)
    result = train(configure(run={"log_every_steps": 1}), tmp_path, teacher=clip, options=options)
    assert result["signal"] == number and not result["finished"]
    assert (tmp_path / "checkpoints" / str(result["step"])).is_dir()
    assert signal.getsignal(number) == before
    result = train(configure(run={"log_every_steps": 1}), tmp_path, teacher=clip, options=QUIET)
    assert result["finished"] and result["signal"] == 0


def test_64_bits_are_refused_before_anything_starts(tmp_path, configure, clip):
    with jax.enable_x64(True), pytest.raises(ValueError, match="JAX_ENABLE_X64: .* unset it"):
        train(configure(), tmp_path, teacher=clip, options=QUIET)
    assert not list(tmp_path.iterdir())
