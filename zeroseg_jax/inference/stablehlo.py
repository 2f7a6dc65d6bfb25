"""A student as one StableHLO file that jax alone can run, on CPU, CUDA and TPU, any batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from zeroseg_jax.data import files
from zeroseg_jax.inference import model as build
from zeroseg_jax.inference import scoring as assign
from zeroseg_jax.inference.cutting import Cutter
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.models.zeroseg import student as students

PLATFORMS = ("cpu", "cuda", "tpu")
MODEL, WORDS, RECORD, EXAMPLE = "segmenter.stablehlo", "words.npz", "export.json", "run.py"
_TOLERANCE, _SAME_OWNERS = 1e-4, 0.999
_REPEATS = 5
_RUN = '''"""Segment a picture with the files beside this one; needs jax, numpy and Pillow alone.

python run.py photo.jpg mask.png
"""

import sys
from pathlib import Path

import numpy as np
from jax import export
from PIL import Image

here = Path(__file__).parent
segmenter = export.deserialize(bytearray((here / "segmenter.stablehlo").read_bytes()))
words = np.load(here / "words.npz", allow_pickle=False)
size = segmenter.in_avals[0].shape[1]
photo = Image.open(sys.argv[1]).convert("RGB")
square = np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC), np.float32)
scores, owners = (np.asarray(x) for x in segmenter.call(square[None], words["text"]))
labels = scores[0].argmax(-1)[owners[0]].astype(np.uint8)
Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST).save(sys.argv[2])
for i, name in enumerate(words["names"]):
    print(f"{name}: {100 * (labels == i).mean():.1f} %")
'''


def build_function(student: build.TrainedStudent) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return f(images, text), pure, its parameters inside.

    images: float32 (B, N, N, 3), levels in [0, 255], N the training side.
    text: float32 (C, E), unit rows.
    It returns scores float32 (B, S, C) and owners int32 (B, N, N), the segment of each pixel:
    the class of pixel p of image b is scores[b, owners[b, p]].argmax().
    """
    config = student.config
    module = students.build_student(config.model)
    mean, std = (np.array(v, np.float32) for v in (config.data.mean, config.data.std))
    scale = min(student.teacher.logit_scale, 100.0)

    def segment_one(image, text):
        pixels = ((image / 255 - mean) / std)[None]
        outputs = students.apply_segment(module, student.params, pixels)
        scores = assign.score_segments(outputs, text, scale=scale, image_filter="none", topk=1)
        owners = assign.choose_segments(outputs.maps, image.shape[:2])
        return scores[0], owners[0].astype(jnp.int32)

    # The model asks for the length of its batch, which a symbolic one has not.
    return jax.vmap(segment_one, in_axes=(0, None))


def export_stablehlo(
    student: build.TrainedStudent, words: list[list[str]], directory: str | Path
) -> dict[str, Any]:
    """Write segmenter.stablehlo, words.npz, run.py and export.json; verify and time it.

    Args:
      student: with its teacher.
      words: classes whose embeddings go along; the model takes any others of its teacher's.
      directory: made if missing.

    Returns:
      What export.json holds: size, largest difference, milliseconds.

    Raises:
      ValueError: the file does not give what the model gives, to 1e-4.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    side, embed_dim = student.config.model.image_px, student.teacher.embed_dim
    batch, classes = export.symbolic_shape("b, c")
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((classes, embed_dim), jnp.float32)
    function = jax.jit(build_function(student))
    content = bytes(export.export(function, platforms=PLATFORMS)(images, text).serialize())
    preset = get_preset("zeroseg", "playground/full")
    rows = build.embed_words(student.teacher, words, preset)
    found = _measure(content, Cutter(student, preset), side, rows)
    check_difference(found["largest_difference"], found["owners_agree"])
    record = {
        "checkpoint": student.checkpoint.rpartition(" at ")[2],
        "inputs": {
            "images": f"float32 (b, {side}, {side}, 3), levels in [0, 255]",
            "text": f"float32 (c, {embed_dim}), unit rows",
        },
        "outputs": {
            "scores": "float32 (b, segments, c)",
            "owners": f"int32 (b, {side}, {side}), the segment of each pixel",
        },
        "platforms": list(PLATFORMS),
        "prompts": preset.prompts,
        "size_mb": round(len(content) / 1e6, 2),
        **found,
    }
    files.write_bytes(root / MODEL, content)
    files.write_npz(root / WORDS, names=np.array([names[0] for names in words]), text=rows)
    files.write_text(root / EXAMPLE, _RUN)
    files.write_json(root / RECORD, record)
    return record


def _measure(content: bytes, cutter: Cutter, side: int, text: np.ndarray) -> dict[str, float]:
    """Compare what was read back with what predictors run, on random pictures; time it."""
    call = export.deserialize(bytearray(content)).call
    # Blocks, so that there is something to segment.
    blocks = np.random.default_rng(0).uniform(0, 255, (3, 6, 6, 3)).astype(np.float32)
    images = np.asarray(jax.image.resize(blocks, (3, side, side, 3), "nearest"))
    worst, same = 0.0, 1.0
    for batch in (images, images[:1]):
        found = [np.asarray(x) for x in call(batch, text)]
        for image, scores, owners in zip(batch, *found, strict=True):
            segments, global_feature, mine = cutter.run_student(image[None])
            wanted = np.asarray(cutter.score_segments(segments, global_feature, text, 0))[0]
            worst = max(worst, float(np.abs(wanted - scores).max()))
            same = min(same, float((np.asarray(mine)[0] == owners).mean()))
    begin = time.perf_counter()
    for _ in range(_REPEATS):
        jax.block_until_ready(call(images[:1], text))
    seconds = (time.perf_counter() - begin) / _REPEATS
    return {
        "largest_difference": worst,
        "owners_agree": same,
        "milliseconds": round(1000 * seconds, 2),
    }


def check_difference(worst: float, same: float) -> None:
    """Refuse an export that is not the model.

    Raises:
      ValueError: scores differ by more than 1e-4, or more than one pixel in a thousand (ties
        may fall differently) belongs to another segment.
    """
    if not worst <= _TOLERANCE or not same >= _SAME_OWNERS:
        raise ValueError(
            f"{MODEL}: differs from the model by {worst:.2g} (limit {_TOLERANCE}), owners agree "
            f"on {100 * same:.2f} % (limit {100 * _SAME_OWNERS} %); not written."
        )
