"""Procedural textures of the Playground's stuff: grass, sky, water, sand, brick, night.

A texture is a function of scene coordinates u (1, W) and v (H, 1) and of an offset into the noise.
Source: own.
"""

from __future__ import annotations

import numpy as np

_NOISE = np.random.default_rng(20231).random((64, 64)).astype(np.float32)


def draw_texture(
    name: str, u: np.ndarray, v: np.ndarray, offset: tuple[np.float32, np.float32]
) -> np.ndarray:
    """Draw a texture.

    Args:
      name: one of scenes.STUFF.
      u: float32 (1, W), columns in scene coordinates.
      v: float32 (H, 1), rows in scene coordinates.
      offset: shift of the noise, in lattice units.

    Returns:
      float (H, W, 3), RGB in [0, 1].
    """
    return _TEXTURES[name](u, v, *offset)


def noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample smooth value noise.

    Args:
      x: float (1, W), columns in lattice units, period 64.
      y: float (H, 1), rows in lattice units, period 64.

    Returns:
      float32 (H, W), in [0, 1].
    """
    a, b, fx = _lattice(x[0])
    columns = _NOISE[:, a] * (1 - fx) + _NOISE[:, b] * fx
    c, d, fy = _lattice(y)
    return columns[c[:, 0]] * (1 - fy) + columns[d[:, 0]] * fy


def _lattice(x):
    low = np.floor(x)
    share = x - low
    low = low.astype(np.int32)
    return low & 63, (low + 1) & 63, share * share * (3 - 2 * share)


def _mix(first, second, share):
    return _mix_to(np.array(first, np.float32), second, share)


def _grass(u, v, ox, oy):
    blades = noise(u * 46 + ox, v * 13 + oy)
    tufts = noise(u * 7 + oy, v * 7 + ox)
    return _mix((0.13, 0.33, 0.10), (0.50, 0.72, 0.24), 0.65 * blades + 0.35 * tufts)


def _sky(u, v, ox, oy):
    clouds = 0.65 * noise(u * 4 + ox, v * 8 + oy) + 0.35 * noise(u * 10 + oy, v * 18 + ox)
    base = _mix((0.36, 0.62, 0.93), (0.72, 0.87, 0.98), np.broadcast_to(v, clouds.shape))
    return _mix_to(base, (1.0, 1.0, 1.0), np.clip((clouds - 0.52) * 3.2, 0, 0.9))


def _water(u, v, ox, oy):
    swell = noise(u * 5 + ox, v * 9 + oy)
    waves = 0.5 + 0.5 * np.sin(v * 75 + 7 * swell + 2 * np.sin(u * 9 + oy))
    return _mix((0.03, 0.23, 0.42), (0.22, 0.62, 0.72), 0.6 * waves**2 + 0.4 * swell)


def _sand(u, v, ox, oy):
    ripples = 0.5 + 0.5 * np.sin((v + 0.25 * u) * 38 + 6 * noise(u * 3 + ox, v * 3 + oy))
    grains = noise(u * 90 + oy, v * 90 + ox)
    return _mix((0.76, 0.62, 0.40), (0.96, 0.87, 0.66), 0.45 * ripples + 0.55 * grains)


def _brick(u, v, ox, oy):
    row = np.floor(v * 11 + oy)
    x, y = (u * 5.5 + 0.5 * (row % 2) + ox) % 1.0, (v * 11 + oy) % 1.0
    mortar = np.maximum(np.abs(x - 0.5) * 2 - 0.90, np.abs(y - 0.5) * 2 - 0.80) / 0.08
    column = np.floor(u * 5.5 + 0.5 * (row % 2) + ox)
    tint = _NOISE[row.astype(np.int32) & 63, column.astype(np.int32) & 63]
    wall = _mix((0.52, 0.20, 0.15), (0.72, 0.36, 0.26), tint)
    return _mix_to(wall, (0.80, 0.77, 0.71), np.clip(mortar, 0, 1))


def _night(u, v, ox, oy):
    haze = noise(u * 3 + ox, v * 3 + oy)
    base = _mix((0.03, 0.03, 0.11), (0.15, 0.11, 0.30), 0.5 * haze + 0.5 * v)
    stars = noise(u * 34 + oy, v * 34 + ox)
    return _mix_to(base, (1.0, 0.97, 0.85), np.clip((stars - 0.9) * 14, 0, 1))


def _mix_to(image, colour, share):
    return image + share[..., None].astype(np.float32) * (np.array(colour, np.float32) - image)


_TEXTURES = {
    "grass": _grass,
    "sky": _sky,
    "water": _water,
    "sand": _sand,
    "brick": _brick,
    "night": _night,
}
