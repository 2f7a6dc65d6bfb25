"""Initialisation of the encoder from a CLIP vision tower or from a trained student."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from zeroseg_jax.config import ModelConfig
from zeroseg_jax.models.layers import resize_positions

Params = dict[str, Any]


def encoder_from_tower(encoder: Params, vision_params: Params, model: ModelConfig) -> Params:
    """Return a CLIP vision tower as parameters of an encoder.

    Args:
      encoder: parameters of the encoder, for names that the tower has not.
      vision_params: parameters of teacher.towers.VisionTower.
      model: settings of the encoder.

    Returns:
      New parameters; learned positions are resized to the encoder's grid.

    Raises:
      ValueError: a field of model.encoder differs from the tower.
    """
    config = model.encoder
    side = model.image_px // config.patch_px
    blocks = {name: value for name, value in vision_params.items() if name.startswith("blocks_")}
    kernel = vision_params["patch_embedding"]["projection"]["kernel"]
    for field, mine, theirs in (
        ("width", config.width, kernel.shape[1]),
        ("depth", config.depth, len(blocks)),
        ("patch_px", config.patch_px, int((kernel.shape[0] // 3) ** 0.5)),
        ("pre_norm", config.pre_norm, True),
        ("positions", config.positions, "learned"),
    ):
        if mine != theirs:
            raise ValueError(
                f"model.encoder.{field}: {mine!r} differs from {theirs!r} of the teacher's tower; "
                f"set model.encoder.{field}={theirs!r} or model.encoder.init='scratch'."
            )
    positions = vision_params["positions"]
    resized = resize_positions(positions[1:], side, side)
    bias = encoder["patch_embedding"]["projection"]["bias"]
    return {
        **encoder,
        **blocks,
        "class_token": vision_params["class_token"],
        "positions": jnp.concatenate([positions[:1], resized]),
        "pre_norm": vision_params["pre_norm"],
        "post_norm": vision_params["post_norm"],
        "patch_embedding": {"projection": {"kernel": kernel, "bias": jnp.zeros_like(bias)}},
    }


def encoder_from_student(encoder: Params, trained: Params, model: ModelConfig) -> Params:
    """Return the encoder of a trained ZeroSeg student as parameters of an encoder.

    Args:
      encoder: parameters of the encoder, for names and shapes.
      trained: parameters of the encoder of the ZeroSeg student.
      model: settings of the encoder.

    Returns:
      New parameters; learned positions are resized to the encoder's grid.

    Raises:
      ValueError: an encoder of another size; names the first leaf that differs.
    """
    found = dict(trained)
    side = model.image_px // model.encoder.patch_px
    if "positions" in found and found["positions"].shape[1] == model.encoder.width:
        rows = jnp.asarray(found["positions"])
        resized = resize_positions(rows[1:], side, side)
        found["positions"] = jnp.concatenate([rows[:1], resized])
    _check_same_shapes(encoder, found)
    return found


def _check_same_shapes(wanted: Params, found: Params) -> None:
    shapes, others = _shapes(wanted), _shapes(found)
    for name in sorted(shapes.keys() | others.keys()):
        if shapes.get(name) != others.get(name):
            raise ValueError(
                f"clip_zss.student.encoder_weights: {name} is {others.get(name)} there, but "
                f"model.encoder makes it {shapes.get(name)}; set model.encoder as in that "
                "student's config."
            )


def _shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
