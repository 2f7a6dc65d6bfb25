"""Scenes of the Playground: a procedural world of things on stuff with exact masks.

A scene is a pure function of (seed, index) in continuous coordinates. It can be drawn at any size
and through any window. x increases to the right and y downwards, both in [0, 1]. Source: own.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np

from zeroseg_jax.data.playground.textures import draw_texture, noise

Choice = TypeVar("Choice")

SHAPES = (
    "circle", "square", "triangle", "star", "ring", "cross",
    "heart", "moon", "arrow", "flower", "pill", "hourglass",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
FILLS = ("plain", "striped", "dotted")
STUFF = ("grass", "sky", "water", "sand", "brick", "night")
UPPER_STUFF = ("sky", "night", "brick")
LOWER_STUFF = ("grass", "water", "sand")

TRAIN_SEED, TUNE_SEED, EVALUATION_SEED = 0, 1, 2
SCENE_PX = 224  # side of the scenes of a split

COLOUR_RGB = {
    "red": (0.86, 0.13, 0.14),
    "orange": (0.98, 0.52, 0.07),
    "yellow": (0.99, 0.86, 0.15),
    "green": (0.10, 0.68, 0.30),
    "blue": (0.14, 0.33, 0.90),
    "purple": (0.52, 0.20, 0.72),
    "pink": (0.98, 0.50, 0.72),
    "white": (0.96, 0.96, 0.95),
}
# One colour of each shape occurs in held-out scenes only.
HELD_OUT = frozenset((shape, COLOURS[(3 * i + 1) % 8]) for i, shape in enumerate(SHAPES))

_LIGHT = np.array([-0.6, -0.8], np.float32)
_MAX_OVERLAP = 0.35  # in radii of the smaller thing, so that no thing hides another


@dataclasses.dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes:
      shape, colour, fill: names out of SHAPES, COLOURS and FILLS.
      x, y: centre in scene coordinates.
      radius: radius in units of the scene's side.
      angle: rotation in radians.
    """

    shape: str
    colour: str
    fill: str
    x: float
    y: float
    radius: float
    angle: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """Description of a scene.

    Attributes:
      stuff: one name of STUFF, or two: above and below the horizon.
      horizon: height of the horizon in the middle of the scene.
      slope: slope of the horizon.
      things: things from back to front.
      offset: shift of the texture noise, in lattice units.
      brightness: factor of all pixel values.
    """

    stuff: tuple[str, ...]
    horizon: float
    slope: float
    things: tuple[Thing, ...]
    offset: tuple[float, float]
    brightness: float


@dataclasses.dataclass(frozen=True)
class Labels:
    """Exact masks of a scene. Ids count from 1 in the order of the tuples of names; 0 is none.

    Attributes:
      thing: int32 (H, W), shape of the visible thing.
      colour: int32 (H, W), colour of the visible thing.
      stuff: int32 (H, W), stuff behind the things.
    """

    thing: np.ndarray
    colour: np.ndarray
    stuff: np.ndarray


def build_scene(seed: int, index: int, *, held_out: bool = False) -> Scene:
    """Build scene `index` of split `seed`.

    Args:
      seed: split: TRAIN_SEED, TUNE_SEED or EVALUATION_SEED, or another one, at least 0.
      index: index of the scene, at least 0.
      held_out: True draws only (shape, colour) pairs of HELD_OUT; no other scene has them.

    Returns:
      A scene of one to four things on one or two kinds of stuff.
    """
    rng = np.random.default_rng((seed, index, int(held_out)))
    stuff: tuple[str, ...]
    if rng.random() < 0.4:
        stuff = (pick(rng, UPPER_STUFF), pick(rng, LOWER_STUFF))
    else:
        stuff = (pick(rng, STUFF),)
    count = int(np.searchsorted((0.25, 0.6, 0.85), rng.random())) + 1
    things: list[Thing] = []
    for _ in range(count * 12):
        if len(things) == count:
            break
        radius = rng.uniform(0.13, 0.25) * (1.15 if count == 1 else 1.0)
        x, y = (rng.uniform(0.8 * radius, 1 - 0.8 * radius) for _ in range(2))
        if all(
            math.hypot(x - t.x, y - t.y) > radius + t.radius - _MAX_OVERLAP * min(radius, t.radius)
            for t in things
        ):
            things.append(_draw_thing(rng, x, y, radius, held_out))
    return Scene(
        stuff=stuff,
        horizon=rng.uniform(0.35, 0.65),
        slope=rng.uniform(-0.12, 0.12),
        things=tuple(things),
        offset=(rng.uniform(0, 64), rng.uniform(0, 64)),
        brightness=rng.uniform(0.88, 1.08),
    )


