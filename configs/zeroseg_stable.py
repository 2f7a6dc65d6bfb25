"""ZeroSeg's own three terms with two changes that slow the collapse of its segments; no labels.

Paper: https://arxiv.org/abs/2306.00450. Changed: the assignment scores are standardised over the
       patches of an image (model.head.scores), and a segment is matched to the view that overlaps
       it most (loss.matching_mode). Never to be reported as ZeroSeg.
Command: zeroseg prepare --config=zeroseg_stable:VARIANT --workdir=DIR
         zeroseg train --config=zeroseg_stable:VARIANT --workdir=DIR
Variants: playground (from playground:faithful), imagenet (from imagenet:vit_b16; not run yet).
Expected: docs/collapse.md; imagenet: no number yet.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base, imagenet, playground

VARIANTS = ("playground", "imagenet")


def get_config(variant: str = "playground") -> ConfigDict:
    """Return a variant."""
    base.pick_variant(variant, VARIANTS, "zeroseg_stable")
    if variant == "imagenet":
        config = imagenet.get_config("vit_b16")
    else:
        config = playground.get_config("faithful")
        config.model.mask_ratio = 0.25  # small objects vanish at 0.6, see docs/playground.md
    config.name = f"zeroseg_stable_{variant}"
    config.model.head.scores = "standardised"
    config.loss.matching_mode = "located"
    return config
