"""The teacher: a frozen CLIP or SigLIP loaded from a directory, to encode images and texts."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.teacher.checkpoints.config import (
    OPEN_CLIP,
    CheckpointError,
    find_config_file,
    read_config,
    read_object,
)
from zeroseg_jax.teacher.checkpoints.tensors import read_params, weight_files
from zeroseg_jax.teacher.clip import ClipConfig, TextTower, VisionTower
from zeroseg_jax.teacher.readouts import read_out
from zeroseg_jax.teacher.tokenizer import Encode, load_tokenizer

SHIPPED = Path(__file__).parent.parent / "assets" / "clip"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN = SIGLIP_STD = (0.5, 0.5, 0.5)
_TEXT_BATCH = 64
_MAX_EXPONENT = 88.0


class Teacher:
    """A frozen CLIP or SigLIP.

    Attributes:
      directory: directory of the checkpoint.
      config: settings of both towers.
      image_px, patch_px: sides of the square input and of a patch.
      embed_dim: width E of the projected features.
      mean, std: normalisation of RGB in [0, 1].
      logit_scale: exp of the learned scale.
      logit_bias: learned bias of SigLIP's scaled cosines; 0 for CLIP, which has none.
      dtype: dtype of the vision tower's matrix products; the text tower runs in float32.
      digest: sha256 over the config and the weight files.
      vision_params, text_params: parameters of the towers; None for a missing text tower.
    """

    def __init__(
        self, directory: Path, config: ClipConfig, params: dict[str, Any], dtype: Any = jnp.float32
    ):
        self.directory = directory
        self.dtype = jnp.dtype(dtype)
        self.config = config
        self.image_px = config.image_px
        self.patch_px = config.patch_px
        self.embed_dim = config.embed_dim
        self.mean, self.std = _read_normalisation(directory, config.family)
        self.vision_params, self.text_params = params["vision"], params.get("text")
        self.logit_scale = _read_scale(directory, params)
        self.logit_bias = _scalar(params.get("logit_bias", 0.0))
        self._vision = VisionTower(config, self.dtype)
        self._encode_images = jax.jit(self._vision.apply)
        self._dense = jax.jit(functools.partial(read_out, self._vision), static_argnums=2)
        if config.text is not None:
            self._encode_ids = jax.jit(_at_full_precision(TextTower(config).apply))

    @functools.cached_property
    def digest(self) -> str:
        """sha256 hex digest over the config and the weight files."""
        digest = hashlib.sha256()
        for path in (
            self.directory / find_config_file(self.directory),
            *weight_files(self.directory),
        ):
            with open(path, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()

    @functools.cached_property
    def _tokenize(self) -> Encode:
        if self.config.text is None:
            raise CheckpointError(
                f"{self.directory}: the checkpoint has no text tower for class names; give a "
                "directory with both towers."
            )
        return load_tokenizer(self.directory, self.config)

    def encode_images(self, pixels: np.ndarray | jax.Array) -> jax.Array:
        """Encode normalised pixels float32 (B, Hpx, Wpx, 3) to (B, E), projected."""
        return self._encode_images({"params": self.vision_params}, pixels)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Encode texts to float32 (C, E), projected.

        Raises:
          CheckpointError: the text tower or the tokenizer files are missing.
        """
        ids = self._tokenize(list(texts))
        rows = []
        for start in range(0, len(ids), _TEXT_BATCH):
            part = ids[start : start + _TEXT_BATCH]
            # Padding to one shape avoids a compilation for each number of texts.
            padded = np.concatenate([part, np.repeat(part[-1:], _TEXT_BATCH - len(part), axis=0)])
            out = self._encode_ids({"params": self.text_params}, padded)
            rows.append(np.asarray(out)[: len(part)])
        return np.concatenate(rows) if rows else np.zeros((0, self.embed_dim), np.float32)

    def dense(self, pixels: np.ndarray | jax.Array, readout: str = "maskclip") -> jax.Array:
        """Embed every patch of normalised pixels (B, Hpx, Wpx, 3): (B, h, w, E)."""
        return self._dense(self.vision_params, pixels, readout)


def load_teacher(directory: str | Path, dtype: Any = None) -> Teacher:
    """Load a frozen CLIP or SigLIP from a directory in Hugging Face's or OpenCLIP's format.

    Args:
      directory: directory with config.json and model.safetensors (or shards with their index), or
        with open_clip_config.json and open_clip_model.safetensors, and with the tokenizer files
        for class names. "playground" is the small CLIP that ships with the package. See
        docs/teachers.md.
      dtype: dtype of the vision tower's matrix products; None for bfloat16 on an accelerator and
        float32 on a CPU.

    Raises:
      CheckpointError: a file is missing, damaged or not supported.
    """
    path = SHIPPED if str(directory) == "playground" else Path(directory)
    config = read_config(path)
    if dtype is None:
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return Teacher(path, config, read_params(path, config), dtype)


def _scalar(value: Any) -> float:
    return np.asarray(value).item()


def _read_scale(directory: Path, params: dict[str, Any]) -> float:
    exponent = _scalar(params.get("logit_scale", np.log(100.0)))
    if not abs(exponent) < _MAX_EXPONENT:
        raise CheckpointError(
            f"{directory}: logit_scale is {exponent:.3g}, the logarithm of a scale that float32 "
            "cannot hold; fetch the weights again."
        )
    return float(np.exp(exponent))


def _at_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    # An accelerator multiplies float32 matrices with a mantissa of 8 or 11 bits by default.
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return precise


def _read_normalisation(
    directory: Path, family: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = (CLIP_MEAN, CLIP_STD) if family == "clip" else (SIGLIP_MEAN, SIGLIP_STD)
    names = {
        "preprocessor_config.json": ("image_mean", "image_std"),
        OPEN_CLIP: ("mean", "std"),
    }
    for name, fields in names.items():
        path = directory / name
        if not path.is_file():
            continue
        raw = read_object(path)
        raw = raw.get("preprocess_cfg", raw)
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path}: preprocess_cfg is {raw!r}; it must be an object.")
        found = [raw.get(field, usual) for field, usual in zip(fields, (mean, std), strict=True)]
        for field, values in zip(fields, found, strict=True):
            if not _is_colour(values) or (field.endswith("std") and min(values) <= 0):
                raise CheckpointError(f"{path}: {field} is {values!r}; give three numbers.")
        return tuple(found[0]), tuple(found[1])
    return mean, std


def _is_colour(values: Any) -> bool:
    if not isinstance(values, list | tuple) or len(values) != 3:
        return False
    return all(type(v) in (int, float) and np.isfinite(v) for v in values)
