"""Training methods by the names of config.objective."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from zeroseg_jax.config import Config
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.training import clip_zss, zeroseg
from zeroseg_jax.training.inputs import Inputs
from zeroseg_jax.training.objective import Objective


class Method(Protocol):
    """Functions of a method's module."""

    def build(self, config: Config, teacher: Teacher, inputs: Inputs) -> Objective:
        """Build the objective of a run."""

    def check_start(self, config: Config, teacher: Teacher) -> None:
        """Refuse initial weights that do not fit the student."""

    def build_abstract(self, config: Config) -> Objective:
        """Build an objective of the same shapes without teacher and data."""


METHODS: dict[str, Method] = {"zeroseg": zeroseg, "clip_zss": clip_zss}


def fit_teacher(config: Config, teacher: Teacher) -> Config:
    """Return a config whose student has the width of the teacher's features.

    `prepare` and `train` call it, so that hours of encoding do not end in a refusal.

    Args:
      config: settings; model.embed_dim=0 takes the teacher's width.
      teacher: frozen CLIP of the run.

    Raises:
      ValueError: another width, or initial weights that do not fit the student.
    """
    config = set_width(config, teacher.embed_dim)
    if config.model.embed_dim != teacher.embed_dim:
        raise ValueError(
            f"model.embed_dim: {config.model.embed_dim} does not match the teacher "
            f"{config.teacher.directory}, whose features are {teacher.embed_dim} wide; set "
            "model.embed_dim=0 or use another teacher."
        )
    METHODS[config.objective].check_start(config, teacher)
    return config


def set_width(config: Config, width: int) -> Config:
    """Replace model.embed_dim=0 by the width of the teacher's features."""
    if config.model.embed_dim:
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, embed_dim=width))
