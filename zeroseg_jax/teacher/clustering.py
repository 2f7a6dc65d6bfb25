"""K-means of a teacher's dense tokens to regions: the pseudo labels of CLIP-ZSS.

The seeds are means over sliding windows of several sizes. K-means runs on the unannotated tokens.
Clusters with similar centroids are merged to one region. All of it is numpy on the host, one image
at a time, so that threads overlap with the teacher on its device.

Letters: h, w token grid; P clustered tokens; S seeds; E teacher width.

Source: CLIP-ZSS (arXiv 2310.02296), pixel learning module; what the paper leaves open is a setting.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from zeroseg_jax.config import RegionsConfig

_NORM_EPS = 1e-12
NONE = -1  # region id of a token outside all regions


@dataclasses.dataclass(frozen=True)
class Regions:
    """The regions of one image.

    Attributes:
      ids: region of each token, int16 (h, w) in [0, count), NONE where annotated or dropped.
      count: number of regions, at most max_regions.
      seeds: number of windows with an unannotated token.
      overflow: number of regions merged because there were more than max_regions.
      dropped_tokens: number of tokens in regions below min_share.
    """

    ids: np.ndarray
    count: int
    seeds: int
    overflow: int
    dropped_tokens: int


def find_regions(tokens: np.ndarray, free: np.ndarray, settings: RegionsConfig) -> Regions:
    """Divide the unannotated part of an image into regions.

    Args:
      tokens: dense tokens, float (h, w, E), not normalised.
      free: unannotated tokens, bool (h, w); only these are clustered.
      settings: clip_zss.regions of the config.

    Returns:
      The regions; none if no token is free.

    Raises:
      ValueError: a window is larger than the grid, or tokens are non-finite.
    """
    h, w, width = tokens.shape
    ids = np.full((h, w), NONE, np.int16)
    if not free.any():
        return Regions(ids, 0, 0, 0, 0)
    if not np.isfinite(tokens.sum(dtype=np.float64)):
        raise ValueError("regions: the teacher's tokens are non-finite; check its weights.")
    flat = normalise(tokens.reshape(h * w, width).astype(np.float32))
    inside = free.ravel()
    seeds = average_windows(flat, free, settings.seed_windows)
    assignment, centroids = cluster_tokens(flat[inside], seeds, settings.kmeans_iterations)
    sizes = np.bincount(assignment, minlength=len(centroids))
    merged = fuse_clusters(centroids, sizes, settings.merge_cosine)[assignment]
    kept = _drop_small(merged, settings.min_share * h * w)
    kept, overflow = _limit(kept, flat[inside], settings.max_regions)
    ids.ravel()[inside] = kept
    return Regions(ids, int(kept.max()) + 1, len(seeds), overflow, int((kept == NONE).sum()))


def average_windows(tokens: np.ndarray, free: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
    """Average the free tokens in sliding windows; each window with a free token is a seed.

    Args:
      tokens: dense tokens, float32 (h * w, E).
      free: unannotated tokens, bool (h, w).
      sides: window sides in tokens; the stride is half a side, rounded down.

    Returns:
      Seeds, float32 (S, E): sums over the free tokens divided by the side squared. As in the
      paper, annotated tokens count as zero vectors.

    Raises:
      ValueError: a window is larger than the grid.
    """
    h, w = free.shape
    check_windows(h, w, sides)
    block = _common_block(h, w, tuple(sides))
    # All windows consist of the same small blocks, so each token is summed once.
    blocks = np.where(free.ravel()[:, None], tokens, 0)
    blocks = blocks.reshape(h // block, block, w // block, block, -1).sum(axis=(1, 3))
    held = free.reshape(h // block, block, w // block, block).any(axis=(1, 3)).ravel()
    weights = _window_weights(h // block, w // block, tuple(side // block for side in sides))
    weights = weights[(weights * held).any(axis=1)] / block**2
    return weights @ blocks.reshape(-1, tokens.shape[-1])


def check_windows(h: int, w: int, sides: tuple[int, ...]) -> None:
    """Refuse window sides that do not fit a grid of h x w tokens; see average_windows."""
    for side in sides:
        if not 1 <= side <= min(h, w):
            raise ValueError(
                f"clip_zss.regions.seed_windows: {side} tokens do not fit the teacher's grid of "
                f"{h} x {w}; use smaller windows or a larger clip_zss.regions.teacher_px."
            )


def _common_block(h: int, w: int, sides: tuple[int, ...]) -> int:
    # The stride of an odd side is rounded down, which needs blocks of one token.
    return math.gcd(h, w, *sides, *(max(side // 2, 1) for side in sides))


@functools.lru_cache(maxsize=8)
def _window_weights(h: int, w: int, sides: tuple[int, ...]) -> np.ndarray:
    rows = []
    for side in sides:
        step = max(side // 2, 1)
        for top in range(0, h - side + 1, step):
            for left in range(0, w - side + 1, step):
                window = np.zeros((h, w), np.float32)
                window[top : top + side, left : left + side] = 1 / side**2
                rows.append(window.ravel())
    return np.stack(rows)


def cluster_tokens(
    tokens: np.ndarray, seeds: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run K-means by cosine from given seeds.

    Args:
      tokens: unit rows, float32 (P, E).
      seeds: first centroids, float32 (S, E), not normalised.
      iterations: maximum number of updates; K-means stops when no token changes its cluster.

    Returns:
      The cluster of each token, int (P,), and unit centroids, float32 (S, E). An empty cluster
      keeps its last centroid.

    Numerics: float32 products. Sums over members are updated by the tokens that change cluster,
    which makes late iterations cheap. The rounding error is below 1e-6 of a token for each change.
    """
    centroids = normalise(seeds)
    similarity = tokens @ centroids.T
    assignment = similarity.argmax(axis=1)
    member = np.zeros((len(seeds), len(tokens)), np.float32)
    member[assignment, np.arange(len(tokens))] = 1
    sums = member @ tokens
    stale = np.unique(assignment)
    for _ in range(iterations):
        sizes = np.bincount(assignment, minlength=len(sums))
        present = stale[sizes[stale] > 0]
        centroids[present] = normalise(sums[present])
        similarity[:, present] = tokens @ centroids[present].T
        before, assignment = assignment, similarity.argmax(axis=1)
        moved = np.flatnonzero(before != assignment)
        if not len(moved):
            break
        change = np.zeros((len(seeds), len(moved)), np.float32)
        change[before[moved], np.arange(len(moved))] = -1
        change[assignment[moved], np.arange(len(moved))] = 1
        sums += change @ tokens[moved]
        stale = np.unique(np.concatenate([before[moved], assignment[moved]]))
    return assignment, centroids


