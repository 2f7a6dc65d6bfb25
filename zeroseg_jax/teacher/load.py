"""The teacher: a frozen CLIP, SigLIP, TIPSv2 or DINO by name, to encode images and texts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.models.fused_attention import choose_core
from zeroseg_jax.teacher import hub, model_names
from zeroseg_jax.teacher.checkpoints.config import (
    OPEN_CLIP,
    CheckpointError,
    find_config_file,
    read_config,
    read_object,
)
from zeroseg_jax.teacher.checkpoints.tensors import read_params, weight_files
from zeroseg_jax.teacher.model_names import Located
from zeroseg_jax.teacher.programs import Program
from zeroseg_jax.teacher.readouts import Affinity, read_out
from zeroseg_jax.teacher.tokenizer import Encode, load_tokenizer
from zeroseg_jax.teacher.towers import (
    FAMILIES,
    ClipConfig,
    TextTower,
    VisionTower,
    find_ends,
)

SHIPPED = Path(__file__).parent.parent / "assets" / "clip"
_TEXT_BATCH = 64
# Lengths in tokens to which texts are cut, the shortest that fits; few, because each is compiled.
_TEXT_LENGTHS = (16, 32)
_MAX_EXPONENT = 88.0


class Teacher:
    """A frozen CLIP, SigLIP, TIPSv2 or DINO.

    Attributes:
      directory: directory of the checkpoint.
      name: alias, Hub name or path by which it was loaded.
      pinned: "hf:owner/name@COMMIT", which names the same bytes everywhere; "" for a local
        directory.
      config: settings of both towers.
      image_px, patch_px: sides of the square input and of a patch.
      embed_dim: width E of the projected features.
      mean, std: normalisation of RGB in [0, 1].
      logit_scale: exp of the learned scale; 1 / temperature of TIPSv2.
      logit_bias: learned bias of SigLIP's scaled cosines; 0 for CLIP, which has none.
      dtype: dtype of the vision tower's matrix products; the text tower runs in float32.
      digest: sha256 over the config and the weight files.
      tower: module of the vision tower.
      vision_params, text_params: parameters of the towers; None for a missing text tower.
    """

    def __init__(
        self,
        directory: Path,
        config: ClipConfig,
        params: dict[str, Any],
        dtype: Any = jnp.float32,
        *,
        name: str = "",
        pinned: str = "",
        attention: str = "auto",
    ):
        self.directory = directory
        self.name, self.pinned = name or str(directory), pinned
        self.dtype = jnp.dtype(dtype)
        self.config = config
        self.image_px = config.image_px
        self.patch_px = config.patch_px
        self.embed_dim = config.embed_dim
        self.mean, self.std = read_normalisation(directory, config.family)
        self.vision_params, self.text_params = params["vision"], params.get("text")
        self.logit_scale = _read_scale(directory, config, params)
        self.logit_bias = _scalar(params.get("logit_bias", 0.0))
        core = choose_core(attention, jax.default_backend(), self.dtype)
        self.tower = VisionTower(config, self.dtype, core)
        self._encode_images = jax.jit(self.tower.apply)
        self._features = jax.jit(
            lambda params, pixels: self.tower.bind({"params": params}).features(pixels)
        )
        self._dense = jax.jit(functools.partial(read_out, self.tower), static_argnums=2)
        if config.text is not None:
            self._encode_ids = Program(
                _at_full_precision(TextTower(config).apply), about=repr(config)
            )

    @functools.cached_property
    def digest(self) -> str:
        """sha256 hex digest over the config and the weight files; kept beside fetched weights."""
        if kept := hub.read_digest(self.directory):
            return kept
        digest = hashlib.sha256()
        for path in (
            self.directory / find_config_file(self.directory),
            *weight_files(self.directory),
        ):
            with open(path, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        hub.store_digest(self.directory, digest.hexdigest())
        return digest.hexdigest()

    @functools.cached_property
    def _tokenize(self) -> Encode:
        if self.config.text is None:
            raise CheckpointError(
                f"{self.name}: the checkpoint has no text tower for class names; give a model "
                "with both towers."
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
        lengths = self._used_lengths(ids)
        rows = np.zeros((len(ids), self.embed_dim), np.float32)
        # Texts of about one length go together, so that few batches are long.
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(ids), _TEXT_BATCH):
            at = order[start : start + _TEXT_BATCH]
            part = ids[at, : _round_length(lengths[at[-1]], ids.shape[1])]
            # Padding to one shape avoids a compilation for each number of texts.
            padded = np.concatenate([part, np.repeat(part[-1:], _TEXT_BATCH - len(part), axis=0)])
            out = self._encode_ids({"params": self.text_params}, padded)
            rows[at] = np.asarray(out)[: len(part)]
        return rows

    def _used_lengths(self, ids: np.ndarray) -> np.ndarray:
        """Return how many tokens of each row matter: in causal towers those up to its end token."""
        if not FAMILIES[self.config.family].causal or not len(ids):
            return np.full(len(ids), ids.shape[1])
        return np.argmax(find_ends(ids, self.config), axis=1) + 1

    def features(self, pixels: np.ndarray | jax.Array) -> jax.Array:
        """Return patch tokens after the final norm, not projected.

        Args:
          pixels: normalised pixels, float32 (B, Hpx, Wpx, 3).

        Returns:
          float32 (B, h, w, D), D the width of the vision tower.
        """
        return self._features(self.vision_params, pixels).astype(jnp.float32)

    def dense(
        self,
        pixels: np.ndarray | jax.Array,
        readout: str = "maskclip",
        affinity: Teacher | None = None,
    ) -> jax.Array:
        """Embed every patch of pixels (B, Hpx, Wpx, 3), normalised for this teacher: (B, h, w, E).

        Args:
          pixels: see readouts.read_out.
          readout: name in READOUTS.
          affinity: second tower, for proxy alone.
        """
        second = None if affinity is None else affinity.lend_affinity(self.mean, self.std)
        return self._dense(self.vision_params, pixels, readout, second)

    def lend_affinity(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Affinity:
        """Return this vision tower as the second tower of read-out proxy.

        Args:
          mean, std: normalisation of the pixels that the first tower gets.
        """
        triples = list(zip(self.mean, self.std, mean, std, strict=True))
        return Affinity(
            params=self.vision_params,
            tower=self.tower,
            mean=tuple((own - other) / scale for own, _, other, scale in triples),
            std=tuple(own / other for _, own, _, other in triples),
        )


def load_teacher(
    name: str | Path | Located,
    dtype: Any = None,
    attention: str = "auto",
    *,
    field: str = "teacher.directory",
) -> Teacher:
    """Load a frozen CLIP, SigLIP, TIPSv2 or DINO by name.

    Args:
      name: directory with config.json and model.safetensors (or shards with their index), or with
        open_clip_config.json and open_clip_model.safetensors, and with the tokenizer files for
        class names; an alias such as "clip-b16" or "hf:owner/name@revision", which is fetched once;
        or "playground", the small CLIP that ships with the package. See docs/teachers.md. A model
        that was located already keeps its name and its commit.
      dtype: dtype of the vision tower's matrix products; None for bfloat16 on an accelerator and
        float32 on a CPU.
      attention: value of run.attention for the vision tower.
      field: flag or setting that holds the name, for errors.

    Raises:
      CheckpointError: a file is missing, damaged or not supported.
      HubError: the name is unknown, or its files cannot be fetched.
    """
    located = name if isinstance(name, Located) else find_teacher(name, field=field)
    config = read_config(located.directory)
    if dtype is None:
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    params = read_params(located.directory, config)
    return Teacher(
        located.directory,
        config,
        params,
        dtype,
        name=located.name,
        pinned=located.pinned,
        attention=attention,
    )


def find_teacher(name: str | Path, *, field: str = "teacher.directory") -> Located:
    """Find a teacher by name, and fetch it if it is not here yet.

    Args:
      name: as in load_teacher.
      field: flag or setting that holds the name, for errors.

    Raises:
      HubError: the name is unknown, or its files cannot be fetched.
      CheckpointError: the name is of two models.
    """
    if str(name) == "playground":
        return Located(SHIPPED, "playground")
    located = model_names.resolve(name, field=field)
    if located.affinity is not None:
        raise CheckpointError(
            f"{field}: {name} names two models; give the CLIP here and the other as "
            "teacher.affinity."
        )
    return located


def pin_teachers(config: Config) -> Config:
    """Name the commits of teacher.directory and teacher.affinity, for manifests and exports.

    Raises:
      HubError: a name is unknown, or its commit cannot be fetched.
    """
    directory = model_names.pin(config.teacher.directory, field="teacher.directory")
    affinity = model_names.pin(config.teacher.affinity, field="teacher.affinity")
    teacher = dataclasses.replace(config.teacher, directory=directory, affinity=affinity)
    return dataclasses.replace(config, teacher=teacher)


def _scalar(value: Any) -> float:
    return np.asarray(value).item()


def _round_length(length: int, context: int) -> int:
    """Return the shortest of _TEXT_LENGTHS that holds `length` tokens, else the whole context."""
    return next((bucket for bucket in _TEXT_LENGTHS if length <= bucket < context), context)


def _read_scale(directory: Path, config: ClipConfig, params: dict[str, Any]) -> float:
    if config.temperature:
        temperature = _scalar(params.get("temperature", config.temperature))
        if not temperature > 1 / np.finfo(np.float32).max:
            raise CheckpointError(
                f"{directory}: temperature is {temperature:.3g}; it must be positive; fetch the "
                "weights again."
            )
        return 1 / temperature
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


def read_normalisation(directory: Path, family: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read the mean and deviation of the pixels, (R, G, B) each.

    Args:
      directory: directory of a checkpoint; without a record of them, those of the family.
      family: key of FAMILIES.

    Raises:
      CheckpointError: a record that is damaged; names it.
    """
    mean, std = FAMILIES[family].mean, FAMILIES[family].std
    names = {
        "preprocessor_config.json": ("image_mean", "image_std"),
        OPEN_CLIP: ("mean", "std"),
    }
    for name, fields in names.items():
        path = directory / name
        if not path.is_file():
            continue
        raw = read_object(path)
        if raw.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
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
