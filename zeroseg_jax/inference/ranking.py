"""From the scores of words to one label: the last step of a protocol, in numpy and float32.

Letters: n places (pixels, or distinct mixtures of segments), K words that are scored.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
    """How scores become labels.

    Attributes:
      labels: int32 (K,), the label of each scored word.
      softmax_scale: multiplies scores before a softmax over all words; 0: scores are
        probabilities already.
      threshold: a place whose best probability is lower gets label 0; 0: none does.
      allowed: bool (K,), words that may win; None for all. The softmax is over all of them.
    """

    labels: np.ndarray
    softmax_scale: float = 0.0
    threshold: float = 0.0
    allowed: np.ndarray | None = None


class Ranking:
    """The best word of n places, found with the words given all at once or in parts."""

    def __init__(self, rule: Rule, places: int):
        self._rule = rule
        self._best = np.full(places, -np.inf, np.float32)
        self._winner = np.zeros(places, np.int32)
        self._highest = np.full(places, -np.inf, np.float32)
        self._sum = np.zeros(places, np.float32)

    def add(self, scores: np.ndarray, start: int = 0) -> None:
        """Rank float32 (n, k), the scores of words start..start + k."""
        stop = start + scores.shape[1]
        if self._rule.softmax_scale:
            self._add_to_softmax(scores)
        if self._rule.allowed is not None:
            scores = np.where(self._rule.allowed[start:stop], scores, -np.inf)
        winner = scores.argmax(axis=1)
        value = np.take_along_axis(scores, winner[:, None], axis=1)[:, 0]
        better = value > self._best
        self._winner[better] = winner[better] + start
        self._best[better] = value[better]

    def _add_to_softmax(self, scores: np.ndarray) -> None:
        scale = np.float32(self._rule.softmax_scale)
        highest = np.maximum(self._highest, scores.max(axis=1))
        before = np.where(self._sum > 0, np.exp(scale * (self._highest - highest)), 0)
        terms = scores - highest[:, None]
        terms *= scale
        self._sum = self._sum * before + np.exp(terms, out=terms).sum(axis=1)
        self._highest = highest

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return int32 (n,) labels and float32 (n,) probabilities of the best words."""
        best = self._best
        if self._rule.softmax_scale:
            scale = np.float32(self._rule.softmax_scale)
            best = np.exp(scale * (best - self._highest)) / self._sum
        labels = self._rule.labels[self._winner]
        if self._rule.threshold:
            labels = np.where(best < self._rule.threshold, 0, labels)
        return labels.astype(np.int32), best


def rank(scores: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Rank float32 (n, K) at once."""
    ranking = Ranking(rule, len(scores))
    ranking.add(scores)
    return ranking.finish()


def drop_small(labels: np.ndarray, rule: Rule, least: float) -> Rule | None:
    """Forbid the classes that cover too little.

    Args:
      labels: int (H, W), 0 background.
      rule: what gave them.
      least: share of all pixels that are not background, which a class must exceed.

    Returns:
      The rule without the words of those classes; None if none is too small.

    Source: SCLIP's evaluation on VOC.
    """
    areas = np.bincount(labels.ravel(), minlength=int(rule.labels.max()) + 1)
    areas[0] = 0
    small = areas <= least * areas.sum()
    small[0] = False
    if not small[np.unique(labels)].any():
        return None
    return dataclasses.replace(rule, allowed=~small[rule.labels])
