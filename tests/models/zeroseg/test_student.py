"""The student as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.building import draw_params
from zeroseg_jax.config import from_mapping
from zeroseg_jax.models.zeroseg import student as students


def small_model(image_px, width, heads, depths, **head):
    encoder_depth, decoder_depth = depths
    return from_mapping(
        {
            "model": {
                "image_px": image_px,
                "embed_dim": 8,
                "encoder": {"width": width, "depth": encoder_depth, "heads": heads, "patch_px": 8},
                "decoder": {"width": width, "depth": decoder_depth, "heads": heads},
                "head": {
                    "width": width, "heads": heads, "z_hidden": width, "segment_tokens": (4, 2),
                    **head,
                },
            }
        }
    ).model  # fmt: skip


@pytest.mark.parametrize(("grouping", "region_readout"), [("learned", False), ("clustered", True)])
def test_no_two_parameters_share_a_buffer(grouping, region_readout):
    # A training step donates its state, and XLA refuses to be given one buffer twice.
    model = small_model(16, 8, 1, (1, 1), grouping=grouping, region_readout=region_readout)
    params = draw_params(students.build_student(model))
    mean = jnp.arange(8.0)
    params = students.set_feature_mean(params, mean)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
    assert len(set(buffers)) == len(buffers)
    assert mean.unsafe_buffer_pointer() not in buffers


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "dots"])
def test_a_loop_over_the_blocks_changes_no_number(remat):
    model = small_model(32, 16, 2, (3, 2), grouping="clustered", all_levels=True)
    params = draw_params(students.build_student(model))
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))

    def differentiate(**how):
        student = students.build_student(model, **how)

        def loss(params):
            out = students.apply_train(student, params, images, key=jax.random.key(2))
            return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(out))

        return jax.jit(jax.value_and_grad(loss))(params)

    plain, looped = differentiate(), differentiate(remat=remat, scan=True)
    assert jax.tree.structure(plain) == jax.tree.structure(looped)
    # The same operations; XLA fuses and adds in another order. Gradients that are nothing but
    # rounding, as a key's bias has, are measured by the largest.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain))
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(looped), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6 * largest)
