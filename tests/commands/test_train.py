"""A run of `zeroseg train`, and the same command once more."""

import pytest


@pytest.mark.slow
def test_debug_recipe_trains_with_a_live_teacher_and_resumes(zeroseg, tmp_path):
    command = ("train", "--config=debug", f"--workdir={tmp_path}",
               "--config.optim.steps=3", "--config.run.checkpoint_every_steps=1")  # fmt: skip
    done = zeroseg(*command)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    again = zeroseg(*command)
    assert again.returncode == 0 and "resuming from step 3 of 3" in again.stdout
