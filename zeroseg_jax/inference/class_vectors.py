"""Class vectors of a preset: class names embedded by a teacher, cached in memory and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zeroseg_jax.inference.cache import LruCache
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, pack_classes
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.load import Teacher

_CACHED_CLASSES = 4096


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
    return pack_classes(rows, len(background), classes + background)


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


class ClassEmbedder:
    """Embed class names, each class once in a process.

    Args:
      teacher: the CLIP.
      preset: prompts and `names` rule.
      on_disk: True also caches the embeddings on disk, for the next process.
    """

    def __init__(self, teacher: Teacher, preset: Preset, *, on_disk: bool):
        self._teacher, self._preset = teacher, preset
        self._directory = cache_directory() if on_disk else None
        self._rows: LruCache[np.ndarray] = LruCache(_CACHED_CLASSES)

    def embed(self, classes: list[list[str]], background: list[list[str]]) -> ClassVectors:
        """Embed the names of classes and of background classes, which come last."""
        keys = [tuple(names) for names in classes + background]
        rows: dict[tuple[str, ...], np.ndarray] = {}
        for key in keys:
            cached = self._rows.get(key)
            if cached is not None:
                rows[key] = cached
        missing = [key for key in keys if key not in rows]
        if missing:
            names = [list(key) for key in missing]
            fresh = embed_rows(self._teacher, names, self._preset, self._directory)
            for key, row in zip(missing, fresh, strict=True):
                rows[key] = row
                self._rows.put(key, row)
        return pack_classes([rows[key] for key in keys], len(background), keys)
