"""Every field with its default: the paper's recipe where the paper says, see docs/architecture.md.

Paper: https://arxiv.org/abs/2306.00450
Command: the other files of this folder start from here.
Expected: no number of its own.
"""

from ml_collections import ConfigDict

from zeroseg_jax.config import Config, to_mapping
from zeroseg_jax.models.sizes import SIZES


def get_config(size: str = "vit_b16") -> ConfigDict:
    """Return all fields with the student of a named size."""
    config = ConfigDict(to_mapping(Config()))
    config.model.update(SIZES[size])
    return config


def pick_variant(variant: str, variants: tuple[str, ...], file: str) -> None:
    """Refuse a variant that a config file does not have."""
    if variant not in variants:
        raise ValueError(f"{file}: no variant {variant!r}; choose one of {', '.join(variants)}.")
