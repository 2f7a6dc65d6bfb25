"""Training methods by the names of config.objective."""

from __future__ import annotations

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

    def build_abstract(self, config: Config) -> Objective:
        """Build an objective of the same shapes without teacher and data."""


METHODS: dict[str, Method] = {"zeroseg": zeroseg, "clip_zss": clip_zss}
