"""Settings of each named protocol by benchmark, with their sources.

An entry "*" holds for every benchmark without an entry of its own. Published protocols resize by
mmcv's rule (one factor, long side at most 2048, cv2's bilinear on bytes), use mmsegmentation's
grid of windows, average overlaps, upsample to the image's size and then decide. None of them
flips images or uses several scales. What still differs from each is in preset_differences.py.

Published code normalises pixels as its weights were trained: GroupViT, SegCLIP and TCL with
ImageNet's numbers, SCLIP and its successors with CLIP's. So `normalisation` is "model" in all.
"""

from __future__ import annotations

from typing import Any

from zeroseg_jax.data.benchmarks.playground import STUFF

# GroupViT, released evaluation: short side 448, windows 448 by 224, one prompt, logit scale at
# most 100, product with the five best classes of the window, threshold lowered to the best score.
_GROUPVIT: dict[str, Any] = {
    "short_side_px": 448,
    "window_px": 448,
    "stride_px": 224,
    "prompts": "simple",
    "logit_scale": 100.0,
    "image_filter": "topk_product",
    "topk": 5,
    "threshold_rule": "window",
}
# ZeroSeg section 4: short side 448 and background "following GroupViT"; prompts "predefined
# templates", read as CLIP's 80.
_ZEROSEG = {**_GROUPVIT, "prompts": "imagenet"}

# SCLIP, released configs: cosines averaged and enlarged, softmax at each pixel over all names,
# a class by its best name, the 80 prompts, logit scale 40, positions by DINO's rule.
_SCLIP: dict[str, Any] = {
    "short_side_px": 336,
    "window_px": 224,
    "stride_px": 112,
    "prompts": "imagenet",
    "naming": "pixels",
    "names": "best",
    "logit_scale": 40.0,
    "image_filter": "none",
    "threshold_rule": "constant",
    "positions": "scale",
}
# A words file may have a line for background (26 kinds of stuff in SCLIP's for VOC21 and
# COCO-Object). ClearCLIP names the background with one word on all three data sets.
_ONE_NAME = ("background",)
# These protocols share the words files of data sets without synonyms.
_SCLIP_WORDS: dict[str, dict[str, Any]] = {
    name: {"words_file": "sclip"}
    for name in ("voc20", "context59", "coco_stuff171", "ade150", "cityscapes19")
}
# NACLIP's repository refines by default: 10 iterations at distances 8 and 16, at full size, along
# the edges of the resized input.
_NACLIP = {
    **_SCLIP,
    "pamr_dilations": (8, 16),
    "pamr_iterations": 10,
    "pamr_short_px": 0,
    "guide": "resized",
}

# The Playground's settings are the project's own, chosen on scenes of TUNE_SEED. No student trains
# on those scenes and no score is reported on them. "same_area" gains 8 to 16 points of mIoU over
# square windows on wide images (docs/results/whole_picture.json).
_PLAYGROUND: dict[str, Any] = {
    "short_side_px": 0,
    "window": "same_area",
    "window_px": 0,
    "stride_px": 0,
    "resize": "antialiased",
    "prompts": "playground",
    "logit_scale": 0.0,
    "image_filter": "none",
    "refine": "guided",
    "guided_radius": 1 / 3,
    "guided_eps": 1e-4,
    # For --refine=pamr alone.
    "pamr_dilations": (8, 16, 32),
    "pamr_short_px": 224,
}
_THINGS = {**_PLAYGROUND, "background_words": STUFF}

# Generalised zero-shot segmentation with the windows and prompts of ZegCLIP's released configs (one
# template on VOC, fifteen elsewhere); background is no class. CLIP-ZSS only says that classes are
# chosen by argmax: naming and scale (the student's own) are the project's.
_ZSS: dict[str, Any] = {
    "short_side_px": 512,
    "window_px": 512,
    "stride_px": 426,
    "prompts": "zegclip",
    "naming": "pixels",
    "threshold_rule": "constant",
    "logit_scale": 0.0,
    "image_filter": "none",
}

