"""StableHLO export: a model as one file that jax alone runs, on CPU, CUDA and TPU, any batch size.

The program takes images and class vectors, so the class names are free too. Weights are inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from zeroseg_jax.data.files import write_bytes, write_json, write_npz, write_text
from zeroseg_jax.inference.batches import score_encoded
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Encoded, score_segments
from zeroseg_jax.inference.segmenters import ModelSegmenter, build_forward, choose_scale

PLATFORMS = ("cpu", "cuda", "tpu")
MODEL, WORDS, RECORD, EXAMPLE = "segmenter.stablehlo", "words.npz", "export.json", "run.py"
_TOLERANCE, _SAME_SEGMENTS = 1e-4, 0.999
_REPEATS = 5
_RUN = '''"""Segment an image with the files beside this one; needs jax, numpy and Pillow alone.

python run.py photo.jpg mask.png
"""

import sys
from pathlib import Path

import numpy as np
from jax import export, image
from PIL import Image

here = Path(__file__).parent
segmenter = export.deserialize(bytearray((here / "segmenter.stablehlo").read_bytes()))
words = np.load(here / "words.npz", allow_pickle=False)
size = segmenter.in_avals[0].shape[1]
photo = Image.open(sys.argv[1]).convert("RGB")
square = np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC), np.float32)
scores, second = segmenter.call(square[None], words["text"])
LABELS
Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST).save(sys.argv[2])
for i, name in enumerate(words["names"]):
    print(f"{name}: {100 * (labels == i).mean():.1f} %")
'''
_LABELS = {  # of a pixel: the best class of its segment, or of scores interpolated between patches
    True: "labels = np.asarray(scores)[0].argmax(-1)[np.asarray(second)[0]].astype(np.uint8)",
    False: 'scores = image.resize(scores[0], (size, size, len(words["names"])), "bilinear")\n'
    "labels = np.asarray(scores.argmax(-1)).astype(np.uint8)",
}

Program = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def build_function(model: Model, preset: Preset) -> Program:
    """Return f(images, text), pure, with the weights inside.

    Args:
      model: from model.load.
      preset: normalisation and scale; no filter and no background are applied.

    Returns:
      A function of images float32 (B, N, N, 3) in [0, 255], N = model.image_px, and text float32
      (C, E), unit rows. For a ZeroSeg student it returns scores float32 (B, S, C) and segment ids
      int32 (B, N, N): the class of pixel p of image b is scores[b, segment_ids[b, p]].argmax().
      For a dense model it returns scores float32 (B, h, w, C) and features float32 (B, h, w, E),
      unit vectors; features @ text.T times the scale, softmaxed, are the scores.
    """
    segmenter = ModelSegmenter(model, preset.normalisation, positions=preset.positions)
    forward, weights = build_forward(model, segmenter.mean, segmenter.std)
    scale = choose_scale(preset, model.logit_scale)
    grid = (model.image_px // model.patch_px,) * 2

    def segment_one(image: jax.Array, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, _, segment_ids = forward(weights, image[None])
        scores = score_segments(
            features, None, text, jnp.ones(text.shape[:1], bool), scale=scale, image_filter="none",
            topk=1,
        )  # fmt: skip
        if segment_ids is not None:
            return scores[0], segment_ids[0].astype(jnp.int32)
        return scores.reshape(*grid, text.shape[0]), features.reshape(*grid, text.shape[1])

    # The models need the length of their batch, which a symbolic batch does not have.
    return jax.vmap(segment_one, in_axes=(0, None))


def export_stablehlo(
    model: Model, classes: list[list[str]], directory: str | Path
) -> dict[str, Any]:
    """Write segmenter.stablehlo, words.npz, run.py and export.json; verify and time the program.

    Args:
      model: from model.load.
      classes: names of the classes whose embeddings are written too; the program takes any others
        of the same teacher.
      directory: created if missing.

    Returns:
      The content of export.json: sizes, largest difference, milliseconds.

    Raises:
      ValueError: the program's scores differ from the model's by more than 1e-4.
    """
    root = Path(directory)
    # One mean vector a class and no filter: the program gets only a row for each class.
    names = {"naming": "segments", "names": "mean", "image_filter": "none", "background_words": ""}
    preset = model.get_preset(names)
    side, embed_dim, patch = model.image_px, model.teacher.embed_dim, model.patch_px
    batch, count = export.symbolic_shape("b, c")
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((count, embed_dim), jnp.float32)
    function = jax.jit(build_function(model, preset))
    content = bytes(export.export(function, platforms=PLATFORMS)(images, text).serialize())
    vectors = embed_class_names(model.teacher, classes, preset)
    found = _measure(content, model, preset, vectors)
    check_difference(found["largest_difference"], found["segments_agree"])
    second = {
        "segment_ids": f"int32 (b, {side}, {side}), segment of each pixel",
    }
    scores = "float32 (b, segments, c)"
    if model.kind != "zeroseg":
        grid = f"{side // patch}, {side // patch}"
        scores = f"float32 (b, {grid}, c)"
        second = {"features": f"float32 (b, {grid}, {embed_dim}), unit vectors"}
    record = {
        "checkpoint": model.checkpoint.rpartition(" at ")[2],
        "inputs": {
            "images": f"float32 (b, {side}, {side}, 3) in [0, 255]",
            "text": f"float32 (c, {embed_dim}), unit rows",
        },
        "outputs": {"scores": scores, **second},
        "platforms": list(PLATFORMS),
        "prompts": preset.prompts,
        "size_mb": round(len(content) / 1e6, 2),
        **found,
    }
    write_bytes(root / MODEL, content)
    rows = np.asarray(vectors.vectors)[: len(vectors.class_ids)]
    write_npz(root / WORDS, names=np.array([names[0] for names in classes]), text=rows)
    write_text(root / EXAMPLE, _RUN.replace("LABELS", _LABELS[model.kind == "zeroseg"]))
    write_json(root / RECORD, record)
    return record


def _measure(
    content: bytes, model: Model, preset: Preset, classes: ClassVectors
) -> dict[str, float]:
    """Compare the program read back with the Predictor's own steps on random images; time it."""
    call = export.deserialize(bytearray(content)).call
    segmenter = ModelSegmenter(model, preset.normalisation, positions=preset.positions)
    # Blocks, so that there is something to segment.
    blocks = np.random.default_rng(0).uniform(0, 255, (3, 6, 6, 3)).astype(np.float32)
    side, per_call = model.image_px, segmenter.windows_per_call
    images = np.asarray(jax.image.resize(blocks, (3, side, side, 3), "nearest"))
    text = np.asarray(classes.vectors)[: len(classes.class_ids)]
    worst, same = 0.0, 1.0
    for batch in (images, images[:1]):
        found = [np.asarray(x) for x in call(batch, text)]
        for image, scores, second in zip(batch, *found, strict=True):
            encoded = segmenter.encode(np.repeat(image[None], per_call, axis=0))
            arrays: list[Any] = [None if x is None else np.asarray(x)[:1] for x in encoded]
            own = Encoded(*arrays)
            wanted = np.asarray(score_encoded(segmenter, own, classes, preset).table)[0]
            wanted = wanted[:, : len(text)].reshape(scores.shape)
            worst = max(worst, float(np.abs(wanted - scores).max()))
            if own.segment_ids is not None:
                same = min(same, float((own.segment_ids[0] == second).mean()))
    begin = time.perf_counter()
    for _ in range(_REPEATS):
        jax.block_until_ready(call(images[:1], text))
    seconds = (time.perf_counter() - begin) / _REPEATS
    return {
        "largest_difference": worst,
        "segments_agree": same,
        "milliseconds": round(1000 * seconds, 2),
    }


def check_difference(worst: float, same: float) -> None:
    """Refuse a program that differs from the model.

    Args:
      worst: largest difference of a score.
      same: fraction of pixels in the same segment; ties may fall differently.

    Raises:
      ValueError: `worst` exceeds 1e-4, or `same` is less than 0.999.
    """
    if not worst <= _TOLERANCE or not same >= _SAME_SEGMENTS:
        raise ValueError(
            f"{MODEL}: differs from the model by {worst:.2g} (limit {_TOLERANCE}), segments agree "
            f"on {100 * same:.2f} % (limit {100 * _SAME_SEGMENTS} %); not written."
        )
