"""CLIP-ZSS student: dense encoder (ViT or SegFormer) with features in CLIP's space.

Inference needs the encoder and class embeddings; the synthesizer is used in training only.

Letters: B images, h, w the student's grid, C regions, M class tokens, E teacher width.
"""

from __future__ import annotations

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.config import DenseStudentConfig, ModelConfig
from zeroseg_jax.models.clip_zss.segformer import (
    MIT_SIZES,
    STATISTICS,
    AllMlpHead,
    MixTransformer,
)
from zeroseg_jax.models.clip_zss.synthesizer import Synthesizer
from zeroseg_jax.models.encoder import Encoder
from zeroseg_jax.models.fused_attention import choose_core
from zeroseg_jax.models.initialisation import encoder_from_student, encoder_from_tower

Array = jax.Array
Params = dict[str, Any]


class DenseStudent(nn.Module):
    """Encoder, head and synthesizer as a linen module; called through apply_dense and others."""

    model: ModelConfig
    settings: DenseStudentConfig
    dtype: Any = jnp.float32
    remat: str = "none"
    core: str = "xla"

    def setup(self) -> None:
        settings = self.settings
        self.encoder: Any
        if settings.encoder == "vit":
            self.encoder = Encoder(
                self.model.encoder, self.model.image_px, self.dtype, self.remat, core=self.core
            )
        else:
            self.encoder = MixTransformer(
                MIT_SIZES[settings.encoder], self.dtype, self.remat, settings.drop_path
            )
            self.head = AllMlpHead(
                settings.head_width, self.dtype, settings.head_dropout, settings.head_norm
            )
        self.projection = nn.Dense(self.model.embed_dim, dtype=self.dtype)
        self.synthesizer = Synthesizer(
            settings.synthesizer_width,
            settings.synthesizer_depth,
            settings.synthesizer_heads,
            self.dtype,
        )

    def __call__(self, images: Array) -> Array:
        """Embed every cell of the student's grid; see apply_dense."""
        if self.settings.encoder == "vit":
            tokens, _ = self.encoder(images)
            patch = self.model.encoder.patch_px
            h, w = images.shape[1] // patch, images.shape[2] // patch
            x = tokens[:, 1:].reshape(len(images), h, w, -1)
        else:
            x = self.head(self.encoder(images))
        return self.projection(x).astype(jnp.float32)

    def synthesize(self, means: Array, present: Array, tokens: Array) -> Array:
        """Map region means to prototypes; see Synthesizer."""
        return self.synthesizer(means, present, tokens)

    def everything(self, images: Array) -> Array:
        """Use every parameter once, for initialisation."""
        dense = self(images)
        means = dense.mean(axis=(1, 2))[:, None]
        return self.synthesize(means, jnp.ones(means.shape[:2], bool), means)


def build_dense_student(
    model: ModelConfig,
    settings: DenseStudentConfig,
    dtype: Any = jnp.float32,
    *,
    remat: str = "none",
    attention: str = "auto",
) -> DenseStudent:
    """Build the module.

    Args:
      model: sizes and settings of the ViT, width of the features.
      settings: encoder, head and synthesizer.
      dtype: dtype of the matrix products.
      remat: recomputation policy, see layers.remat_block.
      attention: value of run.attention for a ViT; "auto" chooses by the default platform.
    """
    core = choose_core(attention, jax.default_backend(), dtype)
    return DenseStudent(model, settings, dtype, remat, core)


def init_dense_params(student: DenseStudent, key: Array) -> Params:
    """Return random float32 parameters."""
    images = jnp.zeros((1, student.model.image_px, student.model.image_px, 3))
    return student.init(key, images, method="everything")["params"]


def apply_dense(student: DenseStudent, params: Params, images: Array) -> Array:
    """Embed images, for inference.

    Args:
      student: module from build_dense_student.
      params: parameters of the student.
      images: float32 (B, Hpx, Wpx, 3), standardised; height and width are multiples of cell_px.

    Returns:
      float32 (B, h, w, E), not normalised.
    """
    return cast(Array, student.apply({"params": params}, images))


def apply_dense_train(
    student: DenseStudent, params: Params, images: Array, key: Array
) -> tuple[Array, Params]:
    """Embed images in training: with stochastic depth, dropout and the batch's own statistics.

    Args:
      student, params, images: see apply_dense.
      key: random key of stochastic depth and dropout.

    Returns:
      float32 (B, h, w, E), not normalised; and the next running statistics of batch norm, float32
      leaves with their places in `params`, {} without batch norm.
    """
    dense, found = student.apply(
        {"params": params}, images, rngs={"drop": key}, mutable=[STATISTICS]
    )
    return dense, found.get(STATISTICS, {})


def apply_synthesizer(
    student: DenseStudent, params: Params, means: Array, present: Array, tokens: Array
) -> Array:
    """Map region means (B, C, E) to prototypes, float32 (B, C, E); see Synthesizer."""
    out = student.apply({"params": params}, means, present, tokens, method="synthesize")
    return cast(Array, out)


def cell_px(model: ModelConfig, settings: DenseStudentConfig) -> int:
    """Return the side of a cell of the student's grid: patch_px, or MiT's first stride."""
    return model.encoder.patch_px if settings.encoder == "vit" else 4


def init_dense_from_teacher(params: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Initialise the ViT and the projection from a CLIP vision tower.

    Args:
      params: parameters of the student.
      vision_params: parameters of teacher.towers.VisionTower.
      model: settings of the student.

    Raises:
      ValueError: a field of model.encoder differs from the tower.
    """
    kernel = vision_params["projection"]["kernel"]
    params = {
        **params,
        "encoder": encoder_from_tower(params["encoder"], vision_params, model),
        "projection": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])},
    }
    return jax.tree.map(jnp.array, params)


def init_dense_from_zeroseg(params: Params, trained: Params, model: ModelConfig) -> Params:
    """Initialise the ViT from the encoder of a trained ZeroSeg student.

    Args:
      params: parameters of the dense student.
      trained: parameters of the ZeroSeg student.
      model: settings of the dense student.

    Raises:
      ValueError: an encoder of another size; names the first leaf that differs.
    """
    encoder = encoder_from_student(params["encoder"], trained["encoder"], model)
    params = {**params, "encoder": encoder}
    # With the region read-out of that student, patch features are close to its projection.
    if "region_projection" in trained:
        params["projection"] = trained["region_projection"]
    return jax.tree.map(jnp.array, params)
