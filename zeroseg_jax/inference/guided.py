"""Edge refinement of photographs: guided filter and odd patches.

Letters: H, W the image; gh, gw the guide, a small copy of it; C classes.

Sources: He, Sun and Tang, "Guided image filtering" (TPAMI 2013), section 3.5 (colour guide); He and
Sun, "Fast guided filter" (2015): the linear model is solved on the small guide and laid over the
whole image. Odd patches: own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

from zeroseg_jax.inference import components, windows

GUIDE_PX = 192  # short side of the guide
LEAST_SHARE = 0.002  # share of the image; smaller components join what surrounds them
_LEAST_GUIDE_SHARE = LEAST_SHARE / 2  # of the guide; a class with less has small components only
_AGREEMENT = 0.8  # share of neighbours that outvote a patch; a corner of a region has 5 of 8
_STRIPE_FLOATS = 1 << 19  # of the model at once: what a processor's cache holds

Labelled = tuple[np.ndarray, np.ndarray]


def guide_size(height: int, width: int) -> tuple[int, int]:
    """Return (gh, gw): short side GUIDE_PX, aspect kept; the image's own size where smaller."""
    scale = min(1.0, GUIDE_PX / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def flip_odd_patches(scores: np.ndarray) -> np.ndarray:
    """Replace patches that most of their neighbours contradict by the mean of those.

    A frozen CLIP keeps global facts in a few patches of even ground; they score for any class.

    Args:
      scores: float32 (h, w, C).

    Returns:
      float32 (h, w, C), a copy.
    """
    labels = scores.argmax(axis=-1)
    neighbours = _count_neighbours(np.ones(labels.shape, bool))
    winner, most = np.zeros_like(labels), np.zeros_like(neighbours)
    for k in np.unique(labels):
        votes = _count_neighbours(labels == k)
        np.copyto(winner, k, where=votes > most)
        np.maximum(most, votes, out=most)
    odd = (winner != labels) & (most > _AGREEMENT * neighbours)
    rows, columns = np.nonzero(odd)
    result = scores.copy()
    for y, x in zip(rows, columns, strict=True):
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        agreeing = labels[near] == winner[y, x]
        result[y, x] = scores[near][agreeing].mean(axis=0)
    return result


def label_patches(
    patches: np.ndarray,
    image: np.ndarray,
    class_ids: np.ndarray,
    *,
    radius: float,
    eps: float,
    softmax_scale: float = 0.0,
    allowed: np.ndarray | None = None,
    threshold: float = 0.0,
) -> Labelled:
    """Label every pixel of an image from scores of its patches.

    Odd patches are replaced, scores are enlarged to the guide and become probabilities of classes,
    and these are filtered. Classes that win (almost) nowhere on the guide are left out there.

    Args:
      patches: float32 (h, w, K), K scored rows.
      image: uint8 (H, W, 3).
      class_ids: int (K,), class of each row.
      radius, eps: arguments of GuidedScores.
      softmax_scale: factor of scores before a softmax over all rows; 0: scores are probabilities.
      allowed: bool (K,), rows that may win; None for all.
      threshold: probability under which a pixel gets class 0; 0: none.

    Returns:
      int32 (H, W) classes, float32 (H, W) their probabilities in [0, 1].
    """
    size = guide_size(*image.shape[:2])
    scores = windows.resize_floats(flip_odd_patches(patches), *size)
    if softmax_scale:
        scores -= scores.max(axis=-1, keepdims=True)
        scores *= np.float32(softmax_scale)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
    if allowed is not None:
        scores, class_ids = scores[..., allowed], class_ids[allowed]
    winning, areas = np.unique(class_ids[scores.argmax(axis=-1)], return_counts=True)
    winning = winning[areas >= min(areas.max(), _LEAST_GUIDE_SHARE * areas.sum())]
    if threshold:
        winning = np.union1d(winning, [0])
    classes = np.zeros((*size, len(winning)), np.float32)
    for i, k in enumerate(winning):
        rows = class_ids == k
        if rows.any():
            classes[..., i] = scores[..., rows].max(axis=-1)
    labels, best = GuidedScores(image, classes, radius, eps).label(threshold=threshold)
    return winning.astype(np.int32)[labels], best


class GuidedScores:
    """Scores that follow the edges of an image: a linear function of its colours at each pixel.

    Args:
      image: uint8 (H, W, 3).
      scores: float32 (gh, gw, C), on the grid of guide_size.
      radius: half width of the windows over the guide's short side; at least two guide pixels.
      eps: ridge on the slopes, in squared levels of [0, 1]; larger values smooth across weak
        edges.
    """

    def __init__(self, image: np.ndarray, scores: np.ndarray, radius: float, eps: float):
        self._image = image
        height, width = scores.shape[:2]
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
        half = max(2, round(radius * min(height, width)))
        slopes, offsets = solve(np.asarray(small), scores, half, eps)
        # (4, C, gh, gw): three slopes and the offset of each class.
        self._model = np.ascontiguousarray(
            np.concatenate([slopes, offsets[..., None, :]], axis=2).transpose(2, 3, 0, 1)
        )
        self.classes = scores.shape[-1]

    def stripes(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and float32 (C, rows, W) of one stripe after the other."""
        height, width = self._image.shape[:2]
        low, high, down = windows.bilinear_taps(self._model.shape[2], height)
        left, right, across = windows.bilinear_taps(self._model.shape[3], width)
        rows = max(1, _STRIPE_FLOATS // (4 * self.classes * width))
        for top in range(0, height, rows):
            part = np.s_[top : top + rows]
            before, after = self._model[:, :, low[part]], self._model[:, :, high[part]]
            coarse = before + (after - before) * down[part, None]
            model = coarse.take(left, axis=-1)
            model += (coarse.take(right, axis=-1) - model) * across
            colours = self._image[part].astype(np.float32) / 255
            values = model[3]
            for channel in range(3):
                values += model[channel] * colours[:, :, channel]
            yield top, values

    def at(self, rows: np.ndarray, columns: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return float32 (n,), the score of one class at each of n pixels."""
        y0, y1, fy = (
            x[rows] for x in windows.bilinear_taps(self._model.shape[2], self._image.shape[0])
        )
        x0, x1, fx = (
            x[columns] for x in windows.bilinear_taps(self._model.shape[3], self._image.shape[1])
        )
        maps = self._model
        upper = maps[:, classes, y0, x0] * (1 - fx) + maps[:, classes, y0, x1] * fx
        lower = maps[:, classes, y1, x0] * (1 - fx) + maps[:, classes, y1, x1] * fx
        model = upper * (1 - fy) + lower * fy
        colours = self._image[rows, columns].astype(np.float32).T / 255
        return (model[3] + (model[:3] * colours).sum(axis=0)).astype(np.float32)

    def label(self, least_share: float = LEAST_SHARE, threshold: float = 0.0) -> Labelled:
        """Take the best class of each pixel, then let small components join their surroundings.

        Args:
          least_share: share of the image below which a component is small; 0 keeps all.
          threshold: score under which a pixel gets class 0; 0: none.

        Returns:
          int32 (H, W) classes, float32 (H, W) their scores clipped to [0, 1].
        """
        labels = np.empty(self._image.shape[:2], np.int32)
        best = np.empty(self._image.shape[:2], np.float32)
        for top, values in self.stripes():
            part = np.s_[top : top + values.shape[1]]
            labels[part] = values.argmax(axis=0)
            best[part] = values.max(axis=0)
        if threshold:
            labels[best < threshold] = 0
        joined = components.join_small(labels, least_share * labels.size)
        rows, columns = np.nonzero(joined != labels)
        if len(rows):
            best[rows, columns] = self.at(rows, columns, joined[rows, columns])
        return joined, np.clip(best, 0, 1)


def solve(
    guide: np.ndarray, scores: np.ndarray, radius: int, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit scores by colours in every square window, then average the fits of a pixel's windows.

    Args:
      guide: uint8 (gh, gw, 3).
      scores: float32 (gh, gw, C).
      radius: windows are 2 radius + 1 wide; beyond the border the image is mirrored.
      eps: ridge on the slopes.

    Returns:
      float32 slopes (gh, gw, 3, C) and offsets (gh, gw, C).
    """
    height, width = guide.shape[:2]
    colours = guide.astype(np.float32) / 255
    mean = _box(colours, radius)
    products = (colours[..., :, None] * colours[..., None, :]).reshape(height, width, 9)
    covariance = _box(products, radius).reshape(height, width, 3, 3)
    covariance -= mean[..., :, None] * mean[..., None, :]
    target = _box(scores, radius)
    crossed = (colours[..., :, None] * scores[..., None, :]).reshape(height, width, -1)
    crossed = _box(crossed, radius).reshape(height, width, 3, -1)
    crossed -= mean[..., :, None] * target[..., None, :]
    slopes = np.linalg.solve(covariance + eps * np.eye(3, dtype=np.float32), crossed)
    offsets = target - np.einsum("hwic,hwi->hwc", slopes, mean)
    slopes = _box(slopes.reshape(height, width, -1), radius).reshape(slopes.shape)
    return slopes.astype(np.float32), _box(offsets, radius).astype(np.float32)


def _count_neighbours(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask.astype(np.int32), 1)
    height, width = mask.shape
    total = sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3))
    return total - mask


def _box(values: np.ndarray, radius: int) -> np.ndarray:
    for axis in (0, 1):
        values = ndimage.uniform_filter1d(values, 2 * radius + 1, axis=axis, mode="reflect")
    return values
