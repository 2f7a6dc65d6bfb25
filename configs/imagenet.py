"""ZeroSeg on ImageNet-1K, as published.

Paper: https://arxiv.org/abs/2306.00450
Command: zeroseg prepare --config=imagenet --workdir=DIR \
             --config.data.directory=IMAGENET/train --config.teacher.directory=CLIP_L14
         zeroseg train --config=imagenet --workdir=DIR (same overrides)
Variants: vit_b16 (the paper's), vit_l16, vit_s16; cc3m_coco, cc12m_imagenet (ViT-B/16 on the
          paper's other data, as *.tar shards below data.directory).
Expected: vit_b16: mIoU 40.8 VOC, 20.4 Context, 20.2 COCO; cc3m_coco: 37.3, 19.7, 17.8;
          cc12m_imagenet: 42.9, 21.8, 22.1 (published); the others: none published.

1,281,167 images x 80 epochs / 4096 = 25,022 steps; 1.5e-4 * 4096 / 256 = 2.4e-3. The paper gives no
epochs for its other data; 80 are kept.
"""

from ml_collections import ConfigDict

from zeroseg_jax.assets.recipes import base

VARIANTS = ("vit_b16", "vit_l16", "vit_s16", "cc3m_coco", "cc12m_imagenet")
_SHARDS = {"cc3m_coco": "data/cc3m_coco", "cc12m_imagenet": "data/cc12m_imagenet"}


def get_config(variant: str = "vit_b16") -> ConfigDict:
    """Return a variant."""
    base.pick_variant(variant, VARIANTS, "imagenet")
    config = base.get_config("vit_b16" if variant in _SHARDS else variant)
    config.name = f"imagenet_{variant}"
    config.data.update(source="folder", directory="data/imagenet/train", images=0, workers=8)
    if variant in _SHARDS:
        config.data.update(source="tar", directory=_SHARDS[variant])
    config.teacher.directory = "checkpoints/clip-vit-large-patch14"
    config.run.dtype = "bfloat16"
    config.run.checkpoint_every_steps = 1000
    return config
