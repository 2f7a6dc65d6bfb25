"""Class vectors of a preset: class names embedded by a teacher, cached on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, pack_classes
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.load import Teacher


def embed_class_names(
    teacher: Teacher, class_names: Sequence[Sequence[str]], preset: Preset
) -> ClassVectors:
    """Embed the class names of a benchmark, the preset's background names last.

    Args:
      teacher: the CLIP.
      class_names: names of each class.
      preset: prompts, `names` rule and background names.
    """
    classes = [list(names) for names in class_names]
    background = [[name] for name in preset.background_words]
    rows = embed_rows(teacher, classes + background, preset, cache_directory())
    return pack_classes(rows, len(background))


def embed_rows(
    teacher: Teacher, classes: list[list[str]], preset: Preset, cache: Path | None
) -> list[np.ndarray]:
    """Embed classes; return the scored rows of each.

    Args:
      teacher: the CLIP.
      classes: names of each class.
      preset: prompts and `names` rule.
      cache: directory of cached embeddings, or None.

    Returns:
      float32 (n, E) of each class: a row for each name where the best one counts, else one row.
    """
    found = embed_classes(teacher, classes, preset.prompts, cache)
    if preset.names == "best":
        return [found.names[found.class_ids == i] for i in range(len(classes))]
    return [found.classes[i : i + 1] for i in range(len(classes))]
