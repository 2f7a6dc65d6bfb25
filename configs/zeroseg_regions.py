"""ZeroSeg with free-form regions instead of square views: parts of CLIP-ZSS without labels.

Paper: none; an adaptation of https://arxiv.org/abs/2310.02296 (its parts) to the task of
       https://arxiv.org/abs/2306.00450 (no label, no text in training). Never to be reported as
       either.
Command: zeroseg prepare --config=zeroseg_regions --workdir=DIR
         zeroseg train --config=zeroseg_regions --workdir=DIR
         zeroseg evaluate --workdir=DIR --benchmark=playground/full --preset=zss \
             --output=OUT
Variants: playground.
Expected: docs/clip_zss.md.

Every pixel is unannotated, so regions cover the image. Three terms train a dense student: the
class token of the image (GLM), the teacher's view of each region (local term), and cosines to the
prototypes of the regions (pixel losses). No class names exist, so the prototype BCE is off.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base, clip_zss

VARIANTS = ("playground",)


def get_config(variant: str = "playground") -> ConfigDict:
    """Return the only variant."""
    base.pick_variant(variant, VARIANTS, "zeroseg_regions")
    config = clip_zss.get_config("playground_local")
    config.name = f"zeroseg_regions_{variant}"
    config.clip_zss.labels.split = "none"
    config.clip_zss.loss.update(prototype_weight=0.0, focal_weight=20.0)  # recorded with 20
    # Chosen on tune scenes: python -m bench.experiments.clip_zss_regions.
    config.clip_zss.regions.update(seed_windows=(3, 6), merge_cosine=0.9, local_view="by_size")
    return config
