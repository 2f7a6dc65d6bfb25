"""Vision and text towers of CLIP and SigLIP in Flax.

Sources: Radford et al., 2021 (`clip`); Zhai et al., 2023, and Tschannen et al., 2025 (`siglip`).
SigLIP has no class token, an attention-pooling head in place of the projection, and a
bidirectional text tower pooled at the last token.

Letters: B images, P patches, D width, E projected width, T text tokens.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import (
    Attention,
    Block,
    LayerNorm,
    Mlp,
    PatchEmbedding,
    resize_positions,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """Settings of one transformer tower."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    activation: str
    eps: float


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Settings of both towers; `text` is None for a checkpoint of the vision tower alone."""

    vision: TowerConfig
    text: TowerConfig | None
    embed_dim: int
    image_px: int
    patch_px: int
    family: str = "clip"  # clip | siglip
    vocabulary: int = 0
    context_tokens: int = 0
    end_token: int = 0


class PoolingHead(nn.Module):
    """SigLIP's attention pooling: a learned probe attends to the tokens, then a residual MLP."""

    tower: TowerConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Pool (B, L, D) to (B, D)."""
        width = self.tower.width
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, width))
        probe = jnp.broadcast_to(probe.astype(tokens.dtype), (len(tokens), 1, width))
        x = Attention(self.tower.heads, self.dtype, name="attention")(probe, tokens)
        mlp = Mlp(self.tower.mlp_width, width, self.tower.activation, self.dtype, name="mlp")
        return (x + mlp(LayerNorm(self.tower.eps, name="norm")(x)))[:, 0]


class VisionTower(nn.Module):
    """The image encoder."""

    config: ClipConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        tower = self.config.vision
        side = self.config.image_px // self.config.patch_px
        normal = nn.initializers.normal(tower.width**-0.5)
        siglip = self.config.family == "siglip"
        self.patch_embedding = PatchEmbedding(
            tower.width, self.config.patch_px, bias=siglip, dtype=self.dtype
        )
        shape = (side * side + self.first_patch, tower.width)
        self.positions = self.param("positions", normal, shape)
        self.blocks = [_block(tower, self.dtype) for _ in range(tower.depth)]
        self.post_norm = LayerNorm(tower.eps)
        if siglip:
            self.head = PoolingHead(tower, self.dtype)
            return
        self.class_token = self.param("class_token", normal, (tower.width,))
        self.pre_norm = LayerNorm(tower.eps)
        self.projection = nn.Dense(self.config.embed_dim, use_bias=False, dtype=self.dtype)

    @property
    def first_patch(self) -> int:
        """Index of the first patch token: 1 with a class token, else 0."""
        return 0 if self.config.family == "siglip" else 1

    def tokens(self, pixels: Array, depth: int | None = None) -> Array:
        """Return tokens after the first `depth` blocks, before the final norm.

        Args:
          pixels: normalised pixels, float (B, Hpx, Wpx, 3). Right and bottom pixels that do not
            fill a patch are cut off, as by a convolution (SigLIP's 384 px in patches of 14).
          depth: number of blocks; None for all.

        Returns:
          Tokens (B, 1 + P, D), the class token first; (B, P, D) in SigLIP.
        """
        b, height, width, _ = pixels.shape
        side = self.config.patch_px
        h, w = height // side, width // side
        x = self.patch_embedding(pixels[:, : h * side, : w * side])
        x = x + resize_positions(self.positions[self.first_patch :], h, w).astype(x.dtype)
        if self.first_patch:
            first = (self.class_token + self.positions[0]).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(first, (b, 1, first.shape[0])), x], axis=1)
            x = self.pre_norm(x)
        for block in self.blocks[:depth]:
            x = block(x)
        return x

    def project(self, tokens: Array) -> Array:
        """Embed each token separately, (B, L, D) to (B, L, E).

        Applies the final norm and the projection. SigLIP has a pooling head in place of the
        projection; it is applied to one token at a time.
        """
        normed = self.post_norm(tokens)
        if self.config.family == "clip":
            return self.projection(normed)
        alone = normed.reshape(-1, 1, normed.shape[-1])
        return self.head(alone).reshape(normed.shape)

    def __call__(self, pixels: Array) -> Array:
        """Encode pixels (B, Hpx, Wpx, 3) to (B, E): the class token, or the pooled patches."""
        tokens = self.tokens(pixels)
        if self.config.family == "clip":
            return self.project(tokens[:, :1])[:, 0]
        return self.head(self.post_norm(tokens))


class TextTower(nn.Module):
    """The text encoder. CLIP's is causal and pooled at the end token, SigLIP's at the last."""

    config: ClipConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        tower = self.config.text
        if tower is None:
            raise ValueError("config: the text tower is missing; give a config with both towers.")
        self.token_embedding = nn.Embed(
            self.config.vocabulary, tower.width, embedding_init=nn.initializers.normal(0.02)
        )
        self.positions = self.param(
            "positions",
            nn.initializers.normal(0.01),
            (self.config.context_tokens, tower.width),
        )
        self.blocks = [_block(tower, self.dtype) for _ in range(tower.depth)]
        self.final_norm = LayerNorm(tower.eps)
        siglip = self.config.family == "siglip"
        self.projection = nn.Dense(self.config.embed_dim, use_bias=siglip, dtype=self.dtype)

    def tokens(self, ids: Array, depth: int | None = None) -> Array:
        """Return tokens (B, T, D) of ids int (B, T) after `depth` blocks, before the final norm."""
        length = ids.shape[1]
        x = (self.token_embedding(ids) + self.positions[:length]).astype(self.dtype)
        causal = None
        if self.config.family == "clip":
            causal = jnp.tril(jnp.ones((length, length), bool))
        for block in self.blocks[:depth]:
            x = block(x, causal)
        return x

    def __call__(self, ids: Array) -> Array:
        """Encode token ids int32 (B, T), padded after the end token, to (B, E)."""
        x = self.final_norm(self.tokens(ids))
        if self.config.family == "siglip":
            return self.projection(x[:, -1])
        # Configs of OpenAI's models say end token 2 by mistake; it is the highest id.
        ends = ids if self.config.end_token == 2 else ids == self.config.end_token
        last = jnp.argmax(ends, axis=1)
        return self.projection(jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0])


def _block(tower: TowerConfig, dtype: Any) -> Block:
    ratio = tower.mlp_width / tower.width
    return Block(tower.heads, ratio, tower.activation, tower.eps, dtype)
