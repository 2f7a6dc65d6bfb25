"""The command that made the shipped CLIP still makes one of that kind."""

import dataclasses
import json

import jax
import numpy as np
from safetensors import safe_open

from zeroseg_jax.teacher.checkpoints.config import read_config
from zeroseg_jax.teacher.load import SHIPPED
from zeroseg_jax.teacher.playground import clip as pretrain


def test_settings_and_tokenizer_are_those_of_the_shipped_clip(tmp_path):
    config = pretrain.build_config(pretrain.build_tokenizer(tmp_path))
    assert config == read_config(SHIPPED)
    shipped = json.loads((SHIPPED / "vocab.json").read_text())
    assert json.loads((tmp_path / "vocab.json").read_text()) == shipped


def test_a_step_learns_and_is_written_in_hugging_faces_layout(tmp_path):
    config = pretrain.build_config(pretrain.build_tokenizer(tmp_path))
    one_block = {
        name: dataclasses.replace(getattr(config, name), depth=1) for name in ("vision", "text")
    }
    config = dataclasses.replace(config, **one_block)
    optimizer = pretrain.build_optimizer(1e-3, 2)
    params = jax.jit(pretrain.init_params, static_argnums=0)(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    ids = rng.integers(0, config.end_token, (4, 8)).astype(np.int32)
    ids[:, -1] = config.end_token
    step = pretrain.build_step(config, optimizer)
    state, losses = optimizer.init(params), []
    for _ in range(2):
        params, state, metrics = step(params, state, images, ids)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all()
    pretrain.save(tmp_path, params, config, {})
    paths = (tmp_path / "model.safetensors", SHIPPED / "model.safetensors")
    with safe_open(paths[0], "numpy") as mine, safe_open(paths[1], "numpy") as shipped:
        assert set(mine.keys()) < set(shipped.keys())
