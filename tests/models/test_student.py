"""The student as a whole."""

import jax
import jax.numpy as jnp
import pytest

from zeroseg_jax.config import from_mapping
from zeroseg_jax.models import student as students


@pytest.mark.parametrize(("grouping", "region_readout"), [("learned", False), ("clustered", True)])
def test_no_two_parameters_share_a_buffer(grouping, region_readout):
    # A training step donates its state, and XLA refuses to be given one buffer twice.
    config = from_mapping(
        {
            "model": {
                "image_px": 16,
                "embed_dim": 8,
                "encoder": {"width": 8, "depth": 1, "heads": 1, "patch_px": 8},
                "decoder": {"width": 8, "depth": 1, "heads": 1},
                "head": {
                    "width": 8, "heads": 1, "z_hidden": 8, "segment_tokens": (4, 2),
                    "grouping": grouping, "region_readout": region_readout,
                },
            }
        }
    )  # fmt: skip
    params = students.init_params(students.build_student(config.model), jax.random.key(0))
    mean = jnp.arange(8.0)
    params = students.set_feature_mean(params, mean)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
    assert len(set(buffers)) == len(buffers)
    assert mean.unsafe_buffer_pointer() not in buffers
