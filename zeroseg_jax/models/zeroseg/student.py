"""ZeroSeg student: encoder, pixel decoder and segmentation head (paper, figure 2).

Letters: B images, P patches, S2 segments, E teacher width.
"""

from __future__ import annotations

from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import ModelConfig
from zeroseg_jax.models.encoder import Encoder
from zeroseg_jax.models.fused_attention import choose_core
from zeroseg_jax.models.initialisation import encoder_from_tower
from zeroseg_jax.models.layers import gather_patches, resize_positions, sincos_positions
from zeroseg_jax.models.zeroseg.decoder import Decoder
from zeroseg_jax.models.zeroseg.grouping import SegmentationHead
from zeroseg_jax.models.zeroseg.masking import choose_visible, count_visible, scatter_patches
from zeroseg_jax.models.zeroseg.own_terms import subtract_context
from zeroseg_jax.models.zeroseg.upsampling import upsample

Array = jax.Array
Params = dict[str, Any]


@flax.struct.dataclass
class StudentOutputs:
    """Outputs in training, read by the losses.

    Attributes:
      pixels: float32 (B, P, patch_px * patch_px * 3), reconstructed patches.
      mask: float32 (B, P), 1 removed, 0 visible.
      segments: float32 (B, S2, E), g.
      global_feature: float32 (B, E), z.
      assignment: float32 (B, S2, P), soft, sums to 1 over S2 at visible patches, 0 elsewhere.
      patch_features: float32 (B, P, E), 0 at removed patches; None where grouping is learned.
    """

    pixels: Array
    mask: Array
    segments: Array
    global_feature: Array
    assignment: Array
    patch_features: Array | None


@flax.struct.dataclass
class SegmentOutputs:
    """Outputs at inference. With head.cluster_segments, S2 is that.

    Attributes:
      segments: float32 (B, S2, E), g; less their context with head.context_share.
      global_feature: float32 (B, E), z.
      maps: float32 (B, h, w, S2), assignment of each patch, or (B, Hpx, Wpx, S2) of each pixel
        with head.upsampling=guided; sums to 1 over S2.
    """

    segments: Array
    global_feature: Array
    maps: Array


