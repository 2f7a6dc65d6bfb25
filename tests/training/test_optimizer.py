"""Schedule, decay mask and the encoder's learning rate."""

import jax
import numpy as np
import pytest

from zeroseg_jax.training import optimizer


def test_schedule_and_decay_mask(configure):
    config = configure(base_rate=1.5e-4, batch_global=512, warmup_fraction=0.25)
    rate = optimizer.build_schedule(config, 100)
    assert rate(0) == 0
    np.testing.assert_allclose(rate(25), 3e-4, rtol=1e-6)
    np.testing.assert_allclose(rate(25 + 75 // 2 + 1), 1.5e-4, rtol=5e-2)
    assert abs(rate(100)) < 1e-9
    mask = optimizer.decay_mask(
        {"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
         "segment_tokens_0": np.ones((2, 2)), "positions": np.ones((2, 2))}
    )  # fmt: skip
    assert mask == {
        "a": {"kernel": True, "bias": False},
        "segment_tokens_0": False,
        "positions": False,
    }


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_polynomial_from_the_start_falls_during_the_warm_up(configure, fraction):
    config = configure(
        base_rate=6e-5, batch_global=256, warmup_fraction=fraction, schedule="poly_from_start"
    )
    rate = optimizer.build_schedule(config, 40)
    warmup = int(40 * fraction)
    for step in range(41):
        wanted = 6e-5 * (1 - step / 40) ** 0.9 * (min(step / warmup, 1) if warmup else 1)
        np.testing.assert_allclose(rate(step), wanted, rtol=1e-5, atol=1e-12)


def test_the_encoder_has_its_own_rate(configure):
    params = {
        "encoder": {"kernel": np.ones((2, 2), np.float32)},
        "head": {"kernel": np.ones((2, 2), np.float32)},
    }
    grads = jax.tree.map(np.ones_like, params)
    updates = {}
    for scale in (1.0, 0.5):
        build = optimizer.build_optimizer(configure(encoder_rate_scale=scale), 100)
        state = build.init(params)
        for _ in range(2):  # the rate of the first step is 0
            updates[scale], state = build.update(grads, state, params)
    plain, scaled = updates[1.0], updates[0.5]
    assert np.abs(plain["encoder"]["kernel"]).min() > 0
    np.testing.assert_array_equal(scaled["encoder"]["kernel"], 0.5 * plain["encoder"]["kernel"])
    np.testing.assert_array_equal(scaled["head"]["kernel"], plain["head"]["kernel"])


def test_the_first_moment_is_kept_in_bfloat16(configure):
    """One step is the same but for its rounding; the second moment and the update stay float32."""
    params = {"encoder": {"kernel": np.ones((4, 4), np.float32)}}
    found = {}
    for kind in ("float32", "bfloat16"):
        build = optimizer.build_optimizer(configure(first_moment=kind), 100)
        state, generator = build.init(params), np.random.default_rng(0)
        for _ in range(4):
            grads = {"encoder": {"kernel": generator.normal(size=(4, 4)).astype(np.float32)}}
            updates, state = build.update(grads, state, params)
        moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
        assert [leaf.dtype.name for leaf in moments] == [kind, "float32"]
        found[kind] = updates["encoder"]["kernel"]
        assert found[kind].dtype == np.float32
    assert not np.array_equal(found["float32"], found["bfloat16"])
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.05, atol=1e-7)
