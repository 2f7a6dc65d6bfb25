"""The frozen teacher: CLIP towers, class embeddings, dense read-outs, the bank and its regions."""

from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import Teacher, load

__all__ = ["CheckpointError", "Teacher", "load"]
