"""The first non-finite step is named, and no checkpoint has it."""

import json

import pytest

from tests.training.tiny import QUIET
from zeroseg_jax.training.loop import train


def test_the_first_step_that_is_not_finite_is_named_and_nothing_of_it_is_saved(
    tmp_path, configure, clip
):
    # Logged and looked at only at step 8, long after the loss is gone.
    config = configure(run={"log_every_steps": 8, "checkpoint_every_steps": 8}, base_rate=1e14)
    with pytest.raises(ValueError, match=r"training: loss_\w+ is (nan|inf) at step (\d)") as raised:
        train(config, tmp_path, teacher=clip, options=QUIET)
    path = next(tmp_path.glob("diagnostic-*.json"))
    record = json.loads(path.read_text())
    assert f"at step {record['step']}" in str(raised.value) and 1 < record["step"] < 8
    assert len(record["images"]) == 8 and record["first_bad"] in record["bad"]
    assert record["metrics"]["param_norm"] and record["first_bad"].startswith("loss_")
    assert not any(name.name.isdigit() for name in (tmp_path / "checkpoints").iterdir())
