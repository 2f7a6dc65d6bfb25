"""Training images of the Playground's CLIP: groups differ in shape only."""

import numpy as np

from zeroseg_jax.data.playground import scenes
from zeroseg_jax.teacher.playground.training_images import build_batch


def test_groups_differ_in_shape_only():
    images, captions = build_batch(
        np.random.default_rng(0), 32, groups=1, views=4, seed=0, difficulty=0.5
    )
    assert images.shape == (16, 32, 32, 3) and len(captions) == 16
    forms = {
        " ".join(w for w in text.split() if w not in scenes.SHAPES + scenes.COLOURS + ("an", "a"))
        for text in captions[:12]
    }
    assert len(forms) == 1
