"""Guide image of PAMR and of the guided filter: the pixels whose edges a refinement follows."""

from __future__ import annotations

import numpy as np

from zeroseg_jax.inference import windows
from zeroseg_jax.inference.presets import Preset

STEP_PX, _MAX_PX = 32, 2048


def build_guide(
    image: np.ndarray, preset: Preset, resized: np.ndarray | None = None
) -> np.ndarray | None:
    """Build the image whose edges a refinement follows.

    Args:
      image: uint8 (H, W, 3).
      preset: refinement, its size, and `guide`.
      resized: float32 (h, w, 3), the image as the model gets it; for guide "resized" alone.

    Returns:
      uint8 or float32 (gh, gw, 3) in [0, 255]; None without refinement. The guided filter takes
      the image's own size. PAMR takes it too, or a short side of preset.pamr_short_px in multiples
      of 32 px. No guide has a long side over 2048 px.

    Raises:
      ValueError: guide "resized" without that image.
    """
    sides = image.shape[:2]
    if preset.refine == "guided":
        scale = _MAX_PX / max(sides)
        return image if scale >= 1 else resize_guide(image, *(round(s * scale) for s in sides))
    if preset.refine == "none" or not preset.pamr_dilations:
        return None
    short = preset.pamr_short_px or min(sides)
    scale = min(1.0, short / min(sides), _MAX_PX / max(sides))
    if preset.pamr_short_px:
        steps = (max(1, round(side * scale / STEP_PX)) for side in sides)
        height, width = (step * STEP_PX for step in steps)
    else:
        height, width = (max(1, round(side * scale)) for side in sides)
    if preset.guide == "resized":
        if resized is None:
            raise ValueError("resized: guide=resized needs the image as the model gets it.")
        return windows.resize_floats(resized, height, width)
    return resize_guide(image, height, width)


def resize_guide(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) by Pillow's bicubic: uint8 (height, width, 3)."""
    guide = windows.resize_image(image, max(1, height), max(1, width), "antialiased")
    return np.clip(np.rint(guide), 0, 255).astype(np.uint8)
