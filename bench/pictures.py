"""Pictures of README.md and docs/ that models and recipes draw: scene, overlay, panels, regions.

python -m bench.pictures
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from zeroseg_jax import Predictor
from zeroseg_jax.assets.recipes import clip_zss
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import drawing, files
from zeroseg_jax.data.bank import REGIONS_FOLDER, bank_directory
from zeroseg_jax.data.playground.scenes import (
    EVALUATION_SEED,
    SCENE_PX,
    SHAPES,
    STUFF,
    build_scene,
    encode_scene,
    render,
)
from zeroseg_jax.inference.web.server import EXAMPLES
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.region_labels import prepare_regions

_README_PX = 512
_PANELS = (0, 4, 6, 7)  # indices of evaluation scenes, not selected by their results
_REGIONS = (2, 3, 4, 5)  # indices of training scenes, the first with unseen things


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("output", "docs/images", "directory of the pictures")


def main(arguments: list[str]) -> None:
    """Draw every picture."""
    del arguments
    output = Path(FLAGS.output)
    predictor = Predictor.from_pretrained("playground")
    index, words = EXAMPLES[0]
    scene = render(build_scene(EVALUATION_SEED, index), _README_PX)[0]
    result = predictor.segment(scene, words)
    print(result)
    files.write_png(output / "scene.png", scene)
    files.write_png(output / "scene_overlay.png", result.overlay())
    panels = [draw_scene(predictor, index) for index in _PANELS]
    files.write_png(output / "playground.png", stack(panels))
    files.write_png(output / "clip_zss_regions.png", draw_regions())


def draw_scene(predictor: Predictor, index: int) -> np.ndarray:
    """Draw an evaluation scene, its truth, prediction and segments: uint8 (H, W, 3)."""
    image, labels = render(build_scene(EVALUATION_SEED, index), SCENE_PX)
    names = [*SHAPES, *STUFF]
    result = predictor.segment(image, names)
    panel = drawing.draw_panel(image, encode_scene(labels), result.mask, result.segments, names)
    return np.asarray(panel)


def draw_regions() -> np.ndarray:
    """Draw training scenes of CLIP-ZSS with their fused label maps: uint8 (H, W, 3)."""
    recipe = clip_zss.get_config("playground")
    recipe.data.images = max(_REGIONS) + 1
    config = from_mapping(recipe.to_dict())
    teacher = load_teacher("playground")
    with tempfile.TemporaryDirectory() as folder:
        bank = bank_directory(config, folder)
        prepare_bank(config, bank, teacher, print)
        prepare_regions(config, bank, teacher, print)
        drawn = bank / REGIONS_FOLDER / "pictures"
        pictures = [np.asarray(Image.open(drawn / f"{i:03d}.png")) for i in _REGIONS]
    rows = [stack(pictures[i : i + 2], axis=1) for i in range(0, len(pictures), 2)]
    return stack(rows)


def stack(pictures: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """Put uint8 (H, W, 3) pictures below (axis 0) or beside (axis 1) each other, on white."""
    along = 1 - axis
    size = max(picture.shape[along] for picture in pictures)
    padded = []
    for picture in pictures:
        after = [(0, 12), (0, 12), (0, 0)]
        after[along] = (0, size - picture.shape[along])
        padded.append(np.pad(picture, after, constant_values=255))
    return np.concatenate(padded, axis)


if __name__ == "__main__":
    flags.run(main, define_flags)
