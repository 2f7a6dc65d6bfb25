"""Free-form regions of an image from a teacher's dense tokens: CLIP-ZSS's pseudo labels.

Seeds are means over sliding windows of several sizes, K-means moves them over the tokens that
nobody annotated, and clusters whose centroids are alike become one region. Numpy on the host, one
image at a time, so that threads work beside the teacher on its device.

Letters: h, w token grid; P tokens that are clustered; S seeds; E teacher width.

Source: CLIP-ZSS (arXiv 2310.02296), pixel learning module; what it leaves open is a setting.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from zeroseg_jax.config import RegionsConfig

_NORM_EPS = 1e-12
NONE = -1  # of a token that belongs to no region


@dataclasses.dataclass(frozen=True)
class Regions:
    """The regions of one image.

    Attributes:
      ids: int16 (h, w), 0 .. count - 1, and NONE where annotated or too small to count.
      count: regions, at most max_regions.
      seeds: windows that held a token to cluster.
      overflow: regions that had to be merged because there were more than max_regions.
      dropped_tokens: tokens of regions below min_share.
    """

    ids: np.ndarray
    count: int
    seeds: int
    overflow: int
    dropped_tokens: int


def find_regions(tokens: np.ndarray, free: np.ndarray, settings: RegionsConfig) -> Regions:
    """Cut the unannotated part of an image into regions.

    Args:
      tokens: float (h, w, E), of any length.
      free: bool (h, w), True where nobody annotated; only these are clustered.
      settings: clip_zss.regions of the config.

    Returns:
      Regions; none where nothing is free.

    Raises:
      ValueError: a window larger than the grid, or tokens that are not finite.
    """
    h, w, width = tokens.shape
    ids = np.full((h, w), NONE, np.int16)
    if not free.any():
        return Regions(ids, 0, 0, 0, 0)
    if not np.isfinite(tokens.sum(dtype=np.float64)):
        raise ValueError("regions: the teacher's tokens are not finite; check its weights.")
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
    """Average the free tokens in sliding windows: one seed a window that holds any.

    Args:
      tokens: float32 (h * w, E).
      free: bool (h, w).
      sides: of the windows, in tokens; each slides by half its side, rounded down.

    Returns:
      float32 (S, E): sums over the free tokens divided by side squared, as published (annotated
      tokens count as zero vectors).

    Raises:
      ValueError: a window larger than the grid.
    """
    h, w = free.shape
    block = _common_block(h, w, tuple(sides))
    # All windows are made of the same small blocks, so the tokens are read once.
    blocks = np.where(free.ravel()[:, None], tokens, 0)
    blocks = blocks.reshape(h // block, block, w // block, block, -1).sum(axis=(1, 3))
    held = free.reshape(h // block, block, w // block, block).any(axis=(1, 3)).ravel()
    weights = _window_weights(h // block, w // block, tuple(side // block for side in sides))
    weights = weights[(weights * held).any(axis=1)] / block**2
    return weights @ blocks.reshape(-1, tokens.shape[-1])


def _common_block(h: int, w: int, sides: tuple[int, ...]) -> int:
    for side in sides:
        if not 1 <= side <= min(h, w):
            raise ValueError(
                f"clip_zss.regions.seed_windows: {side} tokens do not fit the teacher's grid of "
                f"{h} x {w}; use smaller windows or a larger clip_zss.regions.teacher_px."
            )
    # An odd side slides by the half rounded down, which only blocks of one token can do.
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
    """K-means by cosine, from given seeds.

    Args:
      tokens: float32 (P, E), rows of unit length.
      seeds: float32 (S, E), of any length.
      iterations: of moving the centroids, at most; it ends when no token changes its cluster.

    Returns:
      int (P,) the cluster of each token, and float32 (S, E) centroids of unit length. A cluster
      that loses all its tokens keeps its last centroid.

    Numerics: float32 products. Sums over members follow the tokens that move, so that a round
    costs what changes in it; what rounding leaves in them is below 1e-6 of a token each.
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
    """Merge clusters whose centroids are alike; each is used once.

    The largest cluster not yet used takes all unused ones whose centroid is alike to its own, then
    the next. So every cluster of a region resembles the same one, and a chain of half-alike
    clusters does not become one region.

    Args:
      centroids: float32 (S, E), rows of unit length.
      sizes: int (S,), tokens of each; empty clusters take no part.
      above: cosine from which two are alike.

    Returns:
      int (S,), for each cluster the one it is part of.
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
    """Renumber ids in order of appearance of the id; regions under `least` tokens become NONE."""
    kept = np.full(len(ids), NONE, np.int16)
    names, counts = np.unique(ids, return_counts=True)
    for number, name in enumerate(names[counts >= least]):
        kept[ids == name] = number
    return kept


def _limit(ids: np.ndarray, tokens: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Merge the two most alike regions, by their mean tokens, until there are at most `most`."""
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
    """Tell which tokens nobody annotated: at least half of a token's pixels are negative.

    Args:
      labels: int (H, W), negative where not annotated; sides are multiples of h and w.

    Returns:
      bool (h, w).
    """
    height, width = labels.shape
    blocks = (labels < 0).reshape(h, height // h, w, width // w)
    return blocks.mean(axis=(1, 3)) >= 0.5


def fuse_labels(labels: np.ndarray, regions: np.ndarray, seen: int) -> np.ndarray:
    """Build the fused label map: given labels where annotated, latent ids elsewhere.

    Args:
      labels: int (H, W), 0 .. seen - 1, negative where not annotated.
      regions: int16 (h, w), from find_regions.
      seen: seen classes; latent id k becomes seen + k.

    Returns:
      int16 (H, W). An unannotated pixel outside every region, at the rim of a token or in a
      region too small to count, takes the region nearest to it; NONE where there is no region.
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
    """Give each token of no region the id of the nearest that has one."""
    inside = np.argwhere(regions >= 0)
    outside = np.argwhere(regions < 0)
    distance = np.square(outside[:, None] - inside).sum(axis=-1)
    spread = regions.copy()
    spread[tuple(outside.T)] = regions[tuple(inside[distance.argmin(axis=1)].T)]
    return spread
