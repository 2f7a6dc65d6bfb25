"""CLIP-ZSS as an objective of the training loop.

Source: arXiv 2310.02296; the bank of class tokens is part of the train state, so that it is saved,
restored and the same on every device; a global batch enters it once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.models.clip_zss import losses as losses_zss
from zeroseg_jax.models.clip_zss import student as dense
from zeroseg_jax.models.clip_zss.segformer_weights import start_from_segformer
from zeroseg_jax.models.zeroseg.own_terms import cell_weights
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.training.checkpoint import load_params

_MOST_SEEN = 156  # of COCO-Stuff


@dataclasses.dataclass(frozen=True)
class ZssParts:
    """See objective.Objective for what each is."""

    init_params: Callable[[jax.Array], Any]
    loss_fn: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
    init_memory: Callable[[], Any]
    remember: Callable[[Any, dict[str, jax.Array]], Any]


def build(config: Config, teacher: Teacher, seen_words: list[list[str]]) -> ZssParts:
    """Build the parts.

    Args:
      config: of the run; objective == "clip_zss".
      teacher: reads the words; its tower starts the student where model.encoder.init says so.
      seen_words: for each seen class its synonyms; none where there are no labels.

    Raises:
      ValueError: weights to start from that do not fit the student.
    """
    student = _build_student(config)
    text = embed_seen(teacher, seen_words, config.clip_zss.labels.prompts)
    return _build_parts(config, student, text, _build_start(config, student, teacher))


def build_abstract(config: Config) -> ZssParts:
    """Build the parts for their shapes alone, with _MOST_SEEN seen classes."""
    student = _build_student(config)
    text = np.zeros((_MOST_SEEN, config.model.embed_dim), np.float32)
    return _build_parts(config, student, text, lambda key: dense.init_dense_params(student, key))


def _build_student(config: Config) -> dense.DenseStudent:
    return dense.build_dense_student(
        config.model, config.clip_zss.student, jnp.dtype(config.run.dtype), remat=config.run.remat
    )


def _build_parts(config: Config, student: dense.DenseStudent, text: np.ndarray, start) -> ZssParts:
    size = (config.clip_zss.loss.memory_size, config.model.embed_dim)

    def remember(memory, batch):
        tokens = batch["features"][:, 0].astype(jnp.float32)
        return {"bank": losses_zss.push_bank(memory["bank"], tokens)}

    def init_memory():
        return {"bank": jnp.zeros(size, jnp.float32)}

    return ZssParts(start, build_loss(config, student, text), init_memory, remember)


def embed_seen(teacher: Teacher, words: list[list[str]], prompts: str) -> np.ndarray:
    """Embed the seen words: float32 (N, E), unit rows; no rows where there are no words."""
    if not words:
        return np.zeros((0, teacher.embed_dim), np.float32)
    return embed_classes(teacher, words, prompts, cache_directory()).classes


def build_loss(config: Config, student: dense.DenseStudent, text: np.ndarray):
    """Build the loss.

    Args:
      config: losses and constants.
      student: the module.
      text: float32 (N, E), of the seen words, unit rows.

    Returns:
      loss_fn(params, batch, key, memory) -> (loss, metrics): batch has "image" uint8
      (B, Hpx, Wpx, 3), "features" (B, V, E) whose row 0 is the whole image, "fused" int16
      (B, H, W) and "local" (B, K, E); memory has "bank" (M, E).
    """
    settings = config.clip_zss
    mean, std = (jnp.array(v, jnp.float32) for v in (config.data.mean, config.data.std))
    classes = len(text) + settings.regions.max_regions
    windows = list_windows(config)

    def loss_fn(params, batch, key, memory):
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        fused = batch["fused"].astype(jnp.int32)
        turned = jnp.zeros(len(images), bool)
        if settings.student.flip:
            turned = jax.random.bernoulli(key, shape=(len(images),))
            images = jnp.where(turned[:, None, None, None], images[:, :, ::-1], images)
            fused = jnp.where(turned[:, None, None], fused[:, :, ::-1], fused)
        features = dense.apply_dense(student, params, images)
        b, h, w, width = features.shape
        views = batch["features"].astype(jnp.float32)
        members = losses_zss.region_members(fused, h, w, classes)
        means, present = losses_zss.region_means(features.reshape(b, h * w, width), members)
        prototypes = dense.apply_synthesizer(
            student,
            params,
            jax.lax.stop_gradient(means) if settings.loss.stop_gradient else means,
            present,
            views[:, :1],
        )
        teacher = losses_zss.TeacherView(views, memory["bank"], jnp.asarray(text), batch["local"])
        loss, metrics = losses_zss.total_loss(
            features, fused, means, present, prototypes, teacher, settings.loss,
            weights=jnp.asarray(cell_weights(h, windows)), turned=turned,
        )  # fmt: skip
        return loss.mean(), {name: value.mean() for name, value in metrics.items()}

    return loss_fn


def _build_start(config: Config, student: dense.DenseStudent, teacher: Teacher):
    settings, model = config.clip_zss.student, config.model
    weights = settings.encoder_weights
    trained = load_params(weights)[0] if weights and settings.encoder == "vit" else None

    def init_params(key):
        params = dense.init_dense_params(student, key)
        if trained is not None:
            return dense.init_dense_from_zeroseg(params, trained, model)
        if weights:
            return start_from_segformer(params, weights, settings)
        if settings.encoder == "vit" and model.encoder.init == "teacher":
            return dense.init_dense_from_teacher(params, teacher.vision_params, model)
        return params

    return init_params
