"""Scenes: pure functions of their index, exact masks, held-out pairs apart."""

import numpy as np
import pytest

from zeroseg_jax.data.playground import scenes


def test_scenes_are_pure_functions():
    for index in (0, 7):
        first, second = scenes.build_scene(0, index), scenes.build_scene(0, index)
        assert first == second
        np.testing.assert_array_equal(scenes.render(first, 48)[0], scenes.render(second, 48)[0])
    assert scenes.build_scene(0, 1) != scenes.build_scene(2, 1)


def test_the_world_is_as_rich_as_promised():
    assert len(scenes.SHAPES) >= 12 and len(scenes.COLOURS) >= 8 and len(scenes.STUFF) >= 6
    seen = [scenes.build_scene(0, i) for i in range(400)]
    things = [thing for scene in seen for thing in scene.things]
    assert {t.shape for t in things} == set(scenes.SHAPES)
    assert {t.colour for t in things} == set(scenes.COLOURS)
    assert {t.fill for t in things} == set(scenes.FILLS)
    assert {s for scene in seen for s in scene.stuff} == set(scenes.STUFF)


def test_held_out_pairs_never_occur_in_ordinary_scenes():
    for seed in (scenes.TRAIN_SEED, scenes.TUNE_SEED, scenes.EVALUATION_SEED):
        for index in range(200):
            for thing in scenes.build_scene(seed, index).things:
                assert (thing.shape, thing.colour) not in scenes.HELD_OUT
    for index in range(50):
        for thing in scenes.build_scene(2, index, held_out=True).things:
            assert (thing.shape, thing.colour) in scenes.HELD_OUT


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_masks_are_where_the_thing_is_drawn(shape):
    thing = scenes.Thing(shape, "red", "plain", 0.5, 0.5, 0.3, 0.2)
    scene = scenes.Scene(("night",), 0.5, 0.0, (thing,), (1.0, 2.0), 1.0)
    image, labels = scenes.render(scene, 96)
    mask = labels.thing > 0
    assert 0.05 < mask.mean() < 0.36
    assert set(np.unique(labels.thing)) == {0, scenes.SHAPES.index(shape) + 1}
    assert set(np.unique(labels.colour)) == {0, scenes.COLOURS.index("red") + 1}
    redness = image[..., 0].astype(int) - image[..., 2]
    assert redness[mask].mean() > 60 > redness[~mask].mean()


def test_a_window_shows_what_the_whole_shows():
    scene = scenes.build_scene(0, 3)
    _, whole = scenes.render(scene, 128)
    _, part = scenes.render(scene, 64, (0.0, 0.5, 0.5, 1.0))
    np.testing.assert_array_equal(part.thing, whole.thing[64:, :64])
