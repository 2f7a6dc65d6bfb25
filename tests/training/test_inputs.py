"""A run's config and its bank must agree, field by field."""

import dataclasses
import shutil

import numpy as np
import pytest

from zeroseg_jax.data.records import BankError
from zeroseg_jax.training import inputs


@pytest.fixture
def own_bank(tmp_path, bank_dir, configure):
    """Return a config whose bank lies in its work directory."""
    shutil.copytree(bank_dir, tmp_path / "bank")
    config = configure()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, bank=""))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dtype", "float32", "dtype is 'float16' there but 'float32' in the config"),
        ("overlap", True, "overlap is False there but True in the config"),
        ("grids", (1, 3), "grids is [1, 2] there but [1, 3] in the config"),
    ],
)
def test_a_bank_of_other_settings_is_refused_by_name(tmp_path, configure, field, value, words):
    config = configure()
    other = dataclasses.replace(
        config, teacher=dataclasses.replace(config.teacher, **{field: value})
    )
    assert len(inputs.build_inputs(config, tmp_path, None, print).source) == 24
    with pytest.raises(BankError) as error:
        inputs.build_inputs(other, tmp_path, None, print)
    assert words in str(error.value)


def test_a_bank_serves_fewer_grids_and_images(tmp_path, configure):
    config = configure()
    whole = inputs.build_inputs(config, tmp_path, None, print).source
    one = dataclasses.replace(
        config,
        teacher=dataclasses.replace(config.teacher, grids=(1,)),
        loss=dataclasses.replace(config.loss, matching=0.0),
        data=dataclasses.replace(config.data, images=10),
    )
    part = inputs.build_inputs(one, tmp_path, None, print).source
    assert len(part) == 10 and part[9]["features"].shape == (1, 128)
    np.testing.assert_array_equal(part[9]["features"], whole[9]["features"][:1])
    np.testing.assert_array_equal(part[9]["image"], whole[9]["image"])
    batch = next(inputs.build_inputs(one, tmp_path, None, print).batches(0, batch_per_host=8))
    assert batch["features"].shape == (8, 1, 128) and batch["index"].max() < 10


def test_a_runs_own_bank_must_be_of_its_source(tmp_path, own_bank):
    assert inputs.build_inputs(own_bank, tmp_path, None, print).images == 24
    data = dataclasses.replace(own_bank.data, scene_seed=own_bank.data.scene_seed + 1)
    other = dataclasses.replace(own_bank, data=data)
    with pytest.raises(BankError, match="source.seed is"):
        inputs.build_inputs(other, tmp_path, None, print)


def test_live_features_that_are_not_finite_are_named(monkeypatch, configure, clip):
    """Before the first step, for the mean of the features initialises the student."""

    def encode(views):
        features = np.ones((len(views), 5, 128), np.float32)
        features[1, 2, 3] = np.nan
        return features

    monkeypatch.setattr(inputs, "build_encoder", lambda teacher: encode)
    source = [{"views": np.zeros((5, 8, 8, 3), np.uint8), "index": i} for i in (4, 7)]
    config = configure()
    data = dataclasses.replace(config.data, features="live")
    live = inputs.Inputs(source, clip, clip.digest, dataclasses.replace(config, data=data))
    with pytest.raises(ValueError, match="image 7: a feature of the teacher is NaN"):
        live.feature_mean()
