"""Segmentation head: GroupViT-style grouping of patches into segments, features g and z.

Letters: B images, L tokens to be grouped, S segments, D width, E teacher width. Source: GroupViT
(Xu et al., CVPR 2022), section 3.2; ZeroSeg, section 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.config import HeadConfig
from zeroseg_jax.models.layers import Attention, LayerNorm, Mlp, remat_block
from zeroseg_jax.models.zeroseg import own_terms

Array = jax.Array


class TokenMixer(nn.Module):
    """MLP along the token axis: (B, S, D) to (B, S_out, D)."""

    hidden: int
    out: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        mixed = Mlp(self.hidden, self.out, dtype=self.dtype, name="mlp")(tokens.swapaxes(1, 2))
        return mixed.swapaxes(1, 2)


class GroupingBlock(nn.Module):
    """Assignment of L tokens to S segments, and their weighted mean per segment."""

    config: HeadConfig
    segments: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Array, segment_tokens: Array, gumbel_key: Array | None = None
    ) -> tuple[Array, Array]:
        """Group tokens.

        Args:
          tokens: (B, L, D), patches or finer segments.
          segment_tokens: (B, S, D).
          gumbel_key: random key of Gumbel(0, 1) noise added to the scores; None for no noise.

        Returns:
          segments: (B, S, D).
          assignment: float32 (B, S, L), soft and without noise, sums to 1 over S.
        """
        width = tokens.shape[-1]
        segment_tokens = LayerNorm(self.eps, name="segment_norm")(segment_tokens)
        tokens = LayerNorm(self.eps, name="token_norm")(tokens)
        queries = TokenMixer(width // 2, self.segments, self.dtype, name="mixer")(segment_tokens)
        queries = LayerNorm(self.eps, name="mixed_norm")(queries)
        queries = self._cross_attend(queries, tokens)
        merged, assignment = self._assign(queries, tokens, gumbel_key)
        merged = merged + queries
        mlp = Mlp(4 * width, width, dtype=self.dtype, name="channel_mlp")
        return merged + mlp(LayerNorm(self.eps, name="merged_norm")(merged)), assignment

    def _cross_attend(self, queries: Array, tokens: Array) -> Array:
        # Queries and keys are normalised already; GroupViT adds norms before the MLP and at the
        # end only.
        width = tokens.shape[-1]
        attention = Attention(self.config.heads, self.dtype, name="cross_attention")
        queries = queries + attention(queries, tokens)
        mlp = Mlp(4 * width, width, dtype=self.dtype, name="cross_mlp")
        queries = queries + mlp(LayerNorm(self.eps, name="cross_norm")(queries))
        return LayerNorm(self.eps, name="cross_post_norm")(queries)

    def _assign(
        self, queries: Array, tokens: Array, gumbel_key: Array | None
    ) -> tuple[Array, Array]:
        """Softmax over segments, and the mean token of each segment: (B, S, D), (B, S, L)."""
        width = tokens.shape[-1]

        def project(name: str, x: Array) -> Array:
            return nn.Dense(width, dtype=self.dtype, name=name)(x)

        q, k, v = project("query", queries), project("key", tokens), project("value", tokens)
        scores = jnp.einsum("bsd,bld->bsl", q, k, preferred_element_type=jnp.float32)
        scores = own_terms.normalise_scores(scores * width**-0.5, self.config.scores)
        soft = jax.nn.softmax(scores, axis=1)
        assignment = soft
        if gumbel_key is not None:
            noise = jax.random.gumbel(gumbel_key, scores.shape, jnp.float32)
            assignment = jax.nn.softmax((scores + noise) / self.config.temperature, axis=1)
        if self.config.assignment == "hard":
            assignment = _straight_through(assignment)
        # count_eps keeps a segment without tokens finite. GroupViT uses 1.0; a tiny value makes
        # the straight-through gradient explode.
        share = assignment / (assignment.sum(axis=2, keepdims=True) + self.config.count_eps)
        merged = jnp.einsum("bsl,bld->bsd", share.astype(self.dtype), v)
        return project("out", merged), soft


def _straight_through(soft: Array) -> Array:
    hard = jax.nn.one_hot(soft.argmax(axis=1), soft.shape[1], axis=1, dtype=soft.dtype)
    return hard + soft - jax.lax.stop_gradient(soft)


class SegmentationHead(nn.Module):
    """Transformer stages with a grouping block after all but the last, then g and z."""

    config: HeadConfig
    embed_dim: int
    eps: float
    dtype: Any = jnp.float32
    remat: str = "none"
    core: str = "xla"  # see layers.Attention

    @nn.compact
    def __call__(
        self,
        levels: list[Array],
        positions: Array,
        gumbel_key: Array | None = None,
        appearance: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """Group patches into segments and project them to the teacher's space.

        Args:
          levels: visible patches (B, L, D_encoder) without the class token, after one or several
            blocks of the encoder.
          positions: float32 (B or 1, L, D_head), added where config.add_positions.
          gumbel_key: random key of the assignment noise in training; None for no noise.
          appearance: (B, L, D_encoder), further features for clustering at test time; None in
            training.

        Returns:
          segments: float32 (B, S2, E), g.
          global_feature: float32 (B, E), z.
          assignment: float32 (B, S2, L), sums to 1 over S2.
          patch_features: float32 (B, L, E) where grouping is clustered, else None.
        """
        config = self.config
        if len(levels) > 1:  # the output of an inner block is not normalised
            levels = [LayerNorm(self.eps, name=f"level_{i}")(x) for i, x in enumerate(levels)]
        patches = jnp.concatenate(levels, axis=-1)
        x = nn.Dense(config.width, dtype=self.dtype, name="embedding")(patches)
        if config.add_positions:
            x = x + positions.astype(x.dtype)
        patch_features = None
        if config.grouping == "clustered":
            x, assignment, patch_features = self._cluster(x, appearance)
        else:
            x, assignment = self._group(x, gumbel_key)
        norm = LayerNorm(self.eps, name="global_norm")
        mlp = Mlp(config.z_hidden, self.embed_dim, dtype=self.dtype, name="global_mlp")
        block = self._block()(name="global_block")
        if config.shared_projection:
            x = block(x)
            segments = mlp(norm(x))
        else:
            # With the region read-out, g is a correction of it, which starts at 0.
            zeros = config.region_readout
            start = nn.initializers.zeros if zeros else nn.linear.default_kernel_init
            project = nn.Dense(
                self.embed_dim, dtype=self.dtype, kernel_init=start, name="segment_projection"
            )
            segments = project(LayerNorm(self.eps, name="segment_norm")(x))
            x = block(x)
        z = mlp(norm(x).mean(axis=1))
        return segments.astype(jnp.float32), z.astype(jnp.float32), assignment, patch_features

    def _group(self, x: Array, gumbel_key: Array | None) -> tuple[Array, Array]:
        """Learned grouping (the paper): (B, L, D) to (B, S2, D) and (B, S2, L)."""
        config = self.config
        assignment: Array | None = None
        previous: Array | None = None
        for stage, depth in enumerate(config.stage_depths):
            last = stage == len(config.segment_tokens)
            tokens = None if last else self._segment_tokens(stage, len(x), previous)
            x, previous = self._run_blocks(stage, depth, x, tokens)
            if last:
                break
            key = None if gumbel_key is None else jax.random.fold_in(gumbel_key, stage)
            block = GroupingBlock(
                config, config.segment_tokens[stage], self.eps, self.dtype, name=f"grouping_{stage}"
            )
            x, soft = block(x, previous, key)
            assignment = soft if assignment is None else jnp.matmul(soft, assignment)
        assert assignment is not None, "model.head.segment_tokens is empty"
        return x, assignment

    def _cluster(self, x: Array, appearance: Array | None) -> tuple[Array, Array, Array]:
        """Clustered grouping (own) between the first stage of blocks and the last."""
        config = self.config
        last = len(config.segment_tokens)
        x, _ = self._run_blocks(0, config.stage_depths[0], x, None)
        project = nn.Dense(self.embed_dim, dtype=self.dtype, name="patch_projection")
        features = project(LayerNorm(self.eps, name="patch_norm")(x)).astype(jnp.float32)
        mean = self.param("feature_mean", nn.initializers.zeros, (self.embed_dim,))
        assignment = own_terms.assign_clusters(features - mean, appearance, config)
        x = own_terms.average_clusters(assignment, x)
        x, _ = self._run_blocks(last, config.stage_depths[last], x, None)
        return x, assignment, features

    def _segment_tokens(self, stage: int, batch: int, previous: Array | None) -> Array:
        count, width = self.config.segment_tokens[stage], self.config.width
        init = (
            nn.initializers.normal(self.config.token_std) if stage == 0 else nn.initializers.zeros
        )
        tokens = self.param(f"segment_tokens_{stage}", init, (count, width))
        tokens = jnp.broadcast_to(tokens.astype(self.dtype), (batch, count, width))
        if previous is None:
            return tokens
        normed = LayerNorm(self.eps, name=f"carry_norm_{stage}")(previous)
        return tokens + TokenMixer(width // 2, count, self.dtype, name=f"carry_{stage}")(normed)

    def _run_blocks(
        self, stage: int, depth: int, x: Array, tokens: Array | None
    ) -> tuple[Array, Array]:
        """Run the blocks of a stage on tokens and segment tokens together."""
        length = x.shape[1]
        both = x if tokens is None else jnp.concatenate([x, tokens], axis=1)
        block = self._block()
        for i in range(depth):
            both = block(name=f"stage_{stage}_blocks_{i}")(both)
        return both[:, :length], both[:, length:]

    def _block(self) -> Callable[..., nn.Module]:
        return functools.partial(
            remat_block(self.remat),
            self.config.heads,
            eps=self.eps,
            dtype=self.dtype,
            core=self.core,
        )
