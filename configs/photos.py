"""Folder of photographs, with any CLIP as teacher.

Paper: https://arxiv.org/abs/2306.00450
Command: zeroseg prepare --config=photos --workdir=runs/photos \
             --config.data.directory=FOLDER
         zeroseg train --config=photos --workdir=runs/photos \
             --config.data.directory=FOLDER
Variants: small (the Playground's size, for 2 CPU cores), vit_b16 (the paper's student at 224 px,
          for accelerators), vit_b16_smoke (the same in 8 steps, to test a set-up).
Expected: no published number. The CLIP that ships with the package does not know photographs: set
          teacher.directory to a real CLIP. model.embed_dim follows it.

vit_b16 sees each of the N images 300 times: 300 N / 256 steps, for example 11,718 for 10,000
images. Its rate is 5e-4. `zeroseg plan --config=photos:vit_b16 --topology=v5e:2x2
--images=N` computes memory, hours and, with --price, the cost. From half a million images on, fewer
epochs suffice: the paper trained 80 on 1.3 million (--config.optim.epochs=80).
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base

VARIANTS = ("small", "vit_b16", "vit_b16_smoke")


def get_config(variant: str = "small") -> ConfigDict:
    """Return a variant."""
    base.pick_variant(variant, VARIANTS, "photos")
    config = base.get_config("playground" if variant == "small" else "vit_b16")
    config.name = f"photos_{variant}"
    config.model.embed_dim = 0  # as wide as the teacher's features
    # The Playground's own parts (docs/playground.md), the encoder from scratch.
    config.model.head.update(grouping="clustered", all_levels=True, region_readout=True)
    config.loss.update(reconstruction=0.3, distillation=0.3, matching=0.0)
    config.loss.update(cell=2.0, inside=0.3, patch=1.0)
    config.data.update(source="folder", directory="photos", images=0)
    config.optim.update(warmup_fraction=0.1, clip_norm=1.0)
    if variant == "vit_b16":
        config.optim.update(batch_global=256, base_rate=5e-4, epochs=300, steps=0)
        config.run.update(dtype="bfloat16", log_every_steps=20, checkpoint_every_steps=500)
    elif variant == "vit_b16_smoke":
        config.optim.update(batch_global=8, base_rate=1.6e-2, steps=8)
        config.run.update(log_every_steps=1, checkpoint_every_steps=8)
    else:
        config.optim.update(batch_global=32, base_rate=4e-3, steps=400)
        config.run.update(log_every_steps=20, checkpoint_every_steps=200)
    return config
