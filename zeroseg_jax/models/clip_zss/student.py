"""The CLIP-ZSS student: any dense encoder whose output lies in CLIP's space.

At test time the encoder and words are all there is; the synthesizer works in training only.

Letters: B images, h, w the student's grid, C regions, M class tokens, E teacher width.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.config import DenseStudentConfig, ModelConfig
from zeroseg_jax.models.clip_zss.segformer import MIT_SIZES, AllMlpHead, MixTransformer
from zeroseg_jax.models.clip_zss.synthesizer import Synthesizer
from zeroseg_jax.models.encoder import Encoder
from zeroseg_jax.models.layers import resize_positions
from zeroseg_jax.models.zeroseg.student import tower_as_encoder

Array = jax.Array
Params = dict[str, Any]


class DenseStudent(nn.Module):
    """Encoder, head, and synthesizer as a linen module; use the functions below."""

    model: ModelConfig
    settings: DenseStudentConfig
    dtype: Any = jnp.float32
    remat: str = "none"

    def setup(self):
        settings = self.settings
        if settings.encoder == "vit":
            self.encoder = Encoder(self.model.encoder, self.model.image_px, self.dtype, self.remat)
        else:
            self.encoder = MixTransformer(MIT_SIZES[settings.encoder], self.dtype, self.remat)
            self.head = AllMlpHead(settings.head_width, self.dtype)
        self.projection = nn.Dense(self.model.embed_dim, dtype=self.dtype)
        self.synthesizer = Synthesizer(
            settings.synthesizer_width,
            settings.synthesizer_depth,
            settings.synthesizer_heads,
            self.dtype,
        )

    def __call__(self, images: Array) -> Array:
        """Embed every cell of the student's grid; see `apply_dense`."""
        if self.settings.encoder == "vit":
            tokens, _ = self.encoder(images)
            patch = self.model.encoder.patch_px
            h, w = images.shape[1] // patch, images.shape[2] // patch
            x = tokens[:, 1:].reshape(len(images), h, w, -1)
        else:
            x = self.head(self.encoder(images))
        return self.projection(x).astype(jnp.float32)

    def synthesize(self, means: Array, present: Array, tokens: Array) -> Array:
        """Turn region means into prototypes; see Synthesizer."""
        return self.synthesizer(means, present, tokens)

    def everything(self, images: Array) -> Array:
        """Touch every parameter, for initialisation."""
        dense = self(images)
        means = dense.mean(axis=(1, 2))[:, None]
        return self.synthesize(means, jnp.ones(means.shape[:2], bool), means)


def build_dense_student(
    model: ModelConfig,
    settings: DenseStudentConfig,
    dtype: Any = jnp.float32,
    *,
    remat: str = "none",
) -> DenseStudent:
    """Build the module; `dtype` is that of the matrix products, `remat` see layers.remat_block."""
    return DenseStudent(model, settings, dtype, remat)


def init_dense_params(student: DenseStudent, key: Array) -> Params:
    """Draw float32 parameters."""
    images = jnp.zeros((1, student.model.image_px, student.model.image_px, 3))
    return student.init(key, images, method="everything")["params"]


def apply_dense(student: DenseStudent, params: Params, images: Array) -> Array:
    """Embed images.

    Args:
      student: from build_dense_student.
      params: its parameters.
      images: float32 (B, Hpx, Wpx, 3), normalised, sides multiples of cell_px.

    Returns:
      float32 (B, h, w, E), not normalised.
    """
    return student.apply({"params": params}, images)


def apply_synthesizer(
    student: DenseStudent, params: Params, means: Array, present: Array, tokens: Array
) -> Array:
    """Turn region means (B, C, E) into prototypes, float32 (B, C, E); see Synthesizer."""
    return student.apply({"params": params}, means, present, tokens, method="synthesize")


def cell_px(model: ModelConfig, settings: DenseStudentConfig) -> int:
    """Return the side of a cell of the student's grid: the patch, or MiT's first stride."""
    return model.encoder.patch_px if settings.encoder == "vit" else 4


def init_dense_from_teacher(params: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Start the ViT and the projection from a CLIP vision tower of the same sizes.

    Args:
      params: the student's.
      vision_params: the teacher's tower, in teacher.clip's names.
      model: the student's settings, checked by models.student.check_tower.
    """
    kernel = vision_params["projection"]["kernel"]
    params = {
        **params,
        "encoder": tower_as_encoder(params["encoder"], vision_params, model),
        "projection": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])},
    }
    return jax.tree.map(jnp.array, params)


def init_dense_from_zeroseg(params: Params, trained: Params, model: ModelConfig) -> Params:
    """Start the ViT from the encoder of a trained ZeroSeg student.

    Args:
      params: the dense student's.
      trained: a ZeroSeg student's params.
      model: the dense student's settings.

    Raises:
      ValueError: an encoder of other sizes; names the first leaf that differs.
    """
    wanted, found = params["encoder"], dict(trained["encoder"])
    side = model.image_px // model.encoder.patch_px
    if "positions" in found and found["positions"].shape[1] == model.encoder.width:
        rows = found["positions"]
        resized = resize_positions(jnp.asarray(rows[1:]), side, side)
        found["positions"] = jnp.concatenate([jnp.asarray(rows[:1]), resized])
    check_same_shapes(wanted, found, "clip_zss.student.encoder_weights", "model.encoder")
    params = {**params, "encoder": found}
    # Where the student reads regions with the class token, patches lie near that read-out.
    if "region_projection" in trained:
        params["projection"] = trained["region_projection"]
    return jax.tree.map(jnp.array, params)


def check_same_shapes(wanted: Params, found: Params, origin: str, field: str) -> None:
    """Refuse parameters of other names or shapes than `wanted`.

    Raises:
      ValueError: the first leaf that differs.
    """
    shapes = {jax.tree_util.keystr(k): v.shape for k, v in _leaves(wanted)}
    others = {jax.tree_util.keystr(k): v.shape for k, v in _leaves(found)}
    for name in sorted(shapes.keys() | others.keys()):
        if shapes.get(name) != others.get(name):
            raise ValueError(
                f"{origin}: {name} is {others.get(name)} there, but {field} makes it "
                f"{shapes.get(name)}; set {field} as that student's config has it."
            )


def _leaves(tree: Params):
    return jax.tree_util.tree_leaves_with_path(tree)
