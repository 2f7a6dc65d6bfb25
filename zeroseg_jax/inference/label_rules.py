"""Rules by which scores become labels: class of each row, softmax, threshold, seen classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """How scores become labels.

    Attributes:
      class_ids: int32 (K,), label of each row.
      softmax_scale: factor of scores before a softmax over all rows; 0: scores are probabilities.
      threshold: probability under which a place gets label 0; 0: none.
      has_background: True if label 0 is background.
      allowed: bool (K,), rows that may win; None for all. The softmax is over all of them.
      seen: bool (K,), rows of classes that had labels in training; None without a discount.
      seen_discount: subtracted from the sigmoid of softmax_scale times the score of such rows
        when the best row is taken (ZegCLIP); the probability of the winner stays.
    """

    class_ids: np.ndarray
    softmax_scale: float = 0.0
    threshold: float = 0.0
    has_background: bool = False
    allowed: np.ndarray | None = None
    seen: np.ndarray | None = None
    seen_discount: float = 0.0


def build_rule(
    preset: Preset,
    classes: ClassVectors,
    logit_scale: float,
    seen_names: Collection[str] = (),
) -> LabelRule:
    """Return the rule by which a preset's scores become labels.

    Args:
      preset: naming and background rules.
      classes: rows that are scored.
      logit_scale: factor of cosines, from segmenters.choose_scale.
      seen_names: class names that had labels in training; see segmenters.Segmenter.

    Returns:
      The rule; label 0 is background if the preset or the class vectors have one.

    Raises:
      ValueError: a discount of seen classes, and no class is one.
    """
    background, rows = classes.background, len(classes.class_ids)
    constant = preset.threshold if preset.threshold_rule == "constant" else 0.0
    has_background = bool(background or preset.threshold)
    if preset.naming == "segments":
        # scoring.score_windows put a background column in front, unless the rule is constant.
        column = has_background and not (constant and not background)
        ids = np.arange(rows - background + column, dtype=np.int32)
        ids = ids + np.int32(has_background and not column)
        return LabelRule(ids, threshold=constant, has_background=has_background)
    ids = classes.class_ids.astype(np.int32) + np.int32(has_background)
    if background:
        ids[-background:] = 0
    seen = find_seen(classes, seen_names) if preset.seen_discount else None
    return LabelRule(
        ids, logit_scale, constant, has_background, seen=seen, seen_discount=preset.seen_discount
    )


def find_seen(classes: ClassVectors, seen_names: Collection[str]) -> np.ndarray:
    """Return the rows of the classes with a seen name, bool (K,); spaces and case do not count.

    Raises:
      ValueError: no class has a seen name.
    """
    plain = {_plain(name) for name in seen_names}
    seen = [any(_plain(name) in plain for name in names) for names in classes.names]
    if not any(seen):
        raise ValueError(
            "--set: seen_discount needs a CLIP-ZSS student and a class that had labels in its "
            "training; no class here had any. Leave it out."
        )
    return np.array(seen)[classes.class_ids]


def _plain(name: str) -> str:
    return name.replace(" ", "").lower()


def drop_small(labels: np.ndarray, rule: LabelRule, least: float) -> LabelRule | None:
    """Forbid the classes that cover too little of the foreground.

    Args:
      labels: int (H, W), 0 background.
      rule: rule of these labels.
      least: fraction of the foreground that a class must exceed.

    Returns:
      The rule without the rows of those classes; None if no class is too small.

    Source: SCLIP's evaluation on VOC.
    """
    areas = np.bincount(labels.ravel(), minlength=int(rule.class_ids.max()) + 1)
    areas[0] = 0
    small = areas <= least * areas.sum()
    small[0] = False
    if not small[np.unique(labels)].any():
        return None
    return forbid(rule, small)


def forbid(rule: LabelRule, classes: np.ndarray) -> LabelRule:
    """Return the rule without the rows of some classes, bool (classes,)."""
    allowed = ~classes[rule.class_ids]
    return dataclasses.replace(
        rule, allowed=allowed if rule.allowed is None else allowed & rule.allowed
    )
