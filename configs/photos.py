"""Folder of photographs, with any CLIP as teacher.

Paper: https://arxiv.org/abs/2306.00450
Command: zeroseg prepare --config=photos --workdir=runs/photos \
             --config.data.directory=FOLDER
         zeroseg train --config=photos --workdir=runs/photos \
             --config.data.directory=FOLDER
Variants: small (the Playground's size), vit_b16 (the paper's student at 224 px; its 8 steps only
          try the set-up: set optim.steps and optim.batch_global for a training).
Expected: no published number. The CLIP that ships with the package does not know photographs: set
          teacher.directory to a real CLIP and model.embed_dim to its width.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base

VARIANTS = ("small", "vit_b16")


def get_config(variant: str = "small") -> ConfigDict:
    """Return a variant."""
    base.pick_variant(variant, VARIANTS, "photos")
    config = base.get_config("playground" if variant == "small" else variant)
    config.name = f"photos_{variant}"
    config.model.embed_dim = 128  # of the CLIP that ships with the package
    # The Playground's own parts (docs/playground.md), the encoder from scratch.
    config.model.head.update(grouping="clustered", all_levels=True, region_readout=True)
    config.loss.update(reconstruction=0.3, distillation=0.3, matching=0.0)
    config.loss.update(cell=2.0, inside=0.3, patch=1.0)
    config.data.update(source="folder", directory="photos", images=0)
    config.optim.update(batch_global=32, base_rate=4e-3, steps=400, warmup_fraction=0.1)
    config.optim.clip_norm = 1.0
    config.run.update(log_every_steps=20, checkpoint_every_steps=200)
    if variant == "vit_b16":
        config.optim.update(batch_global=8, base_rate=1.6e-2, steps=8)
        config.run.update(log_every_steps=1, checkpoint_every_steps=8)
    return config
