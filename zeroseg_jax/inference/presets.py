"""Preset: one evaluation protocol as data, its lookup, and `--set field=value` overrides.

A score depends strongly on these settings, so every report records all of them. The values of the
named protocols and their sources are in preset_table.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from zeroseg_jax.config import suggest
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.teacher.prompts import PROMPTS

CHOICES = {
    "window": ("sliding", "whole", "same_area"),
    "resize": ("cv2", "bilinear", "antialiased"),
    "normalisation": ("model", "clip", "imagenet"),
    "prompts": tuple(PROMPTS),
    "naming": ("segments", "pixels"),
    "names": ("mean", "best"),
    "image_filter": ("topk_product", "none"),
    "threshold_rule": ("window", "constant"),
    "refine": ("pamr", "guided", "none"),
    "guide": ("image", "resized"),
    "positions": ("size", "scale"),
    "affinity": ("", "vit", "dinov2_with_registers"),
}
_TUPLES = {"background_words": str, "pamr_dilations": int}


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of one protocol on one benchmark.

    Attributes:
      name: name of the protocol.
      short_side_px: short side that images are resized to, aspect kept; 0: the model's own side.
      long_side_px: limit of the long side after resizing, as in mmcv's scale (2048, S).
      window: layout of an image. "sliding": square windows of window_px. "whole": one window
        over the image at short_side_px, aspect kept; last pixels that do not fill a patch are not
        seen, and scores are spread over them. "same_area":
        one window with as many patches as a square of short_side_px, at the image's aspect; an
        image more than twice as long as wide gets square windows.
      window_px: side of a square window; 0: the short side. Only with window "sliding".
      stride_px: stride of square windows; 0: half the window.
      resize: "cv2": cv2.INTER_LINEAR on bytes. "bilinear": the same in float32, as torch's
        F.interpolate. "antialiased": Pillow's bicubic.
      normalisation: mean and deviation of pixels: those of the "model", of "clip" or "imagenet".
      prompts: key of teacher.prompts.PROMPTS.
      words_file: variant of the class names, data/benchmarks/words/SPACE.VARIANT.txt; "": the
        benchmark's own.
      naming: "segments": cosines of a segment (of a patch, in a dense model) become probabilities,
        which are averaged over windows. "pixels": cosines are averaged and upsampled, and the
        softmax is taken at each pixel.
      names: "mean": a class is scored by the mean embedding of its names. "best": by its most
        probable name; needs naming "pixels".
      logit_scale: factor of cosines, see check_scale; 0: the model's own.
      image_filter: "topk_product": keep the topk classes of the whole window and multiply by their
        probability there (GroupViT). "none": no filter.
      topk: number of classes that the filter keeps.
      threshold: score under which a pixel is background; 0: none.
      threshold_rule: "window": the threshold is at most the window's best score, and applies per
        segment before windows are averaged (GroupViT). "constant": it applies to each pixel's best
        probability at the end.
      background_words: class names of the background; exclude a threshold with naming "segments".
      vocabulary_share: fraction of the highest support by the whole image that a class must
        reach, see vocabulary.py; 0: every class.
      seen_discount: subtracted from the sigmoid scores of classes that had labels in training, the
        seen classes of a CLIP-ZSS student, before the best class is taken (ZegCLIP: 0.1); 0: off.
      area_threshold: classes covering at most this fraction of the foreground are dropped and
        their pixels reassigned (SCLIP); 0: off.
      refine: "pamr": PAMR where it has dilations, as published protocols report. "guided": the
        guided filter and the removal of small components, own. "none": neither.
      pamr_dilations: dilations of PAMR, see pamr.py; none: no PAMR.
      pamr_iterations: number of PAMR iterations.
      pamr_short_px: largest short side at which scores are refined; 0: that of the image.
      guide: image whose edges PAMR follows. "image": the image itself. "resized": the model's
        input, enlarged bilinearly again (NACLIP).
      guided_radius: half width of the guided filter's windows over the short side. Larger values
        suit coarser scores and plainer colours.
      guided_eps: ridge of the guided filter, in squared levels of [0, 1]; see guided.solve.
      positions: rule for positions of a frozen CLIP off its own grid. "size": Hugging Face's.
        "scale": DINO's factor (side + 0.1) / old side, as in SCLIP and its successors.
      readout: read-out without which the protocol has no meaning; "": any model.
      affinity: family of that read-out's second tower: "vit" (DINO), "dinov2_with_registers"; "":
        any.
    """

    name: str
    short_side_px: int = 448
    long_side_px: int = 2048
    window: str = "sliding"
    window_px: int = 448
    stride_px: int = 224
    resize: str = "cv2"
    normalisation: str = "model"
    prompts: str = "simple"
    words_file: str = ""
    naming: str = "segments"
    names: str = "mean"
    logit_scale: float = 100.0
    image_filter: str = "topk_product"
    topk: int = 5
    threshold: float = 0.0
    threshold_rule: str = "window"
    background_words: tuple[str, ...] = ()
    vocabulary_share: float = 0.0
    seen_discount: float = 0.0
    area_threshold: float = 0.0
    refine: str = "pamr"
    pamr_dilations: tuple[int, ...] = ()
    pamr_iterations: int = 10
    pamr_short_px: int = 0
    guide: str = "image"
    guided_radius: float = 1 / 12
    guided_eps: float = 1e-3
    positions: str = "size"
    readout: str = ""
    affinity: str = ""

    @property
    def names_background(self) -> bool:
        """True if label 0 is background."""
        return bool(self.threshold or self.background_words)


