"""Zero-shot accuracy of the Playground's CLIP on unseen crops of one thing."""

from __future__ import annotations

from typing import Any

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
from zeroseg_jax.teacher.playground import training_images
from zeroseg_jax.teacher.tokenizer import Encode
from zeroseg_jax.teacher.towers import CLIP_MEAN, CLIP_STD, ClipConfig, TextTower, VisionTower

_WIDEST = 1.5  # largest side of a crop, in diameters of its thing
_BATCH = 240
_QUESTIONS = {
    "shape": (SHAPES, ("a {}", "a photo of a {}")),
    "colour": (COLOURS, ("a {} thing", "a {} shape")),
    "stuff": (STUFF, ("{}", "a photo of {}")),
}


def measure_accuracy(
    params: dict[str, Any],
    config: ClipConfig,
    encode: Encode,
    *,
    count: int,
    held_out: bool = False,
    width: float = 0.0,
) -> dict[str, float]:
    """Classify shape, colour and stuff of unseen crops.

    Args:
      params: parameters {"vision", "text"} of a CLIP.
      config: settings of both towers.
      encode: tokenizer, texts to int32 ids (n, T).
      count: number of crops, drawn from the evaluation split's generator.
      held_out: True for crops of the shape-colour pairs that no caption and no training
        scene has.
      width: side of every crop in diameters of its centred thing; 0: random between 1 and 1.5,
        with the thing anywhere inside.

    Returns:
      Accuracy in [0, 1] of each question.
    """
    images, answers = _draw_crops(config.image_px, count, held_out, width)
    vision, text = VisionTower(config), TextTower(config)
    mean, std = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)
    pixels = (images.astype(np.float32) / 255 - mean) / std
    forward = jax.jit(vision.apply)
    parts = [
        forward({"params": params["vision"]}, pixels[i : i + _BATCH])
        for i in range(0, count, _BATCH)
    ]
    features = np.concatenate(parts)
    accuracies = {}
    for question, (names, prompts) in _QUESTIONS.items():
        classes = np.zeros((len(names), config.embed_dim), np.float32)
        for prompt in prompts:
            ids = encode([prompt.format(name) for name in names])
            rows = text.apply({"params": params["text"]}, ids)
            classes = classes + np.asarray(rows / jnp.linalg.norm(rows, axis=-1, keepdims=True))
        predicted = np.argmax(features @ classes.T, axis=1)
        accuracies[question] = float(np.mean(predicted == answers[question]))
    return accuracies


def _draw_crops(
    image_px: int, count: int, held_out: bool, width: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng((EVALUATION_SEED, 99))
    images: list[np.ndarray] = []
    answers: dict[str, list[int]] = {name: [] for name in _QUESTIONS}
    while len(images) < count:
        shape, colour, stuff = (int(rng.integers(len(w))) for w in (SHAPES, COLOURS, STUFF))
        if ((SHAPES[shape], COLOURS[colour]) in HELD_OUT) != held_out:
            continue
        fill = pick_fill(rng)
        scene, window = training_images.build_portrait(
            rng, SHAPES[shape], COLOURS[colour], stuff=STUFF[stuff], fill=fill, widest=_WIDEST
        )
        if width:
            half = width * scene.things[0].radius
            window = (0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half)
        images.append(training_images.draw(scene, image_px, window))
        for name, answer in (("shape", shape), ("colour", colour), ("stuff", stuff)):
            answers[name].append(answer)
    return np.stack(images), {name: np.array(values) for name, values in answers.items()}
