"""The Playground as benchmarks: the same scenes under four label spaces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    EVALUATION_SEED,
    SHAPES,
    STUFF,
    Labels,
    build_scene,
    render,
)
from zeroseg_jax.data.seen_labels import encode_scene

SCENE_PX = 224
IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Playground:
    """Scenes with exact masks.

    Attributes:
      name: of the benchmark.
      class_names: in the order of ids; "background" first where there is one.
      words: for each class but background, its synonyms.
      has_background: whether id 0 is whatever no word names.
      images: how many.
      seed: split of the scenes.
      held_out: scenes of attribute combinations that never occur in training.
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
        """Return image uint8 (H, W, 3), label int32 (H, W) and name of one scene."""
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
    # The same words, some of which CLIP-ZSS has no labels of: benchmarks/splits.py, "playground".
    "playground/zss": Playground(
        "playground/zss", SHAPES + STUFF, _one_each(SHAPES + STUFF), False
    ),
    "playground/colours": Playground("playground/colours", *_COLOURS),
    "playground/held-out": Playground("playground/held-out", *_THINGS, held_out=True),
}
