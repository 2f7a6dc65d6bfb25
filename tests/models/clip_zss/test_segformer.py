"""Stochastic depth and dropout of SegFormer: rates, scaling, and nothing without a key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.models.clip_zss import segformer
from zeroseg_jax.models.clip_zss.segformer import MIT_SIZES, MixBlock

RATE = 0.5


@pytest.fixture(scope="module")
def block():
    """A block that drops, its parameters and an input of 64 images."""
    x = jax.random.normal(jax.random.key(0), (64, 4, 4, 8))
    module = MixBlock(heads=2, reduction=2, mlp_ratio=2, drop_path=RATE)
    return module, module.init(jax.random.key(1), x)["params"], x


def test_rates_are_those_of_transformers():
    torch = pytest.importorskip("torch", reason="parity needs torch, see make test")
    from transformers import SegformerConfig, SegformerModel

    depths = list(MIT_SIZES["mit_b0"].depths)
    with torch.device("meta"):
        model = SegformerModel(SegformerConfig(depths=depths, drop_path_rate=0.1))
    modules = model.named_modules()
    theirs = [getattr(m, "drop_prob", 0.0) for name, m in modules if name.endswith("drop_path")]
    np.testing.assert_allclose(segformer.drop_rates(MIT_SIZES["mit_b0"], 0.1), theirs, atol=1e-7)


def test_a_dropped_branch_adds_nothing_and_the_others_twice_as_much(block):
    """At a rate of one half each image has one of four outcomes."""
    module, params, x = block
    silent = {name: jax.tree.map(jnp.zeros_like, params[name]) for name in ("out", "fc2")}

    def attend(y):
        return module.apply({"params": {**params, "fc2": silent["fc2"]}}, y) - y

    def expand(y):
        return module.apply({"params": {**params, "out": silent["out"]}}, y) - y

    outcomes = []
    for first in (0, 2):
        y = x + first * attend(x)
        outcomes += [y, y + 2 * expand(y)]
    found = module.apply({"params": params}, x, rngs={"drop": jax.random.key(2)})
    away = np.stack([np.abs(found - wanted).max(axis=(1, 2, 3)) for wanted in outcomes])
    assert (away.min(axis=0) < 1e-4).all()
    counts = np.bincount(away.argmin(axis=0), minlength=4)
    assert (counts > 6).all()  # 16 each on average


def test_without_a_key_nothing_is_dropped(block):
    module, params, x = block
    plain = MixBlock(heads=2, reduction=2, mlp_ratio=2)
    np.testing.assert_array_equal(
        module.apply({"params": params}, x), plain.apply({"params": params}, x)
    )


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_the_head_drops_channels_and_keeps_their_mean(remat):
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    encoder = segformer.MixTransformer(MIT_SIZES["mit_tiny"], remat=remat, drop_path=0.2)
    maps, variables = encoder.init_with_output(jax.random.key(1), images)
    head = segformer.AllMlpHead(64, dropout=0.25)
    whole, params = head.init_with_output(jax.random.key(2), maps)
    dropped = head.apply(params, maps, rngs={"drop": jax.random.key(3)})
    gone = np.asarray((dropped == 0).all(axis=(1, 2)) & ~(whole == 0).all(axis=(1, 2)))
    assert 0.1 < gone.mean() < 0.4
    kept = np.broadcast_to(~gone[:, None, None], whole.shape)
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-6)

    # The gradient passes, and two keys give two values.
    def total(variables, key):
        return sum(y.sum() for y in encoder.apply(variables, images, rngs={"drop": key}))

    values = [jax.value_and_grad(total)(variables, jax.random.key(k)) for k in (4, 5)]
    assert values[0][0] != values[1][0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values[0][1]))