def get_preset(name: str, benchmark: str, overrides: Mapping[str, str] | None = None) -> Preset:
    """Return a protocol's settings for a benchmark, with single fields overridden.

    Args:
      name: key of PROTOCOLS.
      benchmark: name of the benchmark; the protocol's "*" where it has no entry.
      overrides: fields as text, for example {"stride_px": "28"}.

    Raises:
      ValueError: an unknown protocol or field, or a value out of range.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"--preset: {name!r} is unknown; {suggest(name, PROTOCOLS)}")
    table = PROTOCOLS[name]
    preset = Preset(name, **{**table["*"], **table.get(benchmark, {})})
    values = {key: _read(preset, key, value) for key, value in (overrides or {}).items()}
    preset = dataclasses.replace(preset, **values)
    _check(preset)
    return preset


def check_scale(preset: Preset, max_scale: float) -> None:
    """Check the factor of cosines against the largest one of a teacher's family.

    Args:
      preset: the protocol.
      max_scale: towers.Family.max_scale.

    Raises:
      ValueError: a larger factor.
    """
    if preset.logit_scale > max_scale:
        raise ValueError(
            f"--set: logit_scale {preset.logit_scale:g} is above {max_scale:g}, the largest that "
            "this model's family was trained with; give less, or 0 for the model's own."
        )


def read_refinement(recorded: Mapping[str, Any]) -> str:
    """Return how a preset in a report refined: "pamr", "guided" or "none"."""
    # A report of an earlier version has no `refine`; PAMR was all there was.
    refine = recorded.get("refine", "pamr")
    return "none" if refine == "pamr" and not recorded.get("pamr_dilations") else refine


def parse_overrides(text: str) -> dict[str, str]:
    """Parse "threshold=0.4,topk=3"."""
    pairs = [part for part in text.split(",") if part.strip()]
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"--set: {pair!r} is not of the form field=value.")
    return {key.strip(): value.strip() for key, value in (pair.split("=", 1) for pair in pairs)}


def _read(preset: Preset, key: str, value: str) -> Any:
    fields = [field.name for field in dataclasses.fields(Preset) if field.name != "name"]
    if key not in fields:
        raise ValueError(f"--set: {key!r} is no field of a preset; {suggest(key, fields)}")
    kind = _TUPLES.get(key, type(getattr(preset, key)))
    parts = [value]
    if key in _TUPLES:
        parts = [part.strip() for part in value.split(";") if part.strip()]
    try:
        read = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"--set: {key}={value!r} is not of type {kind.__name__}.") from error
    return read if key in _TUPLES else read[0]


def _check(preset: Preset) -> None:
    for field, choices in CHOICES.items():
        if getattr(preset, field) not in choices:
            raise ValueError(
                f"--set: {field} is {getattr(preset, field)!r}, not one of {', '.join(choices)}."
            )
    for field in ("threshold", "area_threshold", "vocabulary_share", "seen_discount"):
        if not 0 <= getattr(preset, field) <= 1:
            raise ValueError(f"--set: {field} {getattr(preset, field)} is outside [0, 1].")
    least = {"pamr_iterations": 1, "topk": 1, "long_side_px": 1}
    sizes = (
        "short_side_px",
        "long_side_px",
        "window_px",
        "stride_px",
        "pamr_iterations",
        "pamr_short_px",
        "topk",
    )
    for field in sizes:
        if getattr(preset, field) < least.get(field, 0):
            raise ValueError(
                f"--set: {field} {getattr(preset, field)} is less than {least.get(field, 0)}."
            )
    if not 0 < preset.guided_radius <= 1:
        raise ValueError(
            f"--set: guided_radius {preset.guided_radius:g} must be above 0 and at most 1."
        )
    if not 0 < preset.guided_eps < math.inf:
        raise ValueError(f"--set: guided_eps {preset.guided_eps:g} must be above 0 and finite.")
    if preset.window != "sliding" and preset.window_px:
        raise ValueError(
            f"--set: window_px={preset.window_px} has no effect with window={preset.window}; "
            "set window=sliding too."
        )
    if not 0 <= preset.logit_scale < math.inf:
        raise ValueError(
            f"--set: logit_scale {preset.logit_scale} must be finite and not negative; 0 is the "
            "model's own."
        )
    if any(d < 1 for d in preset.pamr_dilations):
        raise ValueError(
            f"--set: pamr_dilations {preset.pamr_dilations} must be distances of at least 1 px; "
            "an empty value switches refinement off."
        )
    _check_naming(preset)


def _check_naming(preset: Preset) -> None:
    if preset.naming == "segments":
        if preset.threshold and preset.background_words:
            raise ValueError(
                "--set: threshold and background_words exclude each other; "
                "set one of them to nothing, as in background_words=,threshold=0.5."
            )
        if preset.names == "best":
            raise ValueError("--set: names=best needs naming=pixels.")
        if preset.seen_discount:
            raise ValueError("--set: seen_discount needs naming=pixels.")
        return
    if preset.seen_discount and preset.refine == "guided":
        raise ValueError("--set: seen_discount needs refine=pamr or refine=none.")
    for field, wanted in (("image_filter", "none"), ("threshold_rule", "constant")):
        if getattr(preset, field) != wanted:
            raise ValueError(f"--set: naming=pixels needs {field}={wanted}.")
