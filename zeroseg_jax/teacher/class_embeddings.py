"""Class embeddings: class names in prompts to vectors, cached on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from zeroseg_jax.data import files
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.prompts import PROMPTS
from zeroseg_jax.teacher.tokenizer import digest_tokenizer

_MAX_NAMES = 5000


@dataclasses.dataclass(frozen=True)
class ClassEmbeddings:
    """Classes in the teacher's embedding space.

    Attributes:
      classes: float32 (C, E), unit rows: the mean over a class's names and prompts.
      names: float32 (N, E), unit rows: the mean over a name's prompts. With them a class can be
        scored by its best name.
      class_ids: int32 (N,), the class of each name, ascending.
    """

    classes: np.ndarray
    names: np.ndarray
    class_ids: np.ndarray


def embed_classes(
    teacher: Teacher, classes: list[list[str]], prompts: str, cache: Path | None = None
) -> ClassEmbeddings:
    """Embed classes: every name in every prompt, normalised, averaged, normalised.

    Args:
      teacher: CLIP or SigLIP with a text tower.
      classes: names of each class, at least one.
      prompts: key of PROMPTS.
      cache: directory of cached embeddings, one file a name, or None. The file name is a digest of
        the teacher, the tokenizer, the prompts and the name.

    Raises:
      ValueError: the prompt set is unknown; there is no class or too many names; a class has no
        name or a blank one; or a cache file is damaged.

    Source: Radford et al. 2021, 3.1.4 (prompt ensembling in embedding space).
    """
    _check_classes(classes, prompts)
    names = list(dict.fromkeys(name for names in classes for name in names))
    if cache is None:
        found = _embed_names(teacher, names, prompts)
    else:
        found = _embed_cached(teacher, names, prompts, cache)
    rows = np.stack([found[name] for names in classes for name in names])
    lengths = [len(names) for names in classes]
    class_ids = np.repeat(np.arange(len(classes)), lengths).astype(np.int32)
    starts = np.searchsorted(class_ids, np.arange(len(classes)))
    means = np.add.reduceat(rows, starts, axis=0)
    return ClassEmbeddings(_unit(means), _unit(rows), class_ids)


def cache_directory() -> Path:
    """Return the user's directory of class embeddings, below $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "zeroseg_jax" / "words"


def _check_classes(classes: list[list[str]], prompts: str) -> None:
    if prompts not in PROMPTS:
        raise ValueError(f"prompts: {prompts!r} is not one of {', '.join(PROMPTS)}.")
    if not classes:
        raise ValueError("classes: the list is empty; give at least one class name.")
    for i, names in enumerate(classes):
        # A bare string would be taken letter by letter.
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"classes: class {i} is {names!r}; give a list of one name or more.")
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f"classes: class {i} is {names!r}; give names that are not blank.")
    count = sum(map(len, classes))
    if count > _MAX_NAMES:
        raise ValueError(
            f"classes: {count} names are more than {_MAX_NAMES}; embed them in several lists."
        )


def _embed_names(teacher: Teacher, names: list[str], prompts: str) -> dict[str, np.ndarray]:
    """Return the mean of each name's unit vectors, float32 (E,)."""
    texts = [prompt.format(name) for name in names for prompt in PROMPTS[prompts]]
    rows = _unit(teacher.encode_texts(texts))
    means = rows.reshape(len(names), len(PROMPTS[prompts]), teacher.embed_dim).mean(axis=1)
    return dict(zip(names, means, strict=True))


def _embed_cached(
    teacher: Teacher, names: list[str], prompts: str, cache: Path
) -> dict[str, np.ndarray]:
    made_by = [teacher.digest, digest_tokenizer(teacher.directory)]
    found, missing = {}, {}
    for name in names:
        key = json.dumps([*made_by, PROMPTS[prompts], name], ensure_ascii=False).encode()
        path = cache / f"{hashlib.sha256(key).hexdigest()}.npz"
        if path.is_file():
            found[name] = _read_cache(path, key)
        else:
            missing[name] = path, key
    if missing:
        for name, mean in _embed_names(teacher, list(missing), prompts).items():
            path, key = missing[name]
            with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
                files.write_npz(path, key=np.frombuffer(key, np.uint8), mean=mean)
            found[name] = mean
    return found


def _read_cache(path: Path, key: bytes) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            same, mean = file["key"].tobytes() == key, file["mean"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: the cached class embedding cannot be read ({error}); delete the file."
        ) from error
    if not same:
        raise ValueError(
            f"{path}: the cached class embedding is of another teacher, prompt set or name; delete "
            "the file."
        )
    return np.asarray(mean)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
