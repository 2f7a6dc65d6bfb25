"""Known differences between a preset and its published protocol, for reports.

A preset without an entry below is the project's own. What could be executed beside the public code
is named exact in docs/evaluation.md; everything else that is known to differ is listed here.
"""

from __future__ import annotations

import dataclasses

from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.inference.presets import Preset, get_preset

_STRETCHED = (
    "images whose long side reaches 2048 px before their short side reaches the window are "
    "stretched to it; the public code takes smaller windows"
)
_HALF = "float32; the public code runs in float16"
_SCLIP_FAMILY = (_HALF, _STRETCHED)
_PROXYCLIP = (
    *_SCLIP_FAMILY,
    "in a window of almost one colour each patch attends to itself; the public code has no "
    "finite weights there",
)
# Sentences for reports, by preset.
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "groupvit": (_STRETCHED,),
    "segclip": (_STRETCHED,),
    "zeroseg": (
        _STRETCHED,
        "80 prompts; the paper says predefined templates and gives no list",
        "image feature z in the place of GroupViT's; the paper only says following GroupViT",
    ),
    "zss": (
        _STRETCHED,
        "cosines of features and class names; the paper's logits are products, so pixels between "
        "patches weigh longer features more there",
        "class names with spaces; ZegCLIP embeds mmsegmentation's fused names",
        "no calibration of seen classes (seen_discount=0); ZegCLIP subtracts 0.1, CLIP-ZSS does "
        "not say",
    ),
    "tcl_windows": (
        "softmax over classes at a fixed scale; TCL takes a sigmoid for each class with the scale "
        "and bias of its trained decoder",
        "background by a threshold of the softmax; TCL adds a constant plane of 0.4 (0.5 without "
        "PAMR) to its sigmoid masks",
        "no blend with the plain CLIP map (kp_w 0.3) and no PAMR within windows",
        _STRETCHED,
    ),
    "sclip": _SCLIP_FAMILY,
    "clearclip": _SCLIP_FAMILY,
    "naclip": (*_SCLIP_FAMILY, "guides of PAMR with a long side over 2048 px are reduced to it"),
    "scclip": (*_SCLIP_FAMILY, "read-out written from the paper's code, not run beside it"),
    "tips": (
        "softmax of each patch before enlarging; the notebook enlarges cosines first",
        "sides of the resized image are rounded; the notebook rounds down",
    ),
    "maskclip_plain": (
        "no key smoothing and no prompt denoising, as in the rows of the authors' README; the "
        "paper's best rows have both",
        "activation and epsilon of the checkpoint (OpenAI's: QuickGELU, 1e-5); the authors' tower "
        "has GELU and 1e-6",
        "last pixels that do not fill a patch are not seen; the authors' tower pads them with "
        "zeros",
    ),
    "proxyclip": _PROXYCLIP,
    "proxyclip_dinov2": _PROXYCLIP,
}
# Model of the published scores, as reports name it.
PUBLISHED_MODELS = {
    "groupvit": "GroupViT", "segclip": "SegCLIP", "zeroseg": "zeroseg student",
    "zss": "clip_zss student", "tcl_windows": "TCL", "sclip": "sclip", "clearclip": "clearclip",
    "naclip": "naclip", "scclip": "scclip", "tips": "maskclip", "maskclip_plain": "maskclip",
    "proxyclip": "proxy", "proxyclip_dinov2": "proxy",
}  # fmt: skip


def find_differences(preset: Preset, benchmark: str, read_out: str) -> list[str]:
    """List what separates a run from the published protocol of its preset.

    Args:
      preset: settings of the run.
      benchmark: name of the benchmark.
      read_out: model of the run, as segmenters.ModelSegmenter.describe names it.

    Returns:
      Sentences: another model, overridden fields, a benchmark without released settings, and the
      entries of DIFFERENCES. Empty for the project's own presets.
    """
    if preset.name not in DIFFERENCES or benchmark.startswith("playground/"):
        return []
    found = []
    published = PUBLISHED_MODELS[preset.name]
    if read_out != published:
        found.append(f"model {read_out}; published scores under this protocol are of {published}")
    released = get_preset(preset.name, benchmark)
    for field in dataclasses.fields(preset):
        value, usual = getattr(preset, field.name), getattr(released, field.name)
        # The words file completes the background's names.
        completed = field.name == "background_words" and not usual and preset.words_file
        if value != usual and not completed:
            found.append(f"{field.name} is {value!r}, not {usual!r}")
    if benchmark not in PROTOCOLS[preset.name]:
        found.append(f"no released settings for {benchmark}; the protocol's general ones are used")
    return found + list(DIFFERENCES[preset.name])


def check_read_out(preset: Preset, read_out: str, affinity: str = "") -> None:
    """Refuse a model without which the protocol has no meaning.

    Args:
      preset: settings of the run.
      read_out: as in find_differences.
      affinity: family of the second tower, as describe names it; "" without one.

    Raises:
      ValueError: the preset needs another read-out, or another second tower.
    """
    if preset.readout and read_out != preset.readout:
        raise ValueError(
            f"--preset: {preset.name} is for the read-out {preset.readout} and not for {read_out}; "
            f"give --model=dense:{preset.readout} --teacher=A+B, or --set=readout= to keep only "
            "its windows and class names."
        )
    if preset.readout and preset.affinity and affinity != preset.affinity:
        raise ValueError(
            f"--preset: {preset.name} has the second tower {preset.affinity} and not "
            f"{affinity or 'none'}; name another preset, or give --set=affinity= for any tower."
        )
