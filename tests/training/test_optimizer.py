"""Schedule, decay mask and the encoder's learning rate."""

import jax
import numpy as np

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
