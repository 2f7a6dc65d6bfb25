"""A student's weights mixed with its teacher's, from a run over exports to a prediction."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from zeroseg_jax import Predictor
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.inference import model as models
from zeroseg_jax.inference import model_files
from zeroseg_jax.training.checkpoint import load_params


def with_share(config, share):
    encoder = dataclasses.replace(config.model.encoder, teacher_share=share)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))


@pytest.fixture(scope="module")
def trained():
    return load_params(models.SHIPPED_STUDENT)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    params, config, step = trained
    directory = tmp_path_factory.mktemp("blend") / "student"
    facts = model_files.read_facts(models.SHIPPED_STUDENT)
    model_files.write_pretrained(params, with_share(config, 0.25), directory, facts, step=step,
                                 teacher="playground")  # fmt: skip
    return directory


def test_a_quarter_of_the_teachers_tower_is_in_the_encoder_that_started_as_it(exported, trained):
    params, _, _ = trained
    found = models.load(exported)
    tower = found.teacher.vision_params
    for name in ("blocks_2", "class_token", "post_norm"):
        wanted = jax.tree.map(
            lambda x, y: 0.75 * np.asarray(x) + 0.25 * np.asarray(y),
            params["encoder"][name], tower[name],
        )  # fmt: skip
        chex.assert_trees_all_close(found.params["encoder"][name], wanted, atol=1e-6)
    kernel = params["region_projection"]["kernel"] * 0.75 + 0.25 * tower["projection"]["kernel"]
    np.testing.assert_allclose(found.params["region_projection"]["kernel"], kernel, atol=1e-6)
    chex.assert_trees_all_equal(found.params["head"], params["head"])
    chex.assert_trees_all_equal(
        found.params["region_projection"]["bias"], params["region_projection"]["bias"]
    )


def test_a_saved_predictor_is_not_blended_again(exported, tmp_path):
    first = Predictor.from_pretrained(exported, cache_names=False)
    first.save_pretrained(tmp_path / "saved")
    saved, config, _ = load_params(tmp_path / "saved")
    assert config.model.encoder.teacher_share == 0
    chex.assert_trees_all_equal(models.load(tmp_path / "saved").params, saved)
    chex.assert_trees_all_equal(saved, first.model.params)


def test_without_a_share_nothing_changes(trained):
    params, config, step = trained
    assert config.model.encoder.teacher_share == 0
    clip = models.load_teacher("playground")
    assert models.from_run(params, config, clip, f"at {step}").params is params


def test_only_what_started_as_its_teacher_can_go_back():
    with pytest.raises(ConfigError, match="model.encoder.teacher_share: needs model.encoder.init"):
        from_mapping({"model": {"encoder": {"teacher_share": 0.5}}})
