"""Training images and captions of the Playground's CLIP.

Shapes are learned slowly and colours fast. Most of a batch is therefore groups of images that
differ only in shape. The rest are views of scenes, as in a student's grids. Source: own.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from zeroseg_jax.data.playground.captions import describe
from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    HELD_OUT,
    SHAPES,
    STUFF,
    Scene,
    Thing,
    build_scene,
    pick,
    pick_fill,
    render,
)
from zeroseg_jax.data.transforms import resize

_VISIBLE_THING = 0.35  # minimum fraction of a thing's bounding square in view to be in the caption
_VISIBLE_STUFF = 0.15  # minimum fraction of the view
_VIEW_SIDES = (1.0, 0.5, 1 / 3, 1 / 3, 0.25)  # sides of the views of a student's grids


def build_batch(
    rng: np.random.Generator,
    image_px: int,
    *,
    groups: int,
    views: int,
    seed: int,
    difficulty: float = 1.0,
) -> tuple[np.ndarray, list[str]]:
    """Draw one training batch.

    Args:
      rng: generator of all random choices.
      image_px: side of an image.
      groups: number of groups of images that differ only in shape, with one image a shape.
      views: number of views of scenes, a quarter of them without things.
      seed: split of the scenes.
      difficulty: range of rotation, size and position in the groups, in [0, 1].

    Returns:
      Images uint8 (n, image_px, image_px, 3) and n captions.
    """
    pairs = []
    for _ in range(groups):
        pairs += _draw_group(rng, image_px, difficulty)
    for i in range(views):
        pairs.append(_draw_view(rng, image_px, seed, empty=i % 4 == 0))
    images, captions = zip(*pairs, strict=True)
    return np.stack(images), list(captions)


def build_portrait(
    rng: np.random.Generator,
    shape: str,
    colour: str,
    *,
    stuff: str,
    fill: str,
    difficulty: float = 1.0,
    widest: float = 2.0,
) -> tuple[Scene, tuple[float, float, float, float]]:
    """Build a scene of one thing, and a window that the thing mostly fills.

    Args:
      rng: generator of all random choices.
      shape, colour, stuff, fill: names of the thing's shape and colour, the background and the
        texture.
      difficulty: variety in [0, 1]; 0 is upright, centred and large, 1 is as varied as scenes.
      widest: largest side of the window, in diameters of the thing.

    Returns:
      The scene and a window (left, top, right, bottom).
    """
    radius = rng.uniform(0.13, 0.28)
    angle = math.radians(rng.uniform(-40, 40) * difficulty)
    thing = Thing(shape, colour, fill, 0.5, 0.5, radius, angle)
    scene = Scene(
        stuff=(stuff,),
        horizon=0.5,
        slope=0.0,
        things=(thing,),
        offset=(rng.uniform(0, 64), rng.uniform(0, 64)),
        brightness=rng.uniform(0.88, 1.08),
    )
    side = 2 * radius * rng.uniform(1.0, 1.1 + (widest - 1.1) * difficulty)
    shift = 0.5 * max(side - 1.7 * radius, 0.3 * radius) * difficulty
    x, y = (0.5 - side / 2 + rng.uniform(-shift, shift) for _ in range(2))
    return scene, (x, y, x + side, y + side)


def draw(scene: Scene, image_px: int, window: tuple[float, float, float, float]) -> np.ndarray:
    """Render a view with 1.25 times supersampling: uint8 (image_px, image_px, 3)."""
    image, _ = render(scene, image_px * 5 // 4, window)
    return resize(image, image_px, image_px)


def _draw_group(
    rng: np.random.Generator, image_px: int, difficulty: float
) -> list[tuple[np.ndarray, str]]:
    colour, stuff, fill = pick(rng, COLOURS), pick(rng, STUFF), pick_fill(rng)
    # The same generator state gives the images of a group one pose and one background, and their
    # captions one form, so that they differ only in shape.
    pose, form = (int(n) for n in rng.integers(2**32, size=2))
    pairs = []
    for shape in SHAPES:
        other = colour
        while (shape, other) in HELD_OUT:
            other = pick(rng, COLOURS)
        scene, window = build_portrait(
            np.random.default_rng(pose), shape, other, stuff=stuff, fill=fill, difficulty=difficulty
        )
        caption = describe(scene, np.random.default_rng(form), keep=0.8, vague=0.0)
        pairs.append((draw(scene, image_px, window), caption))
    return pairs


def _draw_view(
    rng: np.random.Generator, image_px: int, seed: int, *, empty: bool
) -> tuple[np.ndarray, str]:
    scene = build_scene(seed, int(rng.integers(1 << 30)))
    if empty:
        scene = dataclasses.replace(scene, things=())
    side = min(1.0, pick(rng, _VIEW_SIDES) * rng.uniform(0.9, 1.1))
    left, top = (rng.uniform(0, 1 - side) for _ in range(2))
    if scene.things and side < 0.6 and rng.random() < 0.8:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        left, top = (
            min(max(centre - side / 2 + rng.uniform(-0.25, 0.25) * side, 0.0), 1 - side)
            for centre in (thing.x, thing.y)
        )
    window = (left, top, left + side, top + side)
    things = tuple(t for t in scene.things if _share_in_view(t, window) > _VISIBLE_THING)
    _, labels = render(dataclasses.replace(scene, things=()), 12, window)
    stuff = tuple(
        s for s in scene.stuff if (labels.stuff == STUFF.index(s) + 1).mean() > _VISIBLE_STUFF
    )
    return draw(scene, image_px, window), describe(scene, rng, things=things, stuff=stuff)


def _share_in_view(thing: Thing, window: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = window
    x = min(thing.x + thing.radius, right) - max(thing.x - thing.radius, left)
    y = min(thing.y + thing.radius, bottom) - max(thing.y - thing.radius, top)
    return max(x, 0.0) * max(y, 0.0) / (2 * thing.radius) ** 2
