"""Export of a student and loading of it."""

import chex
import pytest

from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.student_files import export_params


def test_export_round_trip(tmp_path, whole):
    params, config, step = load_params(whole)
    export_params(params, config, tmp_path, {"step": step}, dtype="float32")
    found, again, found_step = load_params(tmp_path)
    assert (again, found_step) == (config, 8)
    chex.assert_trees_all_equal(found, params)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="model.safetensors"):
        load_params(tmp_path)


def test_no_student_there(tmp_path):
    with pytest.raises(ValueError, match="neither a work directory"):
        load_params(tmp_path)
