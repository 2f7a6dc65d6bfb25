"""Settings of a run: fields, their limits, and reading them from plain mappings.

A recipe in ``configs/`` is an ``ml_collections.ConfigDict``. :func:`from_mapping` checks it and
turns it into :class:`Config`, so that the code below the commands has types and no ``.get``.
"""

from zeroseg_jax.config.fields import (
    ClipZssConfig,
    ClipZssLossConfig,
    Config,
    DataConfig,
    DecoderConfig,
    DenseStudentConfig,
    EncoderConfig,
    HeadConfig,
    LabelsConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    RegionsConfig,
    RunConfig,
    TeacherConfig,
)
from zeroseg_jax.config.reading import (
    OLD_NAMES,
    ConfigError,
    explain_text,
    from_mapping,
    rename_old,
    suggest,
    to_mapping,
)

__all__ = [
    "OLD_NAMES",
    "ClipZssConfig",
    "ClipZssLossConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DecoderConfig",
    "DenseStudentConfig",
    "EncoderConfig",
    "HeadConfig",
    "LabelsConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "RegionsConfig",
    "RunConfig",
    "TeacherConfig",
    "explain_text",
    "from_mapping",
    "rename_old",
    "suggest",
    "to_mapping",
]