def fuse_clusters(centroids: np.ndarray, sizes: np.ndarray, above: float) -> np.ndarray:
    """Merge clusters greedily by the cosine of their centroids.

    The largest remaining cluster absorbs all remaining clusters whose centroid has a cosine above
    the threshold. All clusters of a region are thus similar to its largest one; chains of
    pairwise similar clusters are not merged.

    Args:
      centroids: unit rows, float32 (S, E).
      sizes: number of tokens of each cluster, int (S,); empty clusters are not merged.
      above: cosine threshold.

    Returns:
      The largest cluster of each cluster's region, int (S,).
    """
    leader = np.arange(len(centroids))
    alike = centroids @ centroids.T > above
    unused = sizes > 0
    for i in np.argsort(-sizes, kind="stable"):
        if unused[i]:
            taken = alike[i] & unused
            taken[i] = True
            leader[taken], unused[taken] = i, False
    return leader


def _drop_small(ids: np.ndarray, least: float) -> np.ndarray:
    """Renumber ids in ascending order; regions under `least` tokens become NONE."""
    kept = np.full(len(ids), NONE, np.int16)
    names, counts = np.unique(ids, return_counts=True)
    for number, name in enumerate(names[counts >= least]):
        kept[ids == name] = number
    return kept


def _limit(ids: np.ndarray, tokens: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Merge the two regions with the most similar mean tokens until at most `most` are left."""
    overflow = max(int(ids.max()) + 1 - most, 0)
    for _ in range(overflow):
        count = int(ids.max()) + 1
        means = normalise((ids == np.arange(count)[:, None]).astype(np.float32) @ tokens)
        similarity = np.triu(means @ means.T + 2, 1)
        low, high = np.unravel_index(similarity.argmax(), similarity.shape)
        ids = np.where(ids == high, low, ids)
        ids = np.where(ids > high, ids - 1, ids).astype(np.int16)
    return ids, overflow


def normalise(rows: np.ndarray) -> np.ndarray:
    """Scale the last axis to unit length; zero rows stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _NORM_EPS)


def free_tokens(labels: np.ndarray, h: int, w: int) -> np.ndarray:
    """Return which tokens are unannotated: at least half of the token's pixels are negative.

    Args:
      labels: label map, int (H, W), negative where unannotated; H and W are multiples of h and w.
      h, w: height and width of the token grid.

    Returns:
      bool (h, w).
    """
    height, width = labels.shape
    blocks = (labels < 0).reshape(h, height // h, w, width // w)
    return blocks.mean(axis=(1, 3)) >= 0.5


def fuse_labels(labels: np.ndarray, regions: np.ndarray, seen: int) -> np.ndarray:
    """Build the fused label map: labels where annotated, region ids elsewhere.

    Args:
      labels: label map, int (H, W) in [0, seen), negative where unannotated.
      regions: region ids from find_regions, int16 (h, w).
      seen: number of seen classes; region k becomes seen + k.

    Returns:
      int16 (H, W). An unannotated pixel outside all regions gets the nearest region, or NONE if
      there are no regions.
    """
    height, width = labels.shape
    h, w = regions.shape
    if (regions >= 0).any():
        regions = _spread(regions)
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    latent = regions[rows[:, None], columns]
    fused = np.where(latent >= 0, latent + seen, NONE)
    return np.where(labels >= 0, labels, fused).astype(np.int16)


def _spread(regions: np.ndarray) -> np.ndarray:
    """Fill tokens outside all regions with the region of the nearest token."""
    inside = np.argwhere(regions >= 0)
    outside = np.argwhere(regions < 0)
    distance = np.square(outside[:, None] - inside).sum(axis=-1)
    spread = regions.copy()
    spread[tuple(outside.T)] = regions[tuple(inside[distance.argmin(axis=1)].T)]
    return spread
