"""Self-training of CLIP-ZSS: regions without a label follow the student's own unseen class.

The transductive setting of ZegCLIP (Zhou et al., CVPR 2023): the names of the unseen classes are
known in training, their labels are not.

Letters: B images, L pixels of the label map, N seen classes, C = N + K with K latent regions of an
image, U unseen classes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class PixelScores(NamedTuple):
    """What the pixel, focal and dice terms compare.

    Attributes:
      logits: float32 (B, L, C).
      ids: int (B, L), 0 to C - 1; -1 without a label.
      choices: bool (B, C), classes in the softmax.
      importance: float32 (C,), weight of each class.
    """

    logits: Array
    ids: Array
    choices: Array
    importance: Array


def name_regions(
    scored: PixelScores, fused: Array, unseen: Array, seen: int, active: Array | bool
) -> PixelScores:
    """Give each pixel of a region to the unseen class that the student scores highest there.

    While active, the choices are the seen and unseen classes; latent regions are none, because
    their pixels have names. ZegCLIP names the pixels whose hidden label is unseen. Hidden labels
    are not read here, so void pixels in a region are named too.

    Args:
      scored: logits and ids of seen classes and latent regions.
      fused: int (B, L), label map with the ids of regions, from N on.
      unseen: float32 (B, L, U), logits of the unseen classes; no gradient passes to the choice.
      seen: N.
      active: bool (), False adds classes that are no choice and changes no id.

    Returns:
      PixelScores with U more classes, of weight 1.
    """
    b, _, count = unseen.shape
    classes = scored.logits.shape[-1]
    best = classes + jax.lax.stop_gradient(unseen).argmax(axis=-1)
    is_seen = jnp.broadcast_to(jnp.arange(classes) < seen, (b, classes))
    choices = jnp.where(active, is_seen, scored.choices)
    added = jnp.broadcast_to(jnp.asarray(active), (b, count))
    return PixelScores(
        jnp.concatenate([scored.logits, unseen], axis=-1),
        jnp.where(active & (fused >= seen), best, scored.ids),
        jnp.concatenate([choices, added], axis=-1),
        jnp.concatenate([scored.importance, jnp.ones(count)]),
    )
