"""Manifest, refused settings and directories of a run."""

import json
import os
import shutil

import pytest

from tests.training.tiny import QUIET
from zeroseg_jax.data.locks import lock_directory
from zeroseg_jax.training.checkpoint import load_params
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
        ("s3://bucket/run", "is an address; give gs://BUCKET/NAME or the path of a mount"),
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


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", "{}", '{"config": null, "steps": 8}', '{"steps": 8}', "[" * 100_000,
     '{"config": {}, "steps": "8"}', '{"config": [], "steps": 8}', "\x00"],
)  # fmt: skip
def test_a_damaged_manifest_is_one_sentence_that_names_it(
    tmp_path, configure, clip, whole, content
):
    (tmp_path / "manifest.json").write_text(content)
    for read in (
        lambda: load_params(tmp_path),
        lambda: train(configure(), tmp_path, teacher=clip, options=QUIET),
    ):
        with pytest.raises(ValueError, match=r"manifest.json: ") as caught:
            read()
        assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["config", "model"])
@pytest.mark.parametrize("value", [3, [1], None, "x"])
def test_a_damaged_config_in_it_too(tmp_path, whole, part, value):
    manifest = json.loads((whole / "manifest.json").read_text())
    (manifest if part == "config" else manifest["config"])[part] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="config|model"):
        load_params(tmp_path)


def test_two_trainings_do_not_share_a_directory(tmp_path, configure, clip):
    with (
        lock_directory(tmp_path, "trains"),
        pytest.raises(ValueError, match=rf"process {os.getpid()} on .* trains there"),
    ):
        train(configure(), tmp_path, teacher=clip, options=QUIET)
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "manifest.json").exists()