# ProxyCLIP, released configs; on VOC20 it has one name a class, as ClearCLIP.
_PROXYCLIP: dict[str, dict[str, Any]] = {
    "*": {**_SCLIP, "window_px": 336, "readout": "proxy"},
    **_SCLIP_WORDS,
    "voc21": {"threshold": 0.2, "words_file": "proxyclip"},
    "voc20": {"words_file": "clearclip"},
    "context60": {"threshold": 0.15, "words_file": "sclip"},
    "coco_object": {"threshold": 0.25, "words_file": "proxyclip"},
    "ade150": {"short_side_px": 448, "words_file": "sclip"},
    # Their class names are ProxyCLIP's.
    "ade847": {"short_side_px": 448},
    "context459": {"short_side_px": 448},
    "cityscapes19": {"short_side_px": 448, "window_px": 224, "words_file": "sclip"},
}

_WHOLE: dict[str, Any] = {"window": "whole", "window_px": 0, "stride_px": 0}
_ZSS_PLAYGROUND = {
    **_PLAYGROUND,
    "naming": "pixels",
    "threshold_rule": "constant",
    "refine": "none",
}

# What Predictor, `segment` and `serve` take for a frozen CLIP by default, the project's own: one
# window with the patches of a 448-px square, CLIP's seven best prompts, a class by its best name.
_FROZEN: dict[str, Any] = {
    **_SCLIP,
    "short_side_px": 448,
    "window": "same_area",
    "window_px": 0,
    "stride_px": 0,
    "resize": "antialiased",
    "prompts": "subset",
    "refine": "guided",
    "positions": "size",
    # For --refine=pamr alone.
    "pamr_dilations": (8, 16, 32),
    "pamr_short_px": 224,
}

