"""Tensor names and shapes of the published checkpoints against our towers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_clips import OPEN_BIGG, PUBLISHED, save
from small_clips import CONFIG

from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, OPEN_CLIP, read_config
from zeroseg_jax.teacher.checkpoints.layouts import TensorName, to_parameter
from zeroseg_jax.teacher.checkpoints.names import list_tensors
from zeroseg_jax.teacher.towers import TextTower, VisionTower


@pytest.mark.parametrize("name", PUBLISHED)
def test_tensors_on_disk_fit_the_towers_at_full_size(tmp_path, name):
    """Two blocks of each: the others are like them."""
    config = read_config(save(tmp_path, PUBLISHED[name]))
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, depth=2),
        text=dataclasses.replace(config.text, depth=2),
    )
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    ids = jnp.zeros((1, config.context_tokens), jnp.int32)
    towers = {"vision": (VisionTower(config), pixels), "text": (TextTower(config), ids)}
    expected = {}
    for part, (tower, x) in towers.items():
        shapes = jax.eval_shape(tower.init, jax.random.key(0), x)["params"]
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            expected["/".join([part, *(key.key for key in path)])] = leaf.shape
    found = {ours: tensor.parameter_shape for ours, tensor in list_tensors(config).items()}
    found = {ours: shape for ours, shape in found.items() if not ours.startswith("logit")}
    assert found == expected


def test_open_clips_bigg_is_hugging_faces(tmp_path):
    theirs = read_config(save(tmp_path, PUBLISHED["LAION bigG/14"]))
    (tmp_path / HUGGING_FACE).unlink()
    ours = read_config(save(tmp_path, OPEN_BIGG, OPEN_CLIP))
    assert ours == theirs
    sizes = [
        sum(math.prod(tensor.parameter_shape) for tensor in list_tensors(theirs, name).values())
        for name in (HUGGING_FACE, OPEN_CLIP)
    ]
    assert sizes[0] == sizes[1] and 2.53e9 < sizes[0] < 2.55e9  # as published: 2.54 billion


def test_stacked_rows_and_patches():
    tensor = TensorName("in_proj_weight", (6, 5), "transposed", 1)
    assert tensor.rows == (2, 2) and tensor.parameter_shape == (5, 2)
    kernel = np.arange(4 * 3 * 2 * 2).reshape(4, 3, 2, 2)
    found = to_parameter(TensorName("conv1.weight", kernel.shape, "patches"), kernel)
    # A patch is read row by row, with its channels last.
    expected = [[kernel[d, c, y, x] for d in range(4)]
                for y in range(2) for x in range(2) for c in range(3)]  # fmt: skip
    np.testing.assert_array_equal(found, expected)


def test_no_tensor_is_read_twice_but_the_stacked_ones():
    for config_file, stacked in ((HUGGING_FACE, 0), (OPEN_CLIP, 2 * 2 * 2)):
        tensors = list(list_tensors(CONFIG, config_file).values())
        names = {tensor.name for tensor in tensors}
        assert len(tensors) - len(names) == 2 * stacked
