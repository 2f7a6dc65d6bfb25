"""Zero-shot accuracy of a Playground CLIP on single-thing crops of unseen scenes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    EVALUATION_SEED,
    HELD_OUT,
    SHAPES,
    STUFF,
    pick_fill,
)
from zeroseg_jax.teacher.clip import ClipConfig, TextTower, VisionTower
from zeroseg_jax.teacher.playground import training_pictures as diet

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_WIDEST = 1.5  # a crop is the thing and up to half its size around it
_QUESTIONS = {
    "shape": (SHAPES, ("a {}", "a photo of a {}")),
    "colour": (COLOURS, ("a {} thing", "a {} shape")),
    "stuff": (STUFF, ("{}", "a photo of {}")),
}


def zero_shot(
    params,
    config: ClipConfig,
    encode: Callable[[list[str]], np.ndarray],
    *,
    count: int,
    held_out: bool = False,
    width: float = 0.0,
) -> dict[str, float]:
    """Name shape, colour and stuff of `count` crops nobody trained on.

    Args:
      params: {"vision", "text"} of a CLIP.
      config: its sizes.
      encode: texts to token ids int32 (n, T).
      count: crops, drawn from the evaluation split's generator.
      held_out: of shapes in the colours that no caption and no training scene has.
      width: side of every crop in diameters of its thing, which is then at its centre; 0: between
        1 and 1.5, the thing anywhere inside.

    Returns:
      Accuracy in [0, 1] for each question.
    """
    images, answers = _draw_crops(config.image_px, count, held_out, width)
    vision, text = VisionTower(config), TextTower(config)
    pixels = (images.astype(np.float32) / 255 - np.float32(_MEAN)) / np.float32(_STD)
    forward = jax.jit(vision.apply)
    parts = [
        forward({"params": params["vision"]}, pixels[i : i + 240]) for i in range(0, count, 240)
    ]
    features = np.concatenate(parts)
    scores = {}
    for question, (words, prompts) in _QUESTIONS.items():
        classes = 0.0
        for prompt in prompts:
            rows = text.apply({"params": params["text"]}, encode([prompt.format(w) for w in words]))
            classes += rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
        guesses = np.argmax(features @ np.asarray(classes).T, axis=1)
        scores[question] = float(np.mean(guesses == answers[question]))
    return scores


def _draw_crops(
    image_px: int, count: int, held_out: bool, width: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng((EVALUATION_SEED, 99))
    images, answers = [], {"shape": [], "colour": [], "stuff": []}
    while len(images) < count:
        shape, colour, stuff = (int(rng.integers(len(w))) for w in (SHAPES, COLOURS, STUFF))
        if ((SHAPES[shape], COLOURS[colour]) in HELD_OUT) != held_out:
            continue
        fill = pick_fill(rng)
        scene, window = diet.build_portrait(
            rng, SHAPES[shape], COLOURS[colour], stuff=STUFF[stuff], fill=fill, widest=_WIDEST
        )
        if width:
            half = width * scene.things[0].radius
            window = (0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half)
        images.append(diet.draw(scene, image_px, window))
        for name, answer in (("shape", shape), ("colour", colour), ("stuff", stuff)):
            answers[name].append(answer)
    return np.stack(images), {name: np.array(values) for name, values in answers.items()}
