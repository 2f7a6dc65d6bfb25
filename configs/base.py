"""Defaults of every field, with a student of a named size: the start of all other recipes.

Paper: https://arxiv.org/abs/2306.00450; docs/architecture.md lists the choices it leaves open.
Command: none; own recipes begin with `from zeroseg_jax.assets.recipes import base`.
Expected: none.
"""

from collections.abc import Iterable

from ml_collections import ConfigDict

from zeroseg_jax.config import Config, suggest, to_mapping
from zeroseg_jax.models.sizes import SIZES

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def get_config(size: str = "vit_b16") -> ConfigDict:
    """Return all fields, with the student of a size of models/sizes.py."""
    pick_variant(size, SIZES, "base")
    config = ConfigDict(to_mapping(Config()))
    config.model.update(SIZES[size])
    return config


def start_as_teacher(config: ConfigDict) -> None:
    """Let the encoder start as the vision tower of a CLIP of its size, on that tower's pixels."""
    config.data.update(mean=CLIP_MEAN, std=CLIP_STD)
    config.model.encoder.update(
        init="teacher", activation="quick_gelu", norm_eps=1e-5, pre_norm=True, positions="learned"
    )


def pick_variant(variant: str, variants: Iterable[str], recipe: str) -> None:
    """Raise a ValueError that names the nearest variant if a recipe has no such variant."""
    if variant not in variants:
        raise ValueError(
            f"--config={recipe}:{variant}: no such variant; {suggest(variant, variants)}"
        )