# preset -> benchmark ("*" for all) -> fields
PROTOCOLS: dict[str, dict[str, dict[str, Any]]] = {
    "frozen": {
        "*": _FROZEN,
        # The CLIP that ships: its windows and its captions' prompts, on drawn scenes.
        "playground/full": {**_FROZEN, "short_side_px": 96, "prompts": "playground"},
    },
    "zss": {
        "*": _ZSS,
        "voc20": {"prompts": "zegclip_single"},
        "coco_stuff171": {},
        "playground/zss": _ZSS_PLAYGROUND,
        "playground/full": _ZSS_PLAYGROUND,
    },
    "zeroseg": {
        "*": _ZEROSEG,
        # ZeroSeg section 4.
        "voc21": {"threshold": 0.95},
        "context60": {"threshold": 0.05},
        "coco_object": {"threshold": 0.35},
        "playground/things": _THINGS,
        "playground/held-out": _THINGS,
        "playground/colours": _THINGS,
        "playground/full": _PLAYGROUND,
    },
    "groupvit": {
        "*": _GROUPVIT,
        # GroupViT's released configs; its paper says 0.9 and 0.5 (GroupViT#56).
        "voc21": {"threshold": 0.95, "words_file": "groupvit"},
        "context60": {"threshold": 0.35, "words_file": "groupvit"},
        "coco_object": {"threshold": 0.95},
    },
    "segclip": {
        # SegCLIP's copy of GroupViT's evaluation at its training side.
        "*": {**_GROUPVIT, "short_side_px": 224, "window_px": 224, "stride_px": 224},
        "voc21": {"threshold": 0.80, "words_file": "groupvit"},
        "context60": {"threshold": 0.25, "words_file": "groupvit"},
        "coco_object": {"threshold": 0.65},
    },
    "tcl_windows": {
        # Windows, class names and prompts of TCL's unified evaluation. Its rule (a sigmoid for each
        # class with a learned scale and bias, a constant plane for background, kp_w 0.3) belongs to
        # its trained decoder; here it is a softmax over classes.
        "*": {
            "short_side_px": 448,
            "window_px": 448,
            "stride_px": 224,
            "prompts": "tcl",
            "naming": "pixels",
            "image_filter": "none",
            "threshold_rule": "constant",
        },
        "voc21": {"threshold": 0.5, "words_file": "tcl"},
        "voc20": {"words_file": "tcl"},
        # mmsegmentation's names, which for Context are those of SCLIP's file.
        "context60": {"threshold": 0.5, "words_file": "sclip"},
        "context59": {"words_file": "sclip"},
        "coco_object": {"threshold": 0.5},
        "coco_stuff171": {"words_file": "tcl"},
        "cityscapes19": {},
        "ade150": {},
    },
    "sclip": {
        "*": _SCLIP,
        "voc21": {
            "words_file": "sclip",
            "logit_scale": 65.0,
            "threshold": 0.1,
            "area_threshold": 0.1,
        },
        **_SCLIP_WORDS,
        "context60": {"logit_scale": 50.0, "threshold": 0.1, "words_file": "sclip"},
        "coco_object": {"logit_scale": 50.0, "threshold": 0.1, "words_file": "sclip"},
        "coco_stuff171": {"short_side_px": 448, "words_file": "sclip"},
        "cityscapes19": {"short_side_px": 560, "words_file": "sclip"},
    },
    "clearclip": {
        # ClearCLIP, released configs: scale 50, larger windows, the one word for background.
        "*": {
            **_SCLIP,
            "short_side_px": 448,
            "window_px": 448,
            "stride_px": 224,
            "logit_scale": 50.0,
        },
        **_SCLIP_WORDS,
        "voc21": {"threshold": 0.5, "words_file": "clearclip"},
        "voc20": {"words_file": "clearclip"},
        "context60": {"threshold": 0.15, "words_file": "sclip"},
        "coco_object": {"threshold": 0.4, "background_words": _ONE_NAME},
        # The config sets the window alone; the stride is the class's default of 224.
        "cityscapes19": {"window_px": 224, "stride_px": 224, "words_file": "sclip"},
    },
    "naclip": {
        "*": _NACLIP,
        # NACLIP, released configs: one window over an image of VOC.
        **_SCLIP_WORDS,
        "voc21": {**_WHOLE, "threshold": 0.1, "words_file": "sclip"},
        "voc20": {**_WHOLE, "words_file": "sclip"},
        "context60": {"threshold": 0.1, "words_file": "sclip"},
        "coco_object": {"threshold": 0.1, "words_file": "sclip"},
        "cityscapes19": {"short_side_px": 560, "words_file": "sclip"},
    },
    "scclip": {
        # SC-CLIP, released configs: windows as SCLIP; no refinement.
        "*": _SCLIP,
        **_SCLIP_WORDS,
        "voc21": {
            "words_file": "sclip",
            "logit_scale": 50.0,
            "threshold": 0.15,
            "area_threshold": 0.1,
        },
        "context60": {"threshold": 0.15, "words_file": "sclip"},
        "coco_object": {"logit_scale": 55.0, "threshold": 0.35, "words_file": "sclip"},
        "cityscapes19": {"short_side_px": 560, "words_file": "sclip"},
    },
    "tips": {
        "ade150": {},
        # TIPSv2, notebook of zero-shot segmentation in its repository (read-out maskclip): pixels
        # in [0, 1], TCL's nine prompts, softmax of raw cosines (scale 1) averaged over windows. The
        # notebook enlarges cosines before the softmax, and has no rule for background.
        "*": {
            "short_side_px": 448,
            "window_px": 448,
            "stride_px": 336,
            "resize": "antialiased",
            "prompts": "tcl",
            "logit_scale": 1.0,
            "image_filter": "none",
        },
    },
    "maskclip_plain": {
        # MaskCLIP, released configs of ViT-B/16: one window over the image, 85 prompts, ImageNet's
        # normalisation. Key smoothing and prompt denoising are switched off there.
        **{name: {"words_file": "maskclip"} for name in ("voc20", "coco_stuff171")},
        "context59": {"short_side_px": 520, "long_side_px": 520, "words_file": "maskclip"},
        "cityscapes19": {},
        "*": {
            **_WHOLE,
            "short_side_px": 512,
            "normalisation": "imagenet",
            "prompts": "maskclip",
            "naming": "pixels",
            "logit_scale": 100.0,
            "image_filter": "none",
            "threshold_rule": "constant",
        },
    },
    # The base config has vfm_model="dino", which is ViT-B/8: dino-b8+clip-b16.
    "proxyclip": {**_PROXYCLIP, "*": {**_PROXYCLIP["*"], "affinity": "vit"}},
    # vfm_model="dinov2" of the same code, ViT-B/14 with registers: dinov2+clip-b16.
    "proxyclip_dinov2": {
        **_PROXYCLIP,
        "*": {**_PROXYCLIP["*"], "affinity": "dinov2_with_registers"},
    },
    # CorrCLIP has no preset: its masks come from SAM 2 or EntitySeg, which are trained with masks
    # drawn by people.
}
