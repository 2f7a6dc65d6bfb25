"""What the Playground's CLIP is fed: views of scenes with captions.

Shapes are slow to learn and colours fast, so most of a batch is groups of pictures that
differ in nothing but the shape; the rest are views of whole scenes, like those that a
student's grid of views will ask about. Source: own.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

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

_VISIBLE_THING = 0.35  # of a thing's disc in view, for it to be named
_VISIBLE_STUFF = 0.15  # of the view
_VIEW_SIDES = (1.0, 0.5, 1 / 3, 1 / 3, 0.25)  # those of a student's grids


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
      rng: every choice comes from here.
      image_px: side of a picture.
      groups: groups of pictures that differ in shape only (one picture a shape).
      views: views of scenes of split `seed`, some without things.
      seed: split of the scenes.
      difficulty: in [0, 1], how far the groups' things turn, shrink and move.

    Returns:
      Images uint8 (n, image_px, image_px, 3) and n captions.
    """
    pictures = []
    for _ in range(groups):
        pictures += _draw_group(rng, image_px, difficulty)
    for i in range(views):
        pictures.append(_draw_view(rng, image_px, seed, empty=i % 4 == 0))
    images, captions = zip(*pictures, strict=True)
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
    """Build a scene of one thing, and a window that it fills for the most part.

    Args:
      rng: every choice comes from here.
      shape, colour, stuff, fill: what is drawn.
      difficulty: in [0, 1]; 0 is upright, centred and large, 1 is as varied as scenes are.
      widest: the largest window, in diameters of the thing.

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
    """Render a view with a little supersampling: uint8 (image_px, image_px, 3)."""
    image, _ = render(scene, image_px * 5 // 4, window)
    resized = Image.fromarray(image).resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _draw_group(
    rng: np.random.Generator, image_px: int, difficulty: float
) -> list[tuple[np.ndarray, str]]:
    colour, stuff, fill = pick(rng, COLOURS), pick(rng, STUFF), pick_fill(rng)
    # The same generator state gives the pictures of a group one pose and one background,
    # and their captions one form: only the shape is left to tell them apart.
    pose, words = (int(n) for n in rng.integers(2**32, size=2))
    pictures = []
    for shape in SHAPES:
        mine = colour
        while (shape, mine) in HELD_OUT:
            mine = pick(rng, COLOURS)
        scene, window = build_portrait(
            np.random.default_rng(pose), shape, mine, stuff=stuff, fill=fill, difficulty=difficulty
        )
        caption = describe(scene, np.random.default_rng(words), keep=0.8, vague=0.0)
        pictures.append((draw(scene, image_px, window), caption))
    return pictures


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
