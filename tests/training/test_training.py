"""What the loop writes and refuses, and that it learns."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests.training.tiny import QUIET, TINY, losses_of
from zeroseg_jax.config import from_mapping
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.models.zeroseg.masking import count_visible
from zeroseg_jax.training import metrics as writer
from zeroseg_jax.training import optimizer
from zeroseg_jax.training import timing as goodput
from zeroseg_jax.training import trees as paths
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.loop import Options, train
from zeroseg_jax.training.previews import build_painter
from zeroseg_jax.training.student_files import export_params


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


def test_it_learns_eight_images(tmp_path, configure, clip):
    rarely = {"log_every_steps": 50, "checkpoint_every_steps": 150}
    config = configure(run=rarely, steps=150, base_rate=0.3)
    train(config, tmp_path, teacher=clip, options=QUIET)
    losses = losses_of(tmp_path)
    assert losses[150] < 0.9 * losses[1]


def test_export_round_trip(tmp_path, whole):
    params, config, step = load_params(whole)
    export_params(params, config, tmp_path, {"step": step}, dtype="float32")
    found, again, found_step = load_params(tmp_path)
    assert (again, found_step) == (config, 8)
    for name, leaf in paths.flatten(found).items():
        np.testing.assert_array_equal(leaf, paths.flatten(params)[name])
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="model.safetensors"):
        load_params(tmp_path)


def test_no_student_there(tmp_path):
    with pytest.raises(ValueError, match="neither a work directory"):
        load_params(tmp_path)


def test_schedule_and_decay_mask(configure):
    config = configure(base_rate=1.5e-4, batch_global=512, warmup_fraction=0.25)
    rate = optimizer.build_schedule(config, 100)
    assert rate(0) == 0
    np.testing.assert_allclose(rate(25), 3e-4, rtol=1e-6)
    np.testing.assert_allclose(rate(25 + 75 // 2 + 1), 1.5e-4, rtol=5e-2)
    assert abs(rate(100)) < 1e-9
    mask = optimizer.decay_mask(
        {"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
         "segment_tokens_0": np.ones((2, 2)), "positions": np.ones((2, 2))}
    )  # fmt: skip
    assert mask == {
        "a": {"kernel": True, "bias": False},
        "segment_tokens_0": False,
        "positions": False,
    }


def test_metrics_keep_each_step_once(tmp_path, configure):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    sinks = writer.Sinks(tmp_path, 2, configure())
    sinks.write({"step": 3, "again": True})
    sinks.close()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_shares_of_the_wall_time_add_up_over_restarts(whole):
    last = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    shares = {name: value for name, value in last.items() if name.startswith("share_")}
    assert set(shares) == {f"share_{kind}" for kind in (*goodput.KINDS, "other")}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(value >= 0 for value in shares.values()) and shares["share_compile"] > 0
    clock = goodput.Goodput()
    clock.restore(np.array([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 20.0]))
    with clock.measure("checkpoint"):
        pass
    assert clock.seconds("step") == 4.0 and 20 <= clock.total < 30
    np.testing.assert_allclose(clock.export()[:4], [1, 2, 3, 4])


def test_pictures_and_scalars_go_to_tensorboard_and_a_profile_is_written(tmp_path, configure, clip):
    pytest.importorskip("tensorboardX", reason="tensorboardX is an extra")
    config = configure(run={"pictures_every_steps": 4}, steps=6)
    options = dataclasses.replace(QUIET, profile_steps=1)
    train(config, tmp_path, teacher=clip, options=options)
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    for name in (b"loss_matching", b"segments/0", b"images_per_second"):
        assert name in events
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_pictures_show_what_is_left_and_what_the_decoder_makes_of_it(configure, clip):
    config = configure()
    rng = np.random.default_rng(0)
    side, patch = config.model.image_px, config.model.encoder.patch_px
    source = [{"image": rng.integers(0, 256, (side, side, 3), dtype=np.uint8)} for _ in range(2)]
    student = students.build_student(config.model)
    params = jax.jit(lambda key: students.init_params(student, key))(jax.random.key(1))
    painted = build_painter(config, source)(params)
    assert set(painted) == {"segments/0", "segments/1"}
    image, left, rebuilt, segments = np.split(painted["segments/0"], 4, axis=1)
    assert (image == source[0]["image"]).all() and (segments != image).any()
    grey = np.rint(255 * np.array(config.data.mean)).astype(int)
    blocks = (left.reshape(side // patch, patch, -1, patch, 3) == grey).all(axis=(1, 3, 4))
    patches = (side // patch) ** 2
    assert blocks.sum() == patches - count_visible(patches, config.model.mask_ratio)
    removed = blocks.repeat(patch, axis=0).repeat(patch, axis=1)
    # What was visible is shown as it is; what was removed is made up, with the truth's own scale.
    assert (rebuilt == image)[~removed].all() and (rebuilt != image)[removed].mean() > 0.9


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


def test_wandb_that_is_not_there_is_said(tmp_path, configure, clip, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--wandb_project: wandb is not installed"):
        writer.Sinks(tmp_path, 0, configure(), "project")


def test_manifest_tells_what_ran(whole):
    record = json.loads((whole / "manifest.json").read_text())
    for key in ("config", "overrides", "packages", "python", "teacher", "devices", "steps"):
        assert key in record


def test_first_match_rules():
    rules = (("^a/", 1), (".*", 2))
    assert paths.first_match(rules, "a/b") == 1 and paths.first_match(rules, "ba/") == 2
    with pytest.raises(KeyError, match="no rule for"):
        paths.first_match(rules[:1], "z")