class Student(nn.Module):
    """ZeroSeg as a linen module; called through apply_train and apply_segment."""

    config: ModelConfig
    dtype: Any = jnp.float32
    remat: str = "none"
    scan: bool = False
    core: str = "xla"

    def setup(self) -> None:
        config = self.config
        eps = config.encoder.norm_eps
        options = (self.dtype, self.remat, self.scan, self.core)
        self.encoder = Encoder(config.encoder, config.image_px, *options)
        self.decoder = Decoder(config.decoder, config.encoder.patch_px, eps, *options)
        self.head = SegmentationHead(
            config.head, config.embed_dim, eps, self.dtype, self.remat, self.core
        )
        if config.head.region_readout:
            self.region_projection = nn.Dense(config.embed_dim, dtype=self.dtype)

    def __call__(self, images: Array, noise: Array, gumbel_key: Array | None) -> StudentOutputs:
        """Encode the visible patches, reconstruct the others, and group; see apply_train."""
        visible = count_visible(noise.shape[1], self.config.mask_ratio)
        keep, restore, mask = choose_visible(noise, visible)
        tokens, inputs = self.encoder(images, keep)
        pixels = self.decoder(tokens, restore)
        side = self.config.image_px // self.config.encoder.patch_px
        positions = self._positions(side, side)
        positions = gather_patches(
            jnp.broadcast_to(positions, (len(images), *positions.shape)), keep
        )
        segments, global_feature, soft, features = self.head(
            self._levels(tokens, inputs), positions, gumbel_key
        )
        segments = self._add_regions(segments, inputs, soft)
        assignment = scatter_patches(soft.swapaxes(1, 2), keep, noise.shape[1]).swapaxes(1, 2)
        if features is not None:
            features = scatter_patches(features, keep, noise.shape[1])
        return StudentOutputs(pixels, mask, segments, global_feature, assignment, features)

    def segment(self, images: Array) -> SegmentOutputs:
        """Group all patches of images (B, Hpx, Wpx, 3); see apply_segment."""
        patch = self.config.encoder.patch_px
        h, w = images.shape[1] // patch, images.shape[2] // patch
        tokens, inputs = self.encoder(images)
        segments, global_feature, soft, _ = self.head(
            self._levels(tokens, inputs),
            self._positions(h, w)[None],
            appearance=inputs[len(inputs) // 2][:, 1:],
        )
        segments = self._add_regions(segments, inputs, soft)
        segments = subtract_context(segments, soft, self.config.head.context_share)
        maps = soft.swapaxes(1, 2).reshape(len(images), h, w, -1)
        return SegmentOutputs(segments, global_feature, upsample(maps, images, self.config.head))

    def _levels(self, tokens: Array, inputs: list[Array]) -> list[Array]:
        """Return the patches after the last block, or after every block (head.all_levels)."""
        levels = [*inputs[1:], tokens] if self.config.head.all_levels else [tokens]
        return [level[:, 1:] for level in levels]

    def _add_regions(self, segments: Array, inputs: list[Array], assignment: Array) -> Array:
        """Add the encoder's read-out of each segment (own, head.region_readout)."""
        if not self.config.head.region_readout:
            return segments
        regions = self.encoder.read_regions(inputs, assignment)
        return segments + self.region_projection(regions).astype(jnp.float32)

    def _positions(self, h: int, w: int) -> Array:
        side = self.config.image_px // self.config.encoder.patch_px
        table = jnp.asarray(sincos_positions(side, side, self.config.head.width))
        return resize_positions(table, h, w)


def build_student(
    model: ModelConfig,
    dtype: Any = jnp.float32,
    *,
    remat: str = "none",
    scan: bool = False,
    attention: str = "auto",
) -> Student:
    """Build the module.

    Args:
      model: sizes and settings.
      dtype: dtype of the matrix products.
      remat: recomputation policy, see layers.remat_block.
      scan: True to train with one loop over the blocks, see layers.run_stack.
      attention: value of run.attention; "auto" chooses by the default platform.
    """
    core = choose_core(attention, jax.default_backend(), dtype)
    return Student(model, dtype, remat, scan, core)


def count_patches(model: ModelConfig) -> int:
    """Return P, the number of patches of a training image."""
    return (model.image_px // model.encoder.patch_px) ** 2


def init_params(student: Student, key: Array) -> Params:
    """Return random float32 parameters."""
    model = student.config
    images = jnp.zeros((1, model.image_px, model.image_px, 3))
    noise = jnp.arange(count_patches(model), dtype=jnp.float32)[None]
    return student.init(key, images, noise, None)["params"]


def apply_train(student: Student, params: Params, images: Array, *, key: Array) -> StudentOutputs:
    """Run the student on masked images.

    Args:
      student: module from build_student.
      params: parameters of the student.
      images: float32 (B, image_px, image_px, 3), standardised by data.mean and data.std.
      key: random key of the step, for masks and Gumbel noise (head.gumbel).
    """
    mask_key, gumbel_key = jax.random.split(key)
    noise = jax.random.uniform(mask_key, (len(images), count_patches(student.config)))
    gumbel_key = gumbel_key if student.config.head.gumbel else None
    return cast(StudentOutputs, student.apply({"params": params}, images, noise, gumbel_key))


def apply_segment(student: Student, params: Params, images: Array) -> SegmentOutputs:
    """Run the student on images without masking.

    Args:
      student: module from build_student.
      params: parameters of the student.
      images: float32 (B, Hpx, Wpx, 3), standardised; height and width are multiples of patch_px.
    """
    return cast(SegmentOutputs, student.apply({"params": params}, images, method="segment"))


def init_from_teacher(params: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Initialise the encoder and the region read-out from a CLIP vision tower.

    Args:
      params: parameters of the student.
      vision_params: parameters of teacher.towers.VisionTower.
      model: settings of the student.

    Returns:
      New parameters; learned positions are resized to the student's grid.

    Raises:
      ValueError: a field of model.encoder differs from the tower.
    """
    params = {
        **params,
        "encoder": encoder_from_tower(params["encoder"], vision_params, model),
    }
    kernel = vision_params["projection"]["kernel"]
    projection = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])}
    if model.head.region_readout:
        params["region_projection"] = projection
    return jax.tree.map(jnp.array, params)


def set_feature_mean(params: Params, mean: Array | np.ndarray) -> Params:
    """Initialise the last biases of g and z with the teacher's mean feature, float32 (E,).

    This equals training on centred features, because an L1 distance does not change when the
    same vector is subtracted from both arguments.
    """
    mean = jnp.asarray(mean, jnp.float32)

    def with_bias(layer: Params) -> Params:
        # One copy per layer: a step that donates its state may not receive a buffer twice.
        return {**layer, "bias": jnp.array(mean)}

    head = {**params["head"]}
    head["global_mlp"] = {**head["global_mlp"], "fc2": with_bias(head["global_mlp"]["fc2"])}
    if "feature_mean" in head:  # clustered grouping
        head["feature_mean"] = jnp.array(mean)
        head["patch_projection"] = with_bias(head["patch_projection"])
    if "region_projection" in params:
        return {
            **params,
            "head": head,
            "region_projection": with_bias(params["region_projection"]),
        }
    if "segment_projection" in head:  # absent with head.shared_projection
        head["segment_projection"] = with_bias(head["segment_projection"])
    return {**params, "head": head}
