"""ZeroSeg with the project's own terms; encoder, steps and label-free data are unchanged.

Paper: none; docs/playground.md lists the additions to https://arxiv.org/abs/2306.00450, each with
       its table. Never to be reported as ZeroSeg.
Command: zeroseg prepare --config=zeroseg_plus:VARIANT --workdir=DIR
         zeroseg train --config=zeroseg_plus:VARIANT --workdir=DIR
Variants: playground (the Playground's default), imagenet (ViT-B/16 that starts as the vision tower
          of its teacher, CLIP ViT-B/16; not run yet). Small students from scratch lose to ones
          that start so, see docs/playground.md.
Expected: docs/reproduction.md; imagenet: no number yet.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base, imagenet, playground

VARIANTS = ("playground", "imagenet")


def get_config(variant: str = "playground") -> ConfigDict:
    """Return a variant."""
    base.pick_variant(variant, VARIANTS, "zeroseg_plus")
    config = playground.get_config("default")
    if variant == "imagenet":
        own, config = config, imagenet.get_config("vit_b16")
        config.loss = own.loss
        # The teacher that has a tower of the student's size.
        config.teacher.directory = "checkpoints/clip-vit-base-patch16"
        config.model.embed_dim = 512
        base.start_as_teacher(config)
        config.teacher.overlap = True
        config.model.mask_ratio = own.model.mask_ratio
        config.model.decoder.depth = own.model.decoder.depth
        config.model.head.update(grouping="clustered", all_levels=True, region_readout=True)
    config.name = f"zeroseg_plus_{variant}"
    return config
