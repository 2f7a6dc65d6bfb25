"""loss.dense: targets of every read-out in the bank, gradients, refusals, a run by the console."""

import dataclasses
import json
import shutil
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from tests.training.tiny import QUIET, TINY, losses_of, quiet
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.data.joined_banks import DenseSource
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.models.zeroseg import losses
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher.dense_targets import prepare_dense, resample
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training import inputs
from zeroseg_jax.training.loop import train

CLUSTERED = {**TINY["model"], "head": {**TINY["model"]["head"], "grouping": "clustered"}}


def configure(directory="", *, loss=None, **teacher):
    return from_mapping(
        {
            **TINY,
            "model": CLUSTERED,
            "loss": {**TINY["loss"], "patch": 1.0, "dense": 1.0, **(loss or {})},
            "teacher": {**TINY["teacher"], **teacher},
            "data": {"images": 24, "bank": str(directory)},
            "optim": {**TINY["optim"], "steps": 2},
        }
    )


@pytest.fixture(scope="module")
def clip():
    return load_teacher("playground")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, clip):
    directory = tmp_path_factory.mktemp("dense") / "bank"
    prepare_bank(configure(), directory, clip, quiet)
    assert prepare_dense(configure(), directory, clip, quiet)
    return directory


def read_out(clip, image, readout, affinity=None):
    pixels = (image / 255 - np.array(clip.mean)) / np.array(clip.std)
    return np.asarray(clip.dense(pixels[None].astype(np.float32), readout, affinity))[0]


@pytest.mark.parametrize("readout", ["maskclip", "scclip", "proxy"])
def test_targets_are_the_read_outs_of_the_patches(tmp_path, prepared, clip, readout):
    place = tmp_path / "bank"
    shutil.copytree(prepared, place, ignore=shutil.ignore_patterns("dense"))
    second = {"affinity": "playground"} if readout == "proxy" else {}
    config = configure(readout=readout, **second)
    prepare_dense(config, place, clip, quiet)
    source = DenseSource(place)
    assert len(source) == 24
    for index in (0, 17):  # of the first group and of the last, which is padded
        expected = read_out(clip, source[index]["image"], readout, clip if second else None)
        found = source[index]["dense"]
        assert found.shape == (16, 128) and found.dtype == np.float16
        np.testing.assert_allclose(found, expected.reshape(16, 128), rtol=2e-3, atol=2e-3)


def test_a_finer_grid_is_averaged_and_its_own_grid_kept():
    tokens = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(resample(tokens, 4), tokens.reshape(2, 16, 3))
    flat = resample(np.ones((1, 16, 16, 2), np.float32), 14)
    np.testing.assert_allclose(flat, np.ones((1, 196, 2)), rtol=1e-6)
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 1))[None]
    np.testing.assert_allclose(resample(ramp, 4)[0, ::4, 0][1:3], [2.5, 4.5], rtol=1e-6)


@pytest.mark.slow
def test_the_term_moves_what_clusters_patches_at_test_time_and_nothing_behind_it(prepared):
    """With every other weight 0; see dense_loss for what it reaches."""
    config = configure()
    student = students.build_student(config.model, attention="xla")
    params = students.init_params(student, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    views = list_windows(config)
    only = {name: 0.0 for name in ("reconstruction", "distillation", "matching", "cell", "patch")}
    features = rng.normal(size=(2, len(views), 128)).astype(np.float32)
    dense = rng.normal(size=(2, 16, 128)).astype(np.float16)

    def loss(params, targets):
        outputs = students.apply_train(student, params, images, key=jax.random.key(1))
        return losses.total_loss(
            outputs, outputs.pixels, features, configure(loss=only).loss,
            windows=views, dense=targets,
        )[0].mean()  # fmt: skip

    gradients = jax.grad(loss)(params, dense)
    for name in ("patch_projection", "patch_norm", "embedding"):
        for leaf in jax.tree.leaves(gradients["head"][name]):
            assert np.abs(leaf).max() > 1e-7, name
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients["encoder"])) > 1e-7
    for name in ("segment_projection", "global_mlp"):
        chex.assert_trees_all_equal(
            gradients["head"][name], jax.tree.map(np.zeros_like, gradients["head"][name])
        )
    # The maps of apply_segment change with what the term moves.
    moved = jax.tree.map(lambda p, g: p - 50 * g, params, gradients)
    assert loss(moved, dense) < loss(params, dense)
    before, after = (students.apply_segment(student, p, images).maps for p in (params, moved))
    assert np.abs(before - after).max() > 1e-3


def test_a_run_without_the_term_is_not_changed_by_targets_beside_the_bank(tmp_path, prepared, clip):
    without = configure(prepared, loss={"dense": 0.0})
    source = inputs.build_inputs(without, tmp_path, clip, quiet)
    assert "dense" not in next(source.batches(0, batch_per_host=2))
    assert "dense" not in inputs.describe_batch(without)
    config = configure(prepared)
    batch = next(inputs.build_inputs(config, tmp_path, clip, quiet).batches(0, batch_per_host=8))
    described = inputs.describe_batch(config)["dense"]
    assert (batch["dense"].shape, batch["dense"].dtype) == (described.shape, described.dtype)


