"""From names on a command line to segmenters: which model, which words, which protocol."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.segmenters import (
    ChanceSegmenter,
    DenseSegmenter,
    DenseStudentSegmenter,
    Segmenter,
    StudentSegmenter,
)
from zeroseg_jax.models.sizes import SIZES
from zeroseg_jax.teacher import Teacher, load
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.readouts import READOUTS
from zeroseg_jax.training.checkpoint import load_params

SHIPPED_STUDENT = Path(__file__).parent.parent / "assets" / "student"


@dataclasses.dataclass(frozen=True)
class TrainedStudent:
    """A student, the teacher it learned from, and its name for reports."""

    params: Any
    config: Config
    teacher: Teacher
    checkpoint: str


def load_student(directory: str | Path, teacher_directory: str = "") -> TrainedStudent:
    """Load a student and its teacher.

    Args:
      directory: a work directory, an exported student, or "playground" for the shipped one.
      teacher_directory: where the teacher lies now; "" for where the run found it.

    Raises:
      ValueError: no student there, or another teacher than the one it learned from.
    """
    path = SHIPPED_STUDENT if str(directory) == "playground" else Path(directory)
    params, config, step = load_params(path)
    teacher = load(teacher_directory or config.teacher.directory)
    learned_from = _teacher_digest(path)
    if learned_from and learned_from != teacher.digest:
        raise ValueError(
            f"--teacher: {teacher.directory} is not the CLIP that {path} learned from (digest "
            f"{teacher.digest[:12]}, not {learned_from[:12]}); give the right directory."
        )
    return TrainedStudent(params, config, teacher, f"{directory} at step {step}")


def build_student_segmenter(
    student: TrainedStudent,
    words: list[list[str]],
    preset: Preset,
    *,
    devices: list[jax.Device] | None = None,
) -> StudentSegmenter | DenseStudentSegmenter:
    """Ask a student for words: `words` lists the synonyms of each class."""
    text = embed_words(student.teacher, words, preset)
    if student.config.objective == "clip_zss":
        return DenseStudentSegmenter(
            student.params,
            student.config,
            text,
            preset,
            owners=list_owners(words, preset),
            devices=devices,
        )
    return StudentSegmenter(
        student.params,
        student.config,
        text,
        preset,
        student.teacher.logit_scale,
        owners=list_owners(words, preset),
        devices=devices,
    )


def build_baseline(
    model: str,
    teacher: Teacher,
    words: list[list[str]],
    preset: Preset,
    has_background: bool,
    *,
    devices: list[jax.Device] | None = None,
) -> Segmenter:
    """Build "dense:READOUT" of the teacher, or "chance".

    Raises:
      ValueError: another name.
    """
    native_px = _matching_size(teacher)
    if model == "chance":
        return ChanceSegmenter(len(words), has_background, native_px)
    kind, _, readout = model.partition(":")
    if kind != "dense" or readout not in READOUTS:
        known = ", ".join(f"dense:{name}" for name in READOUTS)
        raise ValueError(f"--model: {model!r} is not one of {known}, chance, predictions:DIR.")
    text = embed_words(teacher, words, preset)
    return DenseSegmenter(
        teacher,
        readout,
        native_px,
        text,
        preset,
        owners=list_owners(words, preset),
        devices=devices,
    )


def embed_words(teacher: Teacher, words: list[list[str]], preset: Preset) -> np.ndarray:
    """Embed what is scored, float32 (K, E), the preset's background words last.

    K is a row a class and a row a background word; with names "best", a row a name.
    """
    background = [[word] for word in preset.background_words]
    found = embed_classes(teacher, words + background, preset.prompts, cache_directory())
    return found.names if preset.names == "best" else found.classes


def list_owners(words: list[list[str]], preset: Preset) -> np.ndarray:
    """Return int (K,): the class of each row of embed_words, background words counting on."""
    counts = [len(names) if preset.names == "best" else 1 for names in words]
    counts += [1] * len(preset.background_words)
    return np.repeat(np.arange(len(counts)), counts)


def _matching_size(teacher: Teacher) -> int:
    # The Playground's read-outs see the picture at the size its students do; a CLIP of
    # 224 px or more sees it at its own.
    return max(teacher.image_px, SIZES["playground"]["image_px"])


def _teacher_digest(directory: Path) -> str | None:
    for name in ("config.json", "manifest.json"):
        path = directory / name
        if path.is_file():
            record = json.loads(path.read_text())
            return record.get("teacher") or record.get("metadata", {}).get("teacher")
    return None
