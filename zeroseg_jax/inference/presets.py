"""A protocol as data: how a picture is resized, cut, scored and named.

The same method moves by many points with these numbers, so a score is always printed with all
of them. The numbers of each named protocol, with their sources, are in evaluation.protocols.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from zeroseg_jax.config import suggest
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.teacher.prompts import PROMPTS

CHOICES = {
    "resize": ("cv2", "bilinear", "antialiased"),
    "normalisation": ("model", "clip", "imagenet"),
    "prompts": tuple(PROMPTS),
    "naming": ("segments", "pixels"),
    "names": ("mean", "best"),
    "image_filter": ("topk_product", "none"),
    "threshold_rule": ("window", "constant"),
}
WHOLE_PICTURE = -1
_SEVERAL = {"background_words": str, "pamr_dilations": int}


@dataclasses.dataclass(frozen=True)
class Preset:
    """One protocol on one benchmark.

    Attributes:
      name: of the preset.
      short_side_px: pictures are resized to it, aspect kept; 0: the model's training side.
      window_px, stride_px: sliding windows; 0: the short side, and half the window; a window of
        -1 is the whole picture, its sides rounded down to patches.
      resize: "cv2" as its INTER_LINEAR does with bytes, "bilinear" the same in float (torch's
        F.interpolate), or "antialiased" bicubic; see windows.
      normalisation: "model", the mean and deviation its weights were trained with; or those of
        "clip" or "imagenet" whatever the model.
      prompts: key of teacher.prompts.PROMPTS.
      words_file: variant of the word list, data/benchmarks/words/SPACE.VARIANT.txt;
        "" for the benchmark's own.
      naming: "segments" turns the cosines of a segment (of a patch, in a dense read-out) into
        probabilities and averages these; "pixels" averages cosines, enlarges them to the picture
        and takes the softmax at each pixel.
      names: "mean" scores a class by the mean of its names' embeddings; "best" by its most
        probable name (only with naming "pixels").
      logit_scale: multiplies cosines, at most 100; 0: the teacher's own.
      image_filter: "topk_product" keeps the topk classes of the whole window and multiplies
        by their probability there (GroupViT); "none" leaves the segments alone.
      topk: of the filter.
      threshold: background wins where no class reaches it; 0 for no threshold.
      threshold_rule: "window" lowers it to the window's best score and lets background win per
        segment before windows are averaged (GroupViT); "constant" compares each pixel's best
        probability at the end.
      background_words: names of background. With naming "segments" they exclude a threshold.
      area_threshold: a class that covers no more than this share of all that is not background
        is taken back, and its pixels go to the next best (SCLIP); 0: off.
      pamr_dilations, pamr_iterations: scores follow the picture's edges, see
        refine.Refinement; no dilations, no refinement.
      pamr_short_px: pictures whose short side is larger are refined at this size; 0: at theirs.
    """

    name: str
    short_side_px: int = 448
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
    area_threshold: float = 0.0
    pamr_dilations: tuple[int, ...] = ()
    pamr_iterations: int = 10
    pamr_short_px: int = 0

    @property
    def names_background(self) -> bool:
        """Whether label 0 is background."""
        return bool(self.threshold or self.background_words)


def get_preset(name: str, benchmark: str, overrides: dict[str, Any] | None = None) -> Preset:
    """Return a preset's numbers for a benchmark, with single fields overridden.

    Raises:
      ValueError: an unknown preset or field, or a value out of range.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"--preset: {name!r} is not known; {suggest(name, PROTOCOLS)}")
    table = PROTOCOLS[name]
    preset = Preset(name, **{**table["*"], **table.get(benchmark, {})})
    values = {key: _read(preset, key, value) for key, value in (overrides or {}).items()}
    preset = dataclasses.replace(preset, **values)
    _check(preset)
    return preset


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
    kind = _SEVERAL.get(key, type(getattr(preset, key)))
    parts = [value]
    if key in _SEVERAL:
        parts = [part.strip() for part in value.split(";") if part.strip()]
    try:
        read = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"--set: {key}={value!r} is not of type {kind.__name__}.") from error
    return read if key in _SEVERAL else read[0]


def _check(preset: Preset) -> None:
    for field, choices in CHOICES.items():
        if getattr(preset, field) not in choices:
            raise ValueError(
                f"--set: {field} is {getattr(preset, field)!r}, not one of {', '.join(choices)}."
            )
    for field in ("threshold", "area_threshold"):
        if not 0 <= getattr(preset, field) <= 1:
            raise ValueError(f"--set: {field} {getattr(preset, field)} is outside [0, 1].")
    smallest = {"window_px": WHOLE_PICTURE, "pamr_iterations": 1, "topk": 1}
    sides = ("short_side_px", "window_px", "stride_px", "pamr_iterations", "pamr_short_px", "topk")
    for field in sides:
        least = smallest.get(field, 0)
        if getattr(preset, field) < least:
            raise ValueError(f"--set: {field} {getattr(preset, field)} is less than {least}.")
    if not 0 <= preset.logit_scale <= 100:
        raise ValueError(f"--set: logit_scale {preset.logit_scale} is outside [0, 100].")
    if any(d < 1 for d in preset.pamr_dilations):
        raise ValueError(
            f"--set: pamr_dilations {preset.pamr_dilations} are distances of 1 px or more; "
            "nothing switches refinement off."
        )
    _check_naming(preset)


def _check_naming(preset: Preset) -> None:
    if preset.naming == "segments":
        if preset.threshold and preset.background_words:
            raise ValueError(
                "--set: threshold and background_words exclude each other; "
                "set one of them to 0 or to nothing, as in background_words=,threshold=0.5."
            )
        if preset.names == "best":
            raise ValueError("--set: names=best needs naming=pixels.")
        return
    for field, wanted in (("image_filter", "none"), ("threshold_rule", "constant")):
        if getattr(preset, field) != wanted:
            raise ValueError(f"--set: naming=pixels needs {field}={wanted}.")
