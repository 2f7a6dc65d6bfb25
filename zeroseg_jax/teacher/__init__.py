"""What is frozen: a CLIP read from disk, its words, its views and its dense read-outs."""

from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import Teacher, load

__all__ = ["CheckpointError", "Teacher", "load"]
