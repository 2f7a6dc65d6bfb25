"""Named protocols as data: how a picture is resized, cut, scored and named.

The same method moves by many points with these numbers, so a score is always printed with all
of them. Sources: ZeroSeg section 4 (`zeroseg`); GroupViT's released evaluation (`groupvit`).
The Playground's numbers are the project's own, chosen on scenes of TUNE_SEED, which no student
trains on and no score is reported on.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from zeroseg_jax.benchmarks.playground import STUFF

FILTERS = ("topk_product", "none")
RESIZES = ("bilinear", "antialiased")


@dataclasses.dataclass(frozen=True)
class Preset:
    """One protocol on one benchmark.

    Attributes:
      name: of the preset.
      short_side_px: pictures are resized to it, aspect kept; 0: the student's training side.
      window_px, stride_px: sliding windows; 0: the short side, and half of it.
      resize: "bilinear" without antialiasing as cv2 does, or "antialiased" bicubic.
      prompts: a key of teacher.text.PROMPTS.
      logit_scale: multiplies cosines, at most 100; 0: the teacher's own.
      image_filter: "topk_product" keeps the topk classes of the whole window and multiplies
        by their probability there (GroupViT); "none" leaves the segments alone.
      topk: of the filter.
      threshold: background wins where no class reaches it; 0 for no background.
      background_words: classes of their own whose pixels count as background, instead of a
        threshold.
      pamr_dilations, pamr_iterations: class scores follow the picture's edges, see
        refine.refine_scores; no dilations, no refinement.
      pamr_short_px: pictures whose short side is larger are refined at this size.
    """

    name: str
    short_side_px: int = 448
    window_px: int = 448
    stride_px: int = 224
    resize: str = "bilinear"
    prompts: str = "simple"
    logit_scale: float = 100.0
    image_filter: str = "topk_product"
    topk: int = 5
    threshold: float = 0.0
    background_words: tuple[str, ...] = ()
    pamr_dilations: tuple[int, ...] = ()
    pamr_iterations: int = 10
    pamr_short_px: int = 448


_PLAYGROUND: dict[str, Any] = {
    "short_side_px": 0,
    "window_px": 0,
    "stride_px": 0,
    "resize": "antialiased",
    "prompts": "playground",
    "logit_scale": 0.0,
    "image_filter": "none",
    "pamr_dilations": (8, 16, 32),
    "pamr_short_px": 224,
}
_THINGS = {**_PLAYGROUND, "background_words": STUFF}

# preset -> benchmark ("*" for all others) -> fields
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "zeroseg": {
        "*": {"prompts": "imagenet"},
        "voc21": {"prompts": "imagenet", "threshold": 0.95},
        "context60": {"prompts": "imagenet", "threshold": 0.05},
        "coco_object": {"prompts": "imagenet", "threshold": 0.35},
        "playground/things": _THINGS,
        "playground/held-out": _THINGS,
        "playground/colours": _THINGS,
        "playground/full": _PLAYGROUND,
    },
    # Generalised zero-shot segmentation: mmsegmentation's windows as ZegCLIP uses them.
    "zss": {
        "*": {
            "short_side_px": 512,
            "window_px": 512,
            "stride_px": 426,
            "image_filter": "none",
        },
        "playground/zss": {**_PLAYGROUND, "pamr_dilations": ()},
    },
    "groupvit": {
        "*": {},
        "voc21": {"threshold": 0.95},
        "context60": {"threshold": 0.35},
        "coco_object": {"threshold": 0.95},
    },
}


def get_preset(name: str, benchmark: str, overrides: dict[str, Any] | None = None) -> Preset:
    """Return a preset's numbers for a benchmark, with single fields overridden.

    Raises:
      ValueError: an unknown preset or field, or a value out of range.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PRESETS)}."
        raise ValueError(f"--preset: {name!r} is not known; {hint}")
    table = PRESETS[name]
    preset = Preset(name, **table.get(benchmark, table["*"]))
    fields = {field.name: field for field in dataclasses.fields(Preset)}
    values = {}
    for key, value in (overrides or {}).items():
        if key not in fields or key == "name":
            raise ValueError(f"--set: {key!r} is no field of a preset; known: {', '.join(fields)}.")
        kind = {"background_words": str, "pamr_dilations": int}.get(key)
        several = kind is not None
        kind = kind or type(getattr(preset, key))
        parts = [part.strip() for part in value.split(";") if part.strip()] if several else [value]
        try:
            read = tuple(kind(part) for part in parts)
        except ValueError as error:
            raise ValueError(f"--set: {key}={value!r} is not of type {kind.__name__}.") from error
        values[key] = read if several else read[0]
    preset = dataclasses.replace(preset, **values)
    if preset.image_filter not in FILTERS:
        raise ValueError(f"--set: image_filter is one of {', '.join(FILTERS)}.")
    if preset.resize not in RESIZES:
        raise ValueError(f"--set: resize is one of {', '.join(RESIZES)}.")
    if preset.threshold and preset.background_words:
        raise ValueError(
            "--set: threshold and background_words exclude each other; "
            "set one of them to 0 or to nothing, as in background_words=,threshold=0.5."
        )
    if not 0 <= preset.threshold <= 1:
        raise ValueError(f"--set: threshold {preset.threshold} is outside [0, 1].")
    for field in ("pamr_iterations", "pamr_short_px"):
        if getattr(preset, field) < 1:
            raise ValueError(f"--set: {field} {getattr(preset, field)} is less than 1.")
    if any(not 1 <= d <= preset.pamr_short_px for d in preset.pamr_dilations):
        raise ValueError(
            f"--set: pamr_dilations {preset.pamr_dilations} are pixels between 1 and "
            f"pamr_short_px {preset.pamr_short_px}; nothing switches refinement off."
        )
    return preset


def parse_overrides(text: str) -> dict[str, str]:
    """Parse "threshold=0.4,topk=3"."""
    pairs = [part for part in text.split(",") if part.strip()]
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"--set: {pair!r} is not of the form field=value.")
    return {key.strip(): value.strip() for key, value in (pair.split("=", 1) for pair in pairs)}
