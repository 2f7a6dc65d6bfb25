"""The Playground as benchmarks: the same scenes with several label spaces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    EVALUATION_SEED,
    SCENE_PX,
    SHAPES,
    STUFF,
    Labels,
    build_scene,
    encode_scene,
    render,
)

IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Playground:
    """Scenes with exact masks.

    Attributes:
      name: name of the benchmark.
      class_names: class names in the order of ids, "background" first if there is one.
      words: synonyms of each class but background.
      has_background: True if id 0 is everything that no class name covers.
      images: number of scenes.
      seed: split of the scenes.
      held_out: True for scenes of (shape, colour) pairs that never occur in training.
    """

    name: str
    class_names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    has_background: bool
    images: int = IMAGES
    seed: int = EVALUATION_SEED
    held_out: bool = False

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "image" uint8 (H, W, 3), "label" int32 (H, W) and "name" of a scene."""
        scene = build_scene(self.seed, index, held_out=self.held_out)
        image, labels = render(scene, SCENE_PX)
        return {"image": image, "label": self._encode(labels), "name": f"scene-{index:04d}"}

    def _encode(self, labels: Labels) -> np.ndarray:
        if self.name in ("playground/full", "playground/zss"):
            return encode_scene(labels)
        return labels.colour if self.name == "playground/colours" else labels.thing


def _one_each(words: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((word,) for word in words)


_THINGS = (("background", *SHAPES), _one_each(SHAPES), True)
_COLOURS = (
    ("background", *COLOURS),
    tuple((f"{colour} thing", f"{colour} shape") for colour in COLOURS),
    True,
)
BENCHMARKS: dict[str, Playground] = {
    "playground/things": Playground("playground/things", *_THINGS),
    "playground/full": Playground(
        "playground/full", SHAPES + STUFF, _one_each(SHAPES + STUFF), False
    ),
    # The same classes; some are unseen by CLIP-ZSS (split "playground" of splits.py).
    "playground/zss": Playground(
        "playground/zss", SHAPES + STUFF, _one_each(SHAPES + STUFF), False
    ),
    "playground/colours": Playground("playground/colours", *_COLOURS),
    "playground/held-out": Playground("playground/held-out", *_THINGS, held_out=True),
}
