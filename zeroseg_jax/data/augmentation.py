"""Random scale, crop and colour of a training square, with its fused label map (CLIP-ZSS).

Letters: S side of the training square, M side of the label map.

Source: mmsegmentation's random resize, random crop (cat_max_ratio) and photometric distortion, as
in ZegCLIP's released configs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.config import Config

IGNORE = -1  # id of a label map's cell without a label
_TRIES = 10  # crops drawn until one holds several classes
# Photometric distortion: shift of pixel values, factors of contrast and saturation, and shift of
# the hue in units of 2 degrees.
_BRIGHTNESS, _FACTORS, _HUE = 32.0, (0.5, 1.5), 18
_HUE_LEVELS = 256 / 180  # Pillow's hue has 256 levels


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation of one record, a function of the record and a random generator.

    Attributes:
      scales: least and most factor of the side; above 1 a crop is cut, below 1 the rest is padded.
      class_share: largest share of one id in a crop, of cells with a label; 1 takes any crop.
      colour: True distorts brightness, contrast, saturation and hue.
      fill: RGB of pixels beyond the image.
    """

    scales: tuple[float, float]
    class_share: float
    colour: bool
    fill: tuple[int, int, int]

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return the record with another "image", uint8 (S, S, 3), and "fused", int16 (M, M).

        The teacher's features stay: those of regions follow the ids, the class token is still that
        of the whole square.
        """
        image, fused = record["image"], record["fused"]
        side = round(len(image) * rng.uniform(*self.scales))
        top, left = self._choose_corner(fused, len(image), side, rng)
        content = cut(image, side, top, left)
        if self.colour:
            content = distort(content, rng)
        square = np.empty_like(image)
        square[:] = self.fill
        square[: len(content), : len(content)] = content
        return {**record, "image": square, "fused": cut_labels(fused, len(image), side, top, left)}

    def _choose_corner(
        self, fused: np.ndarray, size: int, side: int, rng: np.random.Generator
    ) -> tuple[int, int]:
        """Draw a crop; again, at most ten times, while one id has more than class_share of it."""
        margin = max(side - size, 0)
        if not margin:
            return 0, 0
        top, left = (int(v) for v in rng.integers(0, margin + 1, 2))
        for _ in range(_TRIES if self.class_share < 1 else 0):
            cells = cut_labels(fused, size, side, top, left)
            counts = np.unique(cells[cells != IGNORE], return_counts=True)[1]
            if len(counts) > 1 and counts.max() < self.class_share * counts.sum():
                break
            top, left = (int(v) for v in rng.integers(0, margin + 1, 2))
        return top, left


def build_augmentation(config: Config) -> Augmentation | None:
    """Return the augmentation of a config; None without any."""
    settings = config.clip_zss.augment
    if config.objective != "clip_zss" or (settings.scales == (1.0, 1.0) and not settings.colour):
        return None
    red, green, blue = (round(255 * value) for value in config.data.mean)
    return Augmentation(settings.scales, settings.class_share, settings.colour, (red, green, blue))


def cut(image: np.ndarray, side: int, top: int, left: int) -> np.ndarray:
    """Resize uint8 (S, S, 3) to `side` and cut S x S from the corner; all of a smaller one."""
    size = len(image)
    if side == size:
        return image
    width = min(side, size)
    x, y, edge = (v * size / side for v in (left, top, width))
    return np.asarray(
        Image.fromarray(image).resize(
            (width, width), Image.Resampling.BILINEAR, (x, y, x + edge, y + edge)
        )
    )


def cut_labels(fused: np.ndarray, size: int, side: int, top: int, left: int) -> np.ndarray:
    """Return the ids under the cells' centres after `cut`: int16 (M, M), IGNORE beyond the image.

    Args:
      fused: int16 (M, M), label map of the square of `size` px.
      size, side, top, left: S, and the arguments of `cut`.
    """
    cells = len(fused)
    centres = (np.arange(cells) + 0.5) * size / cells
    rows, columns = ((centres + start) * cells / side for start in (top, left))
    inside = (rows < cells)[:, None] & (columns < cells)
    at = [np.minimum(places.astype(np.int64), cells - 1) for places in (rows, columns)]
    return np.where(inside, fused[at[0][:, None], at[1]], np.int16(IGNORE))


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distort colours: brightness, contrast, saturation and hue, each with probability 1/2.

    Contrast comes before saturation and hue or after them, with equal chance. Values are clipped
    and rounded to uint8 after each change.
    """
    pixels = image
    if rng.integers(2):
        pixels = _to_bytes(pixels + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS))
    contrast = rng.uniform(*_FACTORS) if rng.integers(2) else 1.0
    early = bool(rng.integers(2))
    if early:
        pixels = _to_bytes(pixels * contrast)
    saturation = rng.uniform(*_FACTORS) if rng.integers(2) else 1.0
    hue = int(rng.integers(-_HUE, _HUE)) if rng.integers(2) else 0
    pixels = _shift_colour(pixels, saturation, hue)
    return pixels if early else _to_bytes(pixels * contrast)


def _shift_colour(image: np.ndarray, saturation: float, hue: int) -> np.ndarray:
    if saturation == 1.0 and not hue:
        return image
    values = np.array(Image.fromarray(image).convert("HSV"))
    values[..., 0] += np.uint8(round(hue * _HUE_LEVELS) % 256)  # wraps around
    values[..., 1] = _to_bytes(values[..., 1] * saturation)
    return np.asarray(Image.fromarray(values, "HSV").convert("RGB"))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
