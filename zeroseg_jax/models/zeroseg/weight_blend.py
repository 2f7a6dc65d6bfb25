"""A trained student's weights mixed with those that it started from, the teacher's own.

Source: Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT, arXiv 2109.01903); a
student with a region read-out in place of a classifier is own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from zeroseg_jax.config import ModelConfig
from zeroseg_jax.models.zeroseg.student import init_from_teacher

Params = dict[str, Any]


def blend_with_teacher(
    params: Params, vision_params: Params, model: ModelConfig
) -> tuple[Params, ModelConfig]:
    """Mix the encoder and the region read-out with the teacher's by model.encoder.teacher_share.

    Args:
      params: parameters of a trained student that started as its teacher's tower.
      vision_params: parameters of teacher.towers.VisionTower.
      model: settings of the student.

    Returns:
      New parameters, and the settings with a share of 0: a second call changes nothing.
    """
    share = model.encoder.teacher_share
    if not share:
        return params, model
    start = init_from_teacher(params, vision_params, model)

    def blend(trained: Any, first: Any) -> Any:
        return jax.tree.map(lambda x, y: (1 - share) * x + share * y, trained, first)

    params = {**params, "encoder": blend(params["encoder"], start["encoder"])}
    if model.head.region_readout:
        # Not the bias: it starts at the mean feature of the bank, which is not kept.
        own, kernel = params["region_projection"], start["region_projection"]["kernel"]
        params["region_projection"] = {**own, "kernel": blend(own["kernel"], kernel)}
    encoder = dataclasses.replace(model.encoder, teacher_share=0.0)
    return params, dataclasses.replace(model, encoder=encoder)
