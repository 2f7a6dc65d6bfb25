"""ViT encoder of both students: visible patches only in training (ZeroSeg, section 3.1).

Letters: B images, K visible patches, L patches, S segments, D width.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.config import EncoderConfig
from zeroseg_jax.models.layers import (
    LayerNorm,
    PatchEmbedding,
    gather_patches,
    remat_block,
    resize_positions,
    run_stack,
    sincos_positions,
)

Array = jax.Array
_REGION_EPS = 1e-6


class Encoder(nn.Module):
    """ViT of MAE, or of CLIP with the settings of its tower.

    Positions are those of the training grid, resized for any other grid. This holds for
    sine-cosine positions too: a larger image spreads the trained positions over more patches.
    """

    config: EncoderConfig
    image_px: int
    dtype: Any = jnp.float32
    remat: str = "none"
    scan: bool = False  # see layers.run_stack
    core: str = "xla"  # see layers.Attention

    def setup(self) -> None:
        config = self.config
        side = self.image_px // config.patch_px
        normal = nn.initializers.normal(0.02)
        self.patch_embedding = PatchEmbedding(config.width, config.patch_px, dtype=self.dtype)
        self.class_token = self.param("class_token", normal, (config.width,))
        if config.positions == "learned":
            shape = (1 + side * side, config.width)
            self.positions = self.param("positions", normal, shape)
        if config.pre_norm:
            self.pre_norm = LayerNorm(config.norm_eps)
        block = remat_block(self.remat)
        self.blocks = [
            block(
                config.heads,
                config.mlp_ratio,
                config.activation,
                config.norm_eps,
                self.dtype,
                self.core,
            )
            for _ in range(config.depth)
        ]
        self.post_norm = LayerNorm(config.norm_eps)

    def __call__(self, images: Array, keep: Array | None = None) -> tuple[Array, list[Array]]:
        """Encode images.

        Args:
          images: float32 (B, Hpx, Wpx, 3), standardised; height and width are multiples of
            patch_px.
          keep: int32 (B, K), indices of the visible patches; None for all.

        Returns:
          tokens: (B, 1 + K, D), class token, then the visible patches in the order of `keep`.
          inputs: input of each block, (B, 1 + K, D) each, for read_regions.
        """
        config = self.config
        side = self.image_px // config.patch_px
        h, w = images.shape[1] // config.patch_px, images.shape[2] // config.patch_px
        patches = self.patch_embedding(images)
        class_token = self.class_token
        if config.positions == "learned":
            class_token = class_token + self.positions[0]
            positions = self.positions[1:]
        else:
            positions = jnp.asarray(sincos_positions(side, side, config.width))
        patches = patches + resize_positions(positions, h, w).astype(patches.dtype)
        if keep is not None:
            patches = gather_patches(patches, keep)
        first = jnp.broadcast_to(class_token.astype(patches.dtype), (len(images), 1, config.width))
        tokens = jnp.concatenate([first, patches], axis=1)
        if config.pre_norm:
            tokens = self.pre_norm(tokens)
        # In training only: at test time a scan gains nothing and copies the parameters.
        tokens, inputs = run_stack(self.blocks, tokens, scan=self.scan and keep is not None)
        return self.post_norm(tokens), inputs

    def read_regions(self, inputs: list[Array], assignment: Array) -> Array:
        """Return one class token per segment, restricted to the segment's patches.

        A copy of the class token per segment passes through the blocks. It attends to itself and
        to the patches, weighted by their assignment to the segment.

        Args:
          inputs: input of each block, (B, 1 + L, D) each.
          assignment: float32 (B, S, L).

        Returns:
          (B, S, D), after the final LayerNorm.

        Source: own, with the weights of the blocks; the copied class token with an attention
        bias is from SAN (Xu et al., CVPR 2023).
        """
        segments = assignment.shape[1]
        alone = jnp.where(jnp.eye(segments, dtype=bool), 0.0, jnp.finfo(jnp.float32).min / 2)
        alone = jnp.broadcast_to(alone, (len(assignment), segments, segments))
        inside = jnp.log(assignment + _REGION_EPS)
        bias = jnp.concatenate([alone, inside], axis=2)[:, None]
        x = jnp.repeat(inputs[0][:, :1], segments, axis=1)
        for block, tokens in zip(self.blocks, inputs, strict=True):
            x = block(x, context=jnp.concatenate([x, tokens[:, 1:]], axis=1), bias=bias)
        return self.post_norm(x)
