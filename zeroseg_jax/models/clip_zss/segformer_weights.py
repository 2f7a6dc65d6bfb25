"""SegFormer weights from a directory in Hugging Face's layout (config.json, model.safetensors).

Encoders trained on ImageNet (nvidia/mit-b0 and others) and segmentation models
(nvidia/segformer-b0-finetuned-...) are read; the classifier of the latter is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from zeroseg_jax.config import DenseStudentConfig
from zeroseg_jax.models.clip_zss.segformer import MIT_SIZES, MitConfig

_BATCH_NORM_EPS = 1e-5  # torch's default, which SegFormer keeps
_SIZES = ("hidden_sizes", "depths", "num_attention_heads", "sr_ratios")
_STAGES = 4
_UNUSED = ("classifier", "num_batches_tracked")


def read_mit_config(directory: str | Path) -> MitConfig:
    """Read the sizes of MiT from config.json.

    Raises:
      ValueError: a missing or damaged file, another kind of model, or unsupported settings.
    """
    path = Path(directory) / "config.json"
    if not path.is_file():
        raise ValueError(f"{path}: missing; give a directory with config.json and weights.")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); fetch the file again.") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: holds no JSON object; fetch the file again.")
    if raw.get("model_type") != "segformer":
        raise ValueError(f"{path}: model_type is {raw.get('model_type')!r}, not 'segformer'.")
    fixed = {
        "patch_sizes": [7, 3, 3, 3],
        "strides": [4, 2, 2, 2],
        "hidden_act": "gelu",
        "num_channels": 3,
    }
    for field, value in fixed.items():
        if raw.get(field, value) != value:
            raise ValueError(f"{path}: {field} is {raw[field]}, but only {value} is supported.")
    ratios = raw.get("mlp_ratios", [4, 4, 4, 4])
    sizes = [raw.get(field) for field in _SIZES]
    for field, values in (("mlp_ratios", ratios), *zip(_SIZES, sizes, strict=True)):
        if (
            not isinstance(values, list)
            or len(values) != _STAGES
            or not all(type(value) is int and value > 0 for value in values)
        ):
            raise ValueError(
                f"{path}: {field} is {values!r}, not {_STAGES} positive integers; fetch it again."
            )
    if len(set(ratios)) != 1:
        raise ValueError(
            f"{path}: mlp_ratios {ratios} differ, but one ratio for all stages is supported."
        )
    widths, depths, heads, reductions = (tuple(raw[field]) for field in _SIZES)
    return MitConfig(widths, depths, heads, reductions, ratios[0])


def read_segformer(directory: str | Path, head_norm: str = "none") -> dict[str, dict[str, Any]]:
    """Read the weights.

    Args:
      directory: folder with config.json and model.safetensors.
      head_norm: "none" folds the head's batch norm into the layer before it, with the running
        statistics; "batch" keeps it.

    Returns:
      {"encoder": parameters of MixTransformer}, and "head": parameters of AllMlpHead if the
      directory holds a segmentation model; float32 numpy leaves.

    Raises:
      ValueError: missing or damaged files, or tensors of other shapes; the message lists all
        names that are missing or unused.
    """
    config = read_mit_config(directory)
    path = Path(directory) / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"{path}: missing; give a directory with safetensors weights.")
    try:
        raw = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: damaged or truncated ({error}); fetch the file again."
        ) from error
    tensors = {name.removeprefix("segformer."): value for name, value in raw.items()}
    tensors = {
        name: value.astype(np.float32)
        for name, value in tensors.items()
        if not any(part in _UNUSED for part in name.split("."))
    }
    reader = _Reader(tensors, path)
    params = {"encoder": _read_encoder(reader, config)}
    if "decode_head.linear_fuse.weight" in tensors:
        params["head"] = _read_head(reader, config, head_norm)
    reader.finish()
    return params


def init_from_segformer(
    params: dict[str, Any], directory: str | Path, settings: DenseStudentConfig
) -> dict[str, Any]:
    """Initialise MiT, and the head if the files have one, from Hugging Face's files.

    Args:
      params: parameters of the dense student.
      directory: folder with config.json and model.safetensors.
      settings: settings of the dense student.

    Raises:
      ValueError: files that are not a SegFormer of the size of clip_zss.student.encoder.
    """
    found = read_mit_config(directory)
    if found != MIT_SIZES[settings.encoder]:
        raise ValueError(
            f"clip_zss.student.encoder_weights: {directory} has {found}, but "
            f"clip_zss.student.encoder is {settings.encoder} with {MIT_SIZES[settings.encoder]}; "
            "set clip_zss.student.encoder to its size."
        )
    read = read_segformer(directory, settings.head_norm)
    kernel = read["head"]["fuse"]["kernel"] if "head" in read else None
    found_width = settings.head_width if kernel is None else kernel.shape[-1]
    if found_width != settings.head_width:
        raise ValueError(
            f"clip_zss.student.head_width: {settings.head_width}, but the head in {directory} is "
            f"{found_width} wide; set it to that."
        )
    return jax.tree.map(jnp.array, {**params, **read})


class _Reader:
    """Tensors by name, with a record of the missing, wrong and unused ones."""

    def __init__(self, tensors: dict[str, np.ndarray], path: Path):
        self._tensors, self._path = tensors, path
        self._missing: list[str] = []
        self._wrong: list[str] = []
        self._used: set[str] = set()

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self._used.add(name)
        value = self._tensors.get(name)
        if value is None:
            self._missing.append(f"missing {name}")
        elif value.shape != shape:
            self._wrong.append(f"{name} is {value.shape}, not {shape}")
        elif not np.isfinite(value).all():
            self._wrong.append(f"{name} holds non-finite values")
        else:
            return value
        return np.zeros(shape, np.float32)

    def dense(self, name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        kernel = self.take(f"{name}.weight", (outputs, inputs)).T
        return {"kernel": kernel, "bias": self.take(f"{name}.bias", (outputs,))}

    def conv(self, name: str, inputs: int, outputs: int, side: int) -> dict[str, np.ndarray]:
        kernel = self.take(f"{name}.weight", (outputs, inputs, side, side)).transpose(2, 3, 1, 0)
        return {"kernel": kernel, "bias": self.take(f"{name}.bias", (outputs,))}

    def norm(self, name: str, width: int) -> dict[str, Any]:
        scale, bias = (self.take(f"{name}.{part}", (width,)) for part in ("weight", "bias"))
        return {"norm": {"scale": scale, "bias": bias}}

    def finish(self) -> None:
        unused = [f"unused {name}" for name in self._tensors if name not in self._used]
        problems = sorted(self._missing + self._wrong + unused)
        if problems:
            raise ValueError(f"{self._path}: does not fit its config: {'; '.join(problems)}.")


def _read_encoder(reader: _Reader, config: MitConfig) -> dict[str, Any]:
    params: dict[str, Any] = {}
    inputs = 3
    for stage, width in enumerate(config.widths):
        embedding = f"encoder.patch_embeddings.{stage}"
        side = 7 if stage == 0 else 3
        params[f"embedding_{stage}"] = reader.conv(f"{embedding}.proj", inputs, width, side)
        params[f"embedding_norm_{stage}"] = reader.norm(f"{embedding}.layer_norm", width)
        for i in range(config.depths[stage]):
            params[f"stage_{stage}_block_{i}"] = _read_block(
                reader, f"encoder.block.{stage}.{i}", width, config.reductions[stage],
                width * config.mlp_ratio,
            )  # fmt: skip
        params[f"stage_norm_{stage}"] = reader.norm(f"encoder.layer_norm.{stage}", width)
        inputs = width
    return params


def _read_block(
    reader: _Reader, name: str, width: int, reduction: int, hidden: int
) -> dict[str, Any]:
    attention = f"{name}.attention.self"
    block: dict[str, Any] = {
        "norm1": reader.norm(f"{name}.layer_norm_1", width),
        "norm2": reader.norm(f"{name}.layer_norm_2", width),
        "query": reader.dense(f"{attention}.query", width, width),
        "key": reader.dense(f"{attention}.key", width, width),
        "value": reader.dense(f"{attention}.value", width, width),
        "out": reader.dense(f"{name}.attention.output.dense", width, width),
        "fc1": reader.dense(f"{name}.mlp.dense1", width, hidden),
        "depthwise": reader.conv(f"{name}.mlp.dwconv.dwconv", 1, hidden, 3),
        "fc2": reader.dense(f"{name}.mlp.dense2", hidden, width),
    }
    if reduction > 1:
        block["reduction"] = reader.conv(f"{attention}.sr", width, width, reduction)
        block["reduction_norm"] = reader.norm(f"{attention}.layer_norm", width)
    return block


def _read_head(reader: _Reader, config: MitConfig, norm: str) -> dict[str, Any]:
    first = "decode_head.linear_c.0.proj.weight"
    hidden = len(reader.take(first, reader._tensors[first].shape))
    params: dict[str, Any] = {
        f"stage_{stage}": reader.dense(f"decode_head.linear_c.{stage}.proj", width, hidden)
        for stage, width in enumerate(config.widths)
    }
    kernel = reader.take("decode_head.linear_fuse.weight", (hidden, 4 * hidden, 1, 1))[:, :, 0, 0].T
    scale, bias, mean, variance = (
        reader.take(f"decode_head.batch_norm.{part}", (hidden,))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    if norm == "batch":
        params["fuse"] = {"kernel": kernel}
        params["fuse_norm"] = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
        return params
    scale = scale / np.sqrt(variance + _BATCH_NORM_EPS)
    params["fuse"] = {"kernel": kernel * scale, "bias": bias - mean * scale}
    return params
