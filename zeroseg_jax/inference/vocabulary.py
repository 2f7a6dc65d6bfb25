"""Image-adaptive vocabulary: the classes that an image as a whole supports, without labels.

After the candidate subset of S2C2Seg (CVPR 2026), which scores a class by the whole image, by
places and across views. Here (own): by the mean over the image and the mean over its best places,
of scores that are already averaged over windows. It needs no other model.
"""

from __future__ import annotations

import numpy as np

_BEST_PLACES = 0.05  # fraction of the places whose mean is a class's local score


def find_supported(
    patches: np.ndarray,
    class_ids: np.ndarray,
    share: float,
    *,
    softmax_scale: float = 0.0,
    has_background: bool = False,
) -> np.ndarray:
    """Find the classes that the image supports.

    The support of a class is the geometric mean of two means of its probability: over all places,
    and over the 5 % of the places where it is highest. The class that wins most places and the
    background are always supported.

    Args:
      patches: float32 (h, w, K), merged scores on a grid; see labelling.Canvas.
      class_ids: int (K,), class of each row; a class has the score of its best row.
      share: fraction of the highest support that a class must reach, in (0, 1].
      softmax_scale: factor of scores before a softmax over all rows; 0: scores are probabilities.
      has_background: True if class 0 is background.

    Returns:
      bool (largest class id + 1,).
    """
    scores = patches.reshape(-1, patches.shape[-1])
    if softmax_scale:
        scores = np.exp(np.float32(softmax_scale) * (scores - scores.max(axis=1, keepdims=True)))
        scores /= scores.sum(axis=1, keepdims=True)
    classes, first = int(class_ids.max()) + 1, int(has_background)
    by_class = np.zeros((len(scores), classes), np.float32)
    for row, number in enumerate(class_ids):
        np.maximum(by_class[:, number], scores[:, row], out=by_class[:, number])
    count = max(1, round(_BEST_PLACES * len(scores)))
    local = np.partition(by_class, len(scores) - count, axis=0)[-count:].mean(axis=0)
    support = np.sqrt(by_class.mean(axis=0) * local)
    kept = np.ones(classes, bool)
    if classes > first:
        kept[first:] = support[first:] >= share * support[first:].max()
        wins = np.bincount(by_class[:, first:].argmax(axis=1), minlength=classes - first)
        kept[first + wins.argmax()] = True
    return kept
