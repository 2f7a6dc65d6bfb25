"""Export of a trained student to two files: config.json and model.safetensors.

Tensors have flat names such as `encoder/blocks_0/mlp/fc1/kernel`. config.json has the settings, the
step and the digest of the tensors. Reading needs no checkpoint library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from zeroseg_jax.config import Config, from_mapping, to_mapping
from zeroseg_jax.data import files
from zeroseg_jax.training import trees

EXPORT_CONFIG, EXPORT_WEIGHTS = "config.json", "model.safetensors"
FORMAT = "zeroseg_jax.student.1"
_DTYPES = ("float32", "float16")


def export_params(
    params: Any,
    config: Config,
    directory: str | Path,
    metadata: Mapping[str, Any],
    *,
    dtype: str = "float32",
) -> None:
    """Write a student in the format that `load_params` reads.

    Both files are written atomically. config.json is written last and holds the digest of the
    tensors, so that reading detects an interrupted export.

    Args:
      params: nested dict of arrays.
      config: settings of the run.
      directory: target folder; an existing export in it is replaced.
      metadata: plain values stored beside the settings; `step` is the number of training steps.
      dtype: dtype of the stored tensors, "float32" or "float16" (half the size).

    Raises:
      ValueError: another dtype, or a value outside the range of float16.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(_DTYPES)}.")
    tensors = {}
    for name, leaf in trees.flatten(jax.device_get(params)).items():
        with np.errstate(over="ignore"):
            tensors[name] = np.ascontiguousarray(leaf, dtype)
        if not np.isfinite(tensors[name]).all():
            raise ValueError(
                f"{name}: a value of {np.abs(leaf).max():.3g} does not fit {dtype}; "
                "export as float32."
            )
    root = Path(directory)
    weights = save(tensors)
    record = {
        "format": FORMAT,
        "step": int(metadata.get("step", 0)),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "config": to_mapping(config),
        "metadata": dict(metadata),
    }
    files.write_bytes(root / EXPORT_WEIGHTS, weights, fsync=True)
    files.write_json(root / EXPORT_CONFIG, record, fsync=True)


def read_export(directory: str | Path) -> tuple[dict[str, Any], Config, int]:
    """Read an export.

    Args:
      directory: folder with config.json and model.safetensors.

    Returns:
      Nested dict of float32 numpy parameters, settings, and step.

    Raises:
      ValueError: another format, or missing or damaged tensors.
    """
    root = Path(directory)
    path = root / EXPORT_CONFIG
    record = files.read_json(
        path,
        remedy="export the student again",
        fields={"format": str, "config": dict, "step": int, "sha256": str},
    )
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format {record.get('format')!r} is not {FORMAT!r}; give a directory that "
            "this project exported, or a work directory."
        )
    weights = root / EXPORT_WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{weights}: missing; export the student again.")
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != record["sha256"]:
        raise ValueError(
            f"{weights}: sha256 {digest[:12]} is not {record['sha256'][:12]} of {EXPORT_CONFIG}; "
            "copy or export the student again."
        )
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{weights}: not readable ({error}); export it again.") from error
    params = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    return trees.unflatten(params), from_mapping(record["config"], str(path)), int(record["step"])
