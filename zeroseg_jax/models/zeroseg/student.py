"""The ZeroSeg student: encoder, pixel decoder and segmentation head (paper, figure 2)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from zeroseg_jax.config import ModelConfig
from zeroseg_jax.models.encoder import Encoder
from zeroseg_jax.models.layers import resize_positions, sincos_positions
from zeroseg_jax.models.zeroseg.decoder import Decoder
from zeroseg_jax.models.zeroseg.grouping import SegmentationHead
from zeroseg_jax.models.zeroseg.masking import (
    choose_visible,
    count_visible,
    gather_patches,
    scatter_patches,
)

Array = jax.Array
Params = dict[str, Any]


@flax.struct.dataclass
class StudentOutputs:
    """What training reads.

    Attributes:
      pixels: float32 (B, P, patch_px * patch_px * 3), predicted patches.
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
    """What inference reads: segments (B, S2, E), global_feature (B, E), maps (B, h, w, S2)."""

    segments: Array
    global_feature: Array
    maps: Array


class Student(nn.Module):
    """ZeroSeg as a linen module; use the functions below."""

    config: ModelConfig
    dtype: Any = jnp.float32
    remat: str = "none"
    scan: bool = False

    def setup(self):
        config = self.config
        eps = config.encoder.norm_eps
        how = {"dtype": self.dtype, "remat": self.remat, "scan": self.scan}
        self.encoder = Encoder(config.encoder, config.image_px, **how)
        self.decoder = Decoder(config.decoder, config.encoder.patch_px, eps, **how)
        self.head = SegmentationHead(config.head, config.embed_dim, eps, self.dtype, self.remat)
        if config.head.region_readout:
            self.region_projection = nn.Dense(config.embed_dim, dtype=self.dtype)

    def __call__(self, images: Array, noise: Array, gumbel_key: Array | None) -> StudentOutputs:
        """Encode the visible patches, rebuild the rest, and group; see `apply_train`."""
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
        """Group all patches of images (B, Hpx, Wpx, 3); see `apply_segment`."""
        patch = self.config.encoder.patch_px
        h, w = images.shape[1] // patch, images.shape[2] // patch
        tokens, inputs = self.encoder(images)
        segments, global_feature, soft, _ = self.head(
            self._levels(tokens, inputs),
            self._positions(h, w)[None],
            appearance=inputs[len(inputs) // 2][:, 1:],
        )
        segments = self._add_regions(segments, inputs, soft)
        maps = soft.swapaxes(1, 2).reshape(len(images), h, w, -1)
        return SegmentOutputs(segments, global_feature, maps)

    def _levels(self, tokens: Array, inputs: list[Array]) -> list[Array]:
        """Return what the head reads: patches after the last block, or after every block."""
        levels = [*inputs[1:], tokens] if self.config.head.all_levels else [tokens]
        return [level[:, 1:] for level in levels]

    def _add_regions(self, segments: Array, inputs: list[Array], assignment: Array) -> Array:
        if not self.config.head.region_readout:
            return segments
        regions = self.encoder.read_regions(inputs, assignment)
        return segments + self.region_projection(regions).astype(jnp.float32)

    def _positions(self, h: int, w: int) -> Array:
        side = self.config.image_px // self.config.encoder.patch_px
        table = jnp.asarray(sincos_positions(side, side, self.config.head.width))
        return resize_positions(table, h, w)


def build_student(
    model: ModelConfig, dtype: Any = jnp.float32, *, remat: str = "none", scan: bool = False
) -> Student:
    """Build the module.

    Args:
      model: sizes.
      dtype: of the matrix products.
      remat: see layers.remat_block.
      scan: whether training loops over the blocks, see layers.run_stack.
    """
    return Student(model, dtype, remat, scan)


def count_patches(model: ModelConfig) -> int:
    """Return P, the patches of a training image."""
    return (model.image_px // model.encoder.patch_px) ** 2


def init_params(student: Student, key: Array) -> Params:
    """Draw float32 parameters."""
    model = student.config
    images = jnp.zeros((1, model.image_px, model.image_px, 3))
    noise = jnp.arange(count_patches(model), dtype=jnp.float32)[None]
    return student.init(key, images, noise, None)["params"]


def apply_train(student: Student, params: Params, images: Array, *, key: Array) -> StudentOutputs:
    """Run the student on masked images.

    Args:
      student: from build_student.
      params: its parameters.
      images: float32 (B, image_px, image_px, 3), normalised.
      key: random key of the step: masks, and Gumbel noise where the config asks for it.

    Returns:
      StudentOutputs.
    """
    mask_key, gumbel_key = jax.random.split(key)
    noise = jax.random.uniform(mask_key, (len(images), count_patches(student.config)))
    gumbel_key = gumbel_key if student.config.head.gumbel else None
    return student.apply({"params": params}, images, noise, gumbel_key)


def apply_segment(student: Student, params: Params, images: Array) -> SegmentOutputs:
    """Run the student on whole images, nothing masked.

    Args:
      student: from build_student.
      params: its parameters.
      images: float32 (B, Hpx, Wpx, 3), normalised, sides multiples of the patch.

    Returns:
      SegmentOutputs.
    """
    return student.apply({"params": params}, images, method="segment")


def init_from_teacher(params: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Start the encoder, and the read-outs of regions and patches, from a CLIP vision tower.

    Args:
      params: the student's.
      vision_params: the teacher's vision tower, in teacher.clip's names.
      model: the student's settings, which must match the tower.

    Returns:
      New params; learned positions are resized to the student's grid.

    Raises:
      ValueError: a field of `model` that does not fit the tower.
    """
    params = {
        **params,
        "encoder": tower_as_encoder(params["encoder"], vision_params, model),
    }
    kernel = vision_params["projection"]["kernel"]
    projection = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])}
    if model.head.region_readout:
        params["region_projection"] = projection
    return jax.tree.map(jnp.array, params)


def tower_as_encoder(encoder: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Put a CLIP vision tower in an encoder's names.

    Args:
      encoder: the encoder's own params.
      vision_params: the teacher's vision tower, in teacher.clip's names.
      model: the settings of the encoder, which must match the tower.

    Returns:
      New params; learned positions are resized to the encoder's grid.

    Raises:
      ValueError: a field of `model` that does not fit the tower.
    """
    config = model.encoder
    side = model.image_px // config.patch_px
    blocks = sum(name.startswith("blocks_") for name in vision_params)
    kernel = vision_params["patch_embedding"]["projection"]["kernel"]
    for field, mine, theirs in (
        ("width", config.width, kernel.shape[1]),
        ("depth", config.depth, blocks),
        ("patch_px", config.patch_px, int((kernel.shape[0] // 3) ** 0.5)),
        ("pre_norm", config.pre_norm, True),
        ("positions", config.positions, "learned"),
    ):
        if mine != theirs:
            raise ValueError(
                f"model.encoder.{field} is {mine!r} but the teacher's tower has {theirs!r}; "
                "set it so, or set model.encoder.init='scratch'."
            )
    positions = vision_params["positions"]
    resized = resize_positions(positions[1:], side, side)
    tower = {
        **encoder,
        **{name: value for name, value in vision_params.items() if name.startswith("blocks_")},
        "class_token": vision_params["class_token"],
        "positions": jnp.concatenate([positions[:1], resized]),
        "pre_norm": vision_params["pre_norm"],
        "post_norm": vision_params["post_norm"],
    }
    bias = encoder["patch_embedding"]["projection"]["bias"]
    tower["patch_embedding"] = {"projection": {"kernel": kernel, "bias": jnp.zeros_like(bias)}}
    return tower


def set_feature_mean(params: Params, mean: Array) -> Params:
    """Start g and z at the teacher's mean feature, float32 (E,): the centring of an L1 target.

    L1 distances do not change when the same vector is taken from both sides, so training on
    centred features and starting the last bias at their mean are one thing.
    """
    mean = jnp.asarray(mean, jnp.float32)

    def with_bias(layer: Params) -> Params:
        # A copy each: a step that donates its state may meet no buffer twice.
        return {**layer, "bias": jnp.array(mean)}

    head = {**params["head"]}
    head["global_mlp"] = {**head["global_mlp"], "fc2": with_bias(head["global_mlp"]["fc2"])}
    if "feature_mean" in head:  # grouping is clustered
        head["feature_mean"] = jnp.array(mean)
        head["patch_projection"] = with_bias(head["patch_projection"])
    if "region_projection" in params:
        return {
            **params,
            "head": head,
            "region_projection": with_bias(params["region_projection"]),
        }
    head["segment_projection"] = with_bias(head["segment_projection"])
    return {**params, "head": head}