def test_training_needs_targets_of_its_own_settings(tmp_path, prepared, clip):
    with pytest.raises(bank.BankError, match="readout is 'maskclip' there but 'scclip'"):
        inputs.build_inputs(configure(prepared, readout="scclip"), tmp_path, clip, quiet)
    with pytest.raises(bank.BankError, match="begun with readout = 'maskclip'"):
        prepare_dense(configure(readout="scclip"), prepared, clip, quiet)
    bare = tmp_path / "bank"
    shutil.copytree(prepared, bare, ignore=shutil.ignore_patterns("dense"))
    with pytest.raises(bank.BankError, match="no finished bank there; run `zeroseg prepare`"):
        inputs.build_inputs(configure(bare), tmp_path, clip, quiet)


def test_a_damaged_shard_is_made_again_and_goes_with_that_of_the_images(tmp_path, prepared, clip):
    place = tmp_path / "bank"
    shutil.copytree(prepared, place)
    shard = place / "dense" / "shard-00000.arrayrecord"
    good = DenseSource(place)[3]["dense"]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    lines = []
    prepare_dense(configure(), place, clip, lines.append)
    assert "dense targets: shard 0 is made again, because it is damaged" in lines
    np.testing.assert_array_equal(DenseSource(place)[3]["dense"], good)
    images = place / "shard-00000.arrayrecord"
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    (place / ".checked.json").unlink(missing_ok=True)
    prepare_bank(configure(), place, clip, quiet)
    assert not shard.exists()


def test_targets_that_overflow_are_refused(tmp_path, prepared, clip, monkeypatch):
    place = tmp_path / "bank"
    shutil.copytree(prepared, place, ignore=shutil.ignore_patterns("dense"))
    monkeypatch.setattr(
        "zeroseg_jax.teacher.dense_targets.embed_patches",
        lambda clip, squares, *_: np.full((len(squares), 4, 4, 128), 1e5, np.float32),
    )
    with pytest.raises(ValueError, match="1e.05 overflows float16; set teacher.dtype=float32"):
        prepare_dense(configure(), place, clip, quiet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.head.grouping": "learned", "loss.patch": 0.0}, "loss.dense: needs model.head"),
        ({"data.features": "live"}, "loss.dense: reads targets made by prepare"),
        ({"teacher.readout": "proxy"}, "teacher.affinity: empty; teacher.readout=proxy needs"),
        ({"teacher.affinity": "dinov2"}, "teacher.affinity: dinov2 is not read"),
        ({"teacher.readout": "clip"}, "teacher.readout"),
        ({"loss.dense": -1.0}, "loss.dense"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(changes, message):
    from zeroseg_jax.assets.recipes import zeroseg_plus

    raw = zeroseg_plus.get_config("playground")
    raw.loss.dense = 1.0
    raw.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        from_mapping(raw.to_dict())


def test_a_square_that_does_not_fit_the_patch_is_refused_before_the_read_out(prepared, clip):
    config = configure()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, image_px=36))
    with pytest.raises(ValueError, match="36 is not a multiple of the patch of 8 px"):
        prepare_dense(config, prepared, clip, quiet)


@pytest.mark.slow
def test_a_run_learns_its_targets(tmp_path, prepared, clip):
    config = configure(prepared)
    optim = dataclasses.replace(config.optim, steps=24, base_rate=0.05)
    train(dataclasses.replace(config, optim=optim), tmp_path, teacher=clip, options=QUIET)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss_dense"] < 0.9 * rows[0]["loss_dense"]


@pytest.mark.slow
def test_the_recipe_runs_from_prepare_to_evaluate(tmp_path):
    given = [
        "--config=zeroseg_plus:playground", f"--workdir={tmp_path}", "--config.data.images=8",
        "--config.optim.batch_global=4", "--config.optim.steps=2", "--config.teacher.grids=(1,2)",
        "--config.mesh.data=1", "--config.loss.dense=0.5", "--config.teacher.readout=scclip",
    ]  # fmt: skip
    score = ["--benchmark=playground/things", "--images=2", f"--output={tmp_path / 'reports'}"]
    for verb in (
        ["prepare", *given],
        ["train", *given],
        ["evaluate", f"--workdir={tmp_path}", "--pictures=0", *score],
    ):
        subprocess.run([sys.executable, "-m", "zeroseg_jax", *verb], check=True)
    assert np.isfinite(list(losses_of(tmp_path).values())).all()
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < row["loss_dense"] < 2
    report = json.loads((tmp_path / "reports" / "report.json").read_text())
    assert 0 <= report["miou"] <= 100
