"""Captions name what a scene shows."""

import dataclasses

import numpy as np

from zeroseg_jax.data.playground import scenes
from zeroseg_jax.data.playground.captions import describe


def test_captions_name_what_is_there():
    rng = np.random.default_rng(0)
    texts = set()
    for index in range(100):
        scene = scenes.build_scene(0, index)
        text = describe(scene, rng, vague=0.0)
        assert all(thing.shape in text for thing in scene.things)
        texts.add(text)
    assert len(texts) > 90
    empty = dataclasses.replace(scene, things=())
    assert scene.stuff[0] in describe(empty, rng)
