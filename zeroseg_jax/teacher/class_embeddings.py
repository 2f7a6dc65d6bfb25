"""Class embeddings: class names in prompts to vectors, cached on disk."""

from __future__ import annotations

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
      cache: directory of cached embeddings, or None. The file name is a digest of the teacher,
        the tokenizer, the prompts and the names.

    Raises:
      ValueError: the prompt set is unknown; there is no class or too many names; a class has no
        name or a blank one; or a cache file is damaged.

    Source: Radford et al. 2021, 3.1.4 (prompt ensembling in embedding space).
    """
    _check_classes(classes, prompts)
    if cache is None:
        return _embed(teacher, classes, prompts)
    made_by = [teacher.digest, digest_tokenizer(teacher.directory)]
    key = json.dumps([*made_by, PROMPTS[prompts], classes], ensure_ascii=False)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    if path.is_file():
        return _read_cache(path, key)
    embeddings = _embed(teacher, classes, prompts)
    files.write_npz(
        path,
        key=np.frombuffer(key.encode(), np.uint8),
        classes=embeddings.classes,
        names=embeddings.names,
        owners=embeddings.class_ids,
    )
    return embeddings


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


def _embed(teacher: Teacher, classes: list[list[str]], prompts: str) -> ClassEmbeddings:
    count = len(PROMPTS[prompts])
    texts = [p.format(name) for names in classes for name in names for p in PROMPTS[prompts]]
    rows = _unit(teacher.encode_texts(texts)).reshape(-1, count, teacher.embed_dim).mean(axis=1)
    lengths = [len(names) for names in classes]
    class_ids = np.repeat(np.arange(len(classes)), lengths).astype(np.int32)
    starts = np.searchsorted(class_ids, np.arange(len(classes)))
    means = np.add.reduceat(rows, starts, axis=0)
    return ClassEmbeddings(_unit(means), _unit(rows), class_ids)


def _read_cache(path: Path, key: str) -> ClassEmbeddings:
    try:
        with np.load(path, allow_pickle=False) as file:
            same = file["key"].tobytes() == key.encode()
            embeddings = ClassEmbeddings(file["classes"], file["names"], file["owners"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: the cached class embeddings cannot be read ({error}); delete the file."
        ) from error
    if not same:
        raise ValueError(
            f"{path}: the cached class embeddings are of another teacher, prompt set or list of "
            "names; delete the file."
        )
    return embeddings


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
