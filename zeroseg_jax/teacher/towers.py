"""Vision and text towers of CLIP, MetaCLIP 2, SigLIP, TIPSv2, DINO and DINOv2 in Flax.

FAMILIES is the one table of what differs. Sources: Radford et al., 2021 (`clip`); Chuang et al.,
2025 (`metaclip_2`); Zhai et al., 2023, and Tschannen et al., 2025 (`siglip`); Caron et al., 2021
(`vit`); Oquab et al., 2023 (`dinov2`); Darcet et al., 2023 (`dinov2_with_registers`); the model
cards of TIPSv2 (`tipsv2`). LayerScale is folded into the linear layer before it while loading, so
every tower has the same blocks.

Letters: B images, P patches, D width, E projected width, T text tokens.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.models.layers import (
    Attention,
    Block,
    LayerNorm,
    Mlp,
    PatchEmbedding,
    resize_positions,
)
from zeroseg_jax.teacher.position_scale import resize_by_scale

Array = jax.Array


Colour = tuple[float, float, float]
CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
_HALF: Colour = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Family:
    """Parts and rules of a family's towers.

    Attributes:
      head: layers after the vision tower's final norm: "projection", "pooling" (attention), or
        "none".
      class_token: True for a class token before the patches.
      patch_bias: True for a bias of the patch embedding.
      pre_norm: True for a norm before the first block.
      positions: rule of resize_positions.
      text: pooling of the text tower: "end" and "first_end" at the end token (causal), "last" at
        the last token, "mean" over the tokens that are not padding; "" without a text tower.
      mean, std: normalisation of RGB in [0, 1], unless the checkpoint says otherwise.
      max_scale: largest factor of cosines. CLIP's training clips it at 100 (Radford et al.,
        section 2.5); SigLIP and TIPSv2 have no limit, and learned about 117 and 197.
    """

    head: str
    class_token: bool
    patch_bias: bool
    pre_norm: bool
    positions: str
    text: str
    mean: Colour
    std: Colour
    max_scale: float = math.inf

    @property
    def causal(self) -> bool:
        """True if a text token attends only to itself and those before it."""
        return self.text in ("end", "first_end")


_CLIP = Family("projection", True, False, True, "cubic", "end", CLIP_MEAN, CLIP_STD, 100.0)
_DINO = Family("none", True, True, False, "cubic", "", IMAGENET_MEAN, IMAGENET_STD)
FAMILIES = {
    "clip": _CLIP,
    "metaclip_2": dataclasses.replace(_CLIP, text="first_end"),
    "siglip": Family("pooling", False, True, False, "cubic", "last", _HALF, _HALF),
    "tipsv2": Family(
        "none", True, True, False, "linear_antialias", "mean", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    ),
    "dinov2": _DINO,
    "dinov2_with_registers": dataclasses.replace(_DINO, positions="cubic_antialias"),
    "vit": _DINO,
}


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
    """Settings of both towers.

    Attributes:
      vision, text: the towers; `text` is None for a checkpoint of the vision tower alone.
      embed_dim: width E of the projected features; the tower's own without a projection.
      image_px, patch_px: sides of the square input and of a patch.
      family: key of FAMILIES.
      vocabulary, context_tokens, end_token: sizes of the text tower, and its end token.
      registers: tokens without positions between the class token and the patches.
      temperature: TIPSv2's divisor of cosines, where the weights hold none.
    """

    vision: TowerConfig
    text: TowerConfig | None
    embed_dim: int
    image_px: int
    patch_px: int
    family: str = "clip"
    vocabulary: int = 0
    context_tokens: int = 0
    end_token: int = 0
    registers: int = 0
    temperature: float = 0.0


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
    """The image encoder.

    Attributes:
      config: settings of both towers.
      dtype: type of activations.
      core: implementation of attention, see layers.Attention.
      by_scale: True resizes positions by DINO's scale factor and not by the family's rule.
    """

    config: ClipConfig
    dtype: Any = jnp.float32
    core: str = "xla"
    by_scale: bool = False

    def setup(self) -> None:
        tower = self.config.vision
        side = self.config.image_px // self.config.patch_px
        normal = nn.initializers.normal(tower.width**-0.5)
        family = self.family
        self.patch_embedding = PatchEmbedding(
            tower.width, self.config.patch_px, bias=family.patch_bias, dtype=self.dtype
        )
        shape = (side * side + family.class_token, tower.width)
        self.positions = self.param("positions", normal, shape)
        self.blocks = [_block(tower, self.dtype, self.core) for _ in range(tower.depth)]
        self.post_norm = LayerNorm(tower.eps)
        if family.head == "pooling":
            self.head = PoolingHead(tower, self.dtype)
        if family.class_token:
            self.class_token = self.param("class_token", normal, (tower.width,))
        if family.pre_norm:
            self.pre_norm = LayerNorm(tower.eps)
        if family.head == "projection":
            self.projection = nn.Dense(self.config.embed_dim, use_bias=False, dtype=self.dtype)
        if self.config.registers:
            shape = (self.config.registers, tower.width)
            self.register_tokens = self.param("register_tokens", normal, shape)

    @property
    def family(self) -> Family:
        """The family's entry of FAMILIES."""
        return FAMILIES[self.config.family]

    @property
    def first_patch(self) -> int:
        """Index of the first patch token, after the class token and the registers."""
        return int(self.family.class_token) + self.config.registers

    def tokens(self, pixels: Array, depth: int | None = None) -> Array:
        """Return tokens after the first `depth` blocks, before the final norm.

        Args:
          pixels: normalised pixels, float (B, Hpx, Wpx, 3). Right and bottom pixels that do not
            fill a patch are cut off, as by a convolution (SigLIP's 384 px in patches of 14).
          depth: number of blocks; None for all.

        Returns:
          Tokens (B, first_patch + P, D): class token, registers, patches.
        """
        b, height, width, _ = pixels.shape
        side = self.config.patch_px
        h, w = height // side, width // side
        x = self.patch_embedding(pixels[:, : h * side, : w * side])
        grid = self.positions[int(self.family.class_token) :]
        if self.by_scale:
            resized = resize_by_scale(grid, h, w)
        else:
            resized = resize_positions(grid, h, w, self.family.positions)
        x = x + resized.astype(x.dtype)
        if self.family.class_token:
            first = (self.class_token + self.positions[0])[None]
            if self.config.registers:
                first = jnp.concatenate([first, self.register_tokens])
            first = jnp.broadcast_to(first.astype(x.dtype), (b, *first.shape))
            x = jnp.concatenate([first, x], axis=1)
        if self.family.pre_norm:
            x = self.pre_norm(x)
        for block in self.blocks[:depth]:
            x = block(x)
        return x

    def project(self, tokens: Array) -> Array:
        """Embed each token separately, (B, L, D) to (B, L, E).

        Applies the final norm and the projection, if there is one. SigLIP has a pooling head in
        place of the projection; it is applied to one token at a time.
        """
        normed = self.post_norm(tokens)
        if self.family.head == "projection":
            return self.projection(normed)
        if self.family.head == "none":
            return normed
        alone = normed.reshape(-1, 1, normed.shape[-1])
        return self.head(alone).reshape(normed.shape)

    def features(self, pixels: Array) -> Array:
        """Return patch tokens after the final norm, not projected: (B, h, w, D)."""
        patches = self.post_norm(self.tokens(pixels)[:, self.first_patch :])
        side = self.config.patch_px
        b, height, width, _ = pixels.shape
        return patches.reshape(b, height // side, width // side, -1)

    def __call__(self, pixels: Array) -> Array:
        """Encode pixels (B, Hpx, Wpx, 3) to (B, E): the class token, or the pooled patches."""
        tokens = self.tokens(pixels)
        if self.family.head == "pooling":
            return self.head(self.post_norm(tokens))
        return self.project(tokens[:, :1])[:, 0]


class TextTower(nn.Module):
    """Text encoder; Family.text is the rule of its pooling.

    TIPSv2's has fixed sine-cosine positions, ignores padding (id 0) and has no projection.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        tower = self.config.text
        if tower is None:
            raise ValueError("config: the text tower is missing; give a config with both towers.")
        self.token_embedding = nn.Embed(
            self.config.vocabulary, tower.width, embedding_init=nn.initializers.normal(0.02)
        )
        if self.family.text != "mean":
            self.positions = self.param(
                "positions",
                nn.initializers.normal(0.01),
                (self.config.context_tokens, tower.width),
            )
        self.blocks = [_block(tower, self.dtype) for _ in range(tower.depth)]
        self.final_norm = LayerNorm(tower.eps)
        if self.family.text != "mean":
            bias = self.family.text == "last"
            self.projection = nn.Dense(self.config.embed_dim, use_bias=bias, dtype=self.dtype)

    @property
    def family(self) -> Family:
        """The family's entry of FAMILIES."""
        return FAMILIES[self.config.family]

    def tokens(self, ids: Array, depth: int | None = None) -> Array:
        """Return tokens (B, T, D) of ids int (B, T) after `depth` blocks, before the final norm."""
        length = ids.shape[1]
        x = self.token_embedding(ids)
        mask = None
        if self.family.text == "mean":
            width = x.shape[-1]
            x = (x * width**0.5 + _sinusoid(length, width)).astype(self.dtype)
            mask = (ids != 0)[:, None, None, :]
        else:
            x = (x + self.positions[:length]).astype(self.dtype)
        if self.family.causal:
            mask = jnp.tril(jnp.ones((length, length), bool))
        for block in self.blocks[:depth]:
            x = block(x, mask)
        return x

    def __call__(self, ids: Array) -> Array:
        """Encode token ids int32 (B, T), padded at the end, to (B, E)."""
        x = self.final_norm(self.tokens(ids))
        if self.family.text == "last":
            return self.projection(x[:, -1])
        if self.family.text == "mean":
            words = (ids != 0)[..., None]
            return jnp.sum(x * words, axis=1) / jnp.maximum(words.sum(axis=1), 1)
        last = jnp.argmax(find_ends(ids, self.config), axis=1)
        return self.projection(jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0])


def find_ends(ids: Any, config: ClipConfig) -> Any:
    """Return values (B, T) whose first maximum is the end token of each row of ids (B, T)."""
    # Configs of OpenAI's models have end token 2 by mistake; it is the highest id. MetaCLIP 2's
    # end token is 2 indeed.
    if FAMILIES[config.family].text == "end" and config.end_token == 2:
        return ids
    return ids == config.end_token


def _sinusoid(length: int, width: int) -> np.ndarray:
    """Return fixed positions float32 (T, D): sines, then cosines, of frequencies 1 to 1e-4."""
    frequencies = 1e4 ** -np.linspace(0.0, 1.0, width // 2)
    angles = np.arange(length)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _block(tower: TowerConfig, dtype: Any, core: str = "xla") -> Block:
    ratio = tower.mlp_width / tower.width
    return Block(tower.heads, ratio, tower.activation, tower.eps, dtype, core)
