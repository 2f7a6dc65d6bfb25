"""Manifest, refused settings and directories of a run."""

import json
import shutil

import pytest

from tests.training.tiny import QUIET
from zeroseg_jax.training.loop import Options, train


def test_another_config_is_refused_by_field_unless_told(tmp_path, configure, clip, whole):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    config = configure(weight_decay=0.1, steps=9)
    with pytest.raises(ValueError, match=r"optim.weight_decay \(0.05 there, 0.1 now\)") as raised:
        train(config, workdir, teacher=clip, options=QUIET)
    assert "optim.steps (8 there, 9 now)" in str(raised.value)
    lines = []
    options = Options(log=lines.append, allow_config_change=True)
    assert train(config, workdir, teacher=clip, options=options)["step"] == 9
    assert any("optim.weight_decay (0.05 there" in line for line in lines)
    assert json.loads((workdir / "manifest.json").read_text())["config"]["optim"]["steps"] == 9


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("gs://bucket/run", "is an address; mount the bucket"),
        ("/proc/zeroseg", "--workdir: /proc/zeroseg cannot be written"),
    ],
)
def test_a_workdir_that_cannot_be_is_one_sentence(place, sentence, configure, clip):
    with pytest.raises(ValueError, match=sentence):
        train(configure(), place, teacher=clip, options=QUIET)


def test_manifest_tells_what_ran(whole):
    record = json.loads((whole / "manifest.json").read_text())
    for key in ("config", "overrides", "packages", "python", "teacher", "devices", "steps"):
        assert key in record