def pick(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    """Choose one of `choices` uniformly, much faster than rng.choice."""
    return choices[int(rng.integers(len(choices)))]


def pick_fill(rng: np.random.Generator) -> str:
    """Choose a fill; half of all things are plain."""
    return "plain" if rng.random() < 0.5 else pick(rng, FILLS[1:])


def _draw_thing(
    rng: np.random.Generator, x: float, y: float, radius: float, held_out: bool
) -> Thing:
    while True:
        shape, colour = pick(rng, SHAPES), pick(rng, COLOURS)
        if ((shape, colour) in HELD_OUT) == held_out:
            break
    fill = pick_fill(rng)
    return Thing(shape, colour, fill, x, y, radius, math.radians(rng.uniform(-40, 40)))


def render(
    scene: Scene, size_px: int, window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
) -> tuple[np.ndarray, Labels]:
    """Draw a window of a scene.

    Args:
      scene: scene to draw.
      size_px: height and width of the image.
      window: (left, top, right, bottom) in scene coordinates.

    Returns:
      The image, uint8 (size_px, size_px, 3), and its masks.
    """
    left, top, right, bottom = (float(edge) for edge in window)
    steps = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    u = left + (right - left) * steps[None, :]
    v = top + (bottom - top) * steps[:, None]
    pixel = (right - left) / size_px
    image, stuff = _draw_stuff(scene, u, v, pixel)
    thing_ids = np.zeros((size_px, size_px), np.int32)
    colour_ids = np.zeros_like(thing_ids)
    for thing in scene.things:
        _draw_on(image, thing_ids, colour_ids, thing, u, v, pixel)
    image = np.clip(image * (255 * scene.brightness), 0, 255)
    return (image + 0.5).astype(np.uint8), Labels(thing_ids, colour_ids, stuff)


def _draw_on(image, thing_ids, colour_ids, thing: Thing, u, v, pixel: float) -> None:
    reach = 1.35 * thing.radius + 2 * pixel
    columns = np.flatnonzero(np.abs(u[0] - thing.x) < reach)
    rows = np.flatnonzero(np.abs(v[:, 0] - thing.y) < reach)
    if not len(columns) or not len(rows):
        return
    area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dx = (u[:, columns] - thing.x) / thing.radius
    dy = (v[rows] - thing.y) / thing.radius
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    edge = pixel / thing.radius

    def distance(dx, dy):
        return _DISTANCES[thing.shape](cos * dx + sin * dy, cos * dy - sin * dx)

    inside = distance(dx, dy)
    shadow = np.clip(0.5 - distance(dx - 0.10, dy - 0.14) / 0.22, 0, 1)[..., None]
    patch = image[area] * (1 - 0.38 * shadow)
    cover = np.clip(0.5 - inside / edge, 0, 1)[..., None]
    image[area] = patch + cover * (_paint(thing, dx, dy, cos, sin, inside) - patch)
    mask = inside <= 0
    thing_ids[area][mask] = SHAPES.index(thing.shape) + 1
    colour_ids[area][mask] = COLOURS.index(thing.colour) + 1


def _paint(thing: Thing, dx, dy, cos, sin, inside) -> np.ndarray:
    """Return the surface, float (h, w, 3): fill, light from the upper left, dark rim."""
    base = np.array(COLOUR_RGB[thing.colour], np.float32)
    tone = base * 0.62 if base.mean() > 0.55 else base + 0.55 * (1 - base)
    a, b = cos * dx + sin * dy, cos * dy - sin * dx
    if thing.fill == "striped":
        second = np.clip(0.5 + 3.0 * np.sin((a + b) * 8.5), 0, 1)
    elif thing.fill == "dotted":
        second = np.clip(0.5 + 4.0 * (np.cos(a * 10.5) + np.cos(b * 10.5) - 0.75), 0, 1)
    else:
        second = np.zeros_like(inside)
    colour = base + second[..., None] * (tone - base)
    light = 1.0 + 0.16 * np.clip(_LIGHT[0] * dx + _LIGHT[1] * dy, -1, 1)
    rim = 1.0 - 0.45 * np.clip((inside + 0.09) / 0.05, 0, 1)
    return colour * (light * rim)[..., None]


# Signed distances in units of the radius, negative inside. Outside they need to be exact only near
# the edge, for anti-aliasing and the shadow.


def _box(x, y, half_width, half_height):
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _triangle(x, y):
    return np.maximum(0.866 * np.abs(x) - 0.5 * (y - 0.1), y - 0.1) - 0.47


def _star(x, y):
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    r = np.hypot(x, y)
    px, py = r * np.sin(angle), r * np.cos(angle)
    # The edge runs from the tip (0, 1) to the notch at radius 0.42, half a sector away.
    nx, ny = 0.42 * math.sin(sector / 2), 0.42 * math.cos(sector / 2)
    length = math.hypot(nx, ny - 1)
    return (px * (1 - ny) + (py - 1) * nx) / length


def _heart(x, y):
    x, y = np.abs(x) / 1.5, (0.85 - y) / 1.5
    upper = np.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    half = 0.5 * np.maximum(x + y, 0)
    lower = np.minimum(np.hypot(x, y - 1), np.hypot(x - half, y - half)) * np.sign(x - y)
    return np.where(x + y > 1, upper, lower) * 1.5


def _moon(x, y):
    return np.maximum(np.hypot(x, y) - 0.95, 0.8 - np.hypot(x - 0.5, y))


def _arrow(x, y):
    head = np.maximum(0.78 * np.abs(y) + 0.62 * (x - 0.95), 0.05 - x)
    return np.minimum(head, _box(x + 0.42, y, 0.5, 0.26))


def _flower(x, y):
    r = np.hypot(x, y)
    return (r - 0.69 - 0.23 * np.cos(5 * np.arctan2(x, -y))) * 0.7


def _pill(x, y):
    return np.hypot(x - np.clip(x, -0.58, 0.58), y) - 0.38


def _hourglass(x, y):
    return np.maximum((np.abs(x) - 0.1 - 0.75 * np.abs(y)) * 0.8, np.abs(y) - 0.86)


_DISTANCES = {
    "circle": lambda x, y: np.hypot(x, y) - 0.9,
    "square": lambda x, y: _box(x, y, 0.77, 0.77),
    "triangle": _triangle,
    "star": _star,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.66) - 0.27,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.3, 0.93), _box(x, y, 0.93, 0.3)),
    "heart": _heart,
    "moon": _moon,
    "arrow": _arrow,
    "flower": _flower,
    "pill": _pill,
    "hourglass": _hourglass,
}


def _draw_stuff(scene: Scene, u, v, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    ox, oy = np.float32(scene.offset[0]), np.float32(scene.offset[1])
    u, v = u.astype(np.float32), v.astype(np.float32)
    image = draw_texture(scene.stuff[0], u, v, (ox, oy)).astype(np.float32)
    ids = np.full(image.shape[:2], STUFF.index(scene.stuff[0]) + 1, np.int32)
    if len(scene.stuff) == 2:
        line = scene.horizon + scene.slope * (u - 0.5)
        line = line + 0.05 * (noise(u * 3.5 + ox, np.full((1, 1), 7.5, np.float32)) - 0.5)
        below = v - line
        lower = draw_texture(scene.stuff[1], u, v, (ox, oy))
        image += np.clip(below / pixel + 0.5, 0, 1)[..., None] * (lower - image)
        ids[below > 0] = STUFF.index(scene.stuff[1]) + 1
    return image, ids


def encode_scene(labels: Labels) -> np.ndarray:
    """Return a scene's class ids, int32 (H, W): shapes 0 .. 11, stuff 12 .. 17."""
    stuff = len(SHAPES) + labels.stuff - 1
    return np.where(labels.thing > 0, labels.thing - 1, stuff).astype(np.int32)
