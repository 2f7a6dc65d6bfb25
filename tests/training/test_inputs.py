"""A run's config and its bank must agree, field by field."""

import dataclasses
import shutil

import pytest

from zeroseg_jax.data.bank import BankError
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


def test_a_runs_own_bank_must_be_of_its_source(tmp_path, own_bank):
    assert inputs.build_inputs(own_bank, tmp_path, None, print).images == 24
    data = dataclasses.replace(own_bank.data, scene_seed=own_bank.data.scene_seed + 1)
    other = dataclasses.replace(own_bank, data=data)
    with pytest.raises(BankError, match="source.seed is"):
        inputs.build_inputs(other, tmp_path, None, print)
