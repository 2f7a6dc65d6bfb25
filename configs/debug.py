"""Toy size for debugging: one minute on two cores, the teacher inside the training loop.

Paper: https://arxiv.org/abs/2306.00450
Command: zeroseg train --config=debug --workdir=runs/debug
Expected: 60 steps whose losses fall; no bank is needed.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base


def get_config() -> ConfigDict:
    """Return the only variant."""
    config = base.get_config("playground")
    config.name = "debug"
    config.model.image_px = 56
    config.model.encoder.update(width=64, depth=2, heads=2)
    config.model.decoder.update(width=32, depth=2, heads=2)
    config.model.head.update(width=64, heads=2, z_hidden=64, segment_tokens=(16, 8))
    config.teacher.grids = (1, 2)
    config.data.update(features="live", images=64)
    config.optim.update(batch_global=8, base_rate=3.2e-2, steps=60, warmup_fraction=0.1)
    config.optim.clip_norm = 1.0
    config.run.update(log_every_steps=1, checkpoint_every_steps=5)
    return config


def sweep():
    """Yield two learning rates with two seeds each."""
    for rate in (3.2e-2, 1e-2):
        for seed in (0, 1):
            yield {"optim.base_rate": rate, "run.seed": seed}
