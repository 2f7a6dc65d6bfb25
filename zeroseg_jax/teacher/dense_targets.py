"""Dense targets of loss.dense: the teacher's read-out at every patch of the student.

The second stage of `prepare` for ZeroSeg. Each training square of the bank is read out at its own
size, by any read-out of readouts.py, and resampled to the student's grid of patches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank
from zeroseg_jax.data.records import encode_dense
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.second_stage import embed_patches, write_records


def describe_dense(config: Config) -> dict[str, Any]:
    """Return the settings that dense targets depend on, by their names in a manifest."""
    return {
        "readout": config.teacher.readout,
        "affinity": config.teacher.affinity,
        "image_px": config.model.image_px,
        "grid": config.model.image_px // config.model.encoder.patch_px,
        "dtype": config.teacher.dtype,
    }


def check_grid(config: Config, patch_px: int) -> None:
    """Refuse a training square that is no multiple of the teacher's patch.

    Args:
      config: side of the training square.
      patch_px: side of a patch of the teacher, or of the affinity tower.

    Raises:
      ValueError: as above.
    """
    if config.model.image_px % patch_px:
        raise ValueError(
            f"model.image_px: {config.model.image_px} is not a multiple of the patch of {patch_px} "
            "px that loss.dense reads; change it or the teacher, or set loss.dense=0."
        )


def prepare_dense(
    config: Config,
    directory: Path,
    clip: Teacher,
    log: Callable[[str], None] = print,
    *,
    host_index: int = 0,
    host_count: int = 1,
) -> bool:
    """Write the dense targets of a finished bank, or resume if interrupted.

    Args:
      config: settings of the read-out and of the student's patches.
      directory: directory of the bank.
      clip: teacher that encoded the bank.
      log: receiver of progress lines.
      host_index, host_count: index and number of hosts, see encode_bank.prepare_bank.

    Returns:
      True when complete; False while other hosts are not done.

    Raises:
      ValueError: the bank is not finished, the folder has targets of other settings, the training
        square does not fit the patches, or a target overflows the bank's dtype.
    """
    images = bank.BankSource(directory)
    settings = {"teacher": clip.digest, **describe_dense(config)}
    affinity = None
    if config.teacher.affinity:
        affinity = load_teacher(config.teacher.affinity, field="teacher.affinity")
        settings["affinity_digest"] = affinity.digest
    check_grid(config, (affinity or clip).patch_px)

    def encode(rows: range) -> list[bytes]:
        items = [images[i] for i in rows]
        squares = np.stack([item["image"] for item in items])
        tokens = embed_patches(clip, squares, config.teacher.readout, affinity)
        targets = resample(tokens, settings["grid"])
        with np.errstate(over="ignore"):  # refused by name below
            small = targets.astype(config.teacher.dtype)
        for item, target, stored in zip(items, targets, small, strict=True):
            if np.isfinite(target).all() and not np.isfinite(stored).all():
                raise ValueError(
                    f"{item['name']}: a dense target of {np.abs(target).max():.3g} overflows "
                    f"{config.teacher.dtype}; set teacher.dtype=float32."
                )
        return [
            encode_dense(item["name"], stored) for item, stored in zip(items, small, strict=True)
        ]

    return write_records(
        directory, bank.DENSE_FOLDER, settings, encode, log,
        name="dense targets", host_index=host_index, host_count=host_count,
    )  # fmt: skip


def resample(tokens: np.ndarray, grid: int) -> np.ndarray:
    """Resample dense tokens to the student's patches, bilinear and antialiased.

    Args:
      tokens: float32 (B, h, w, E).
      grid: patches along a side of the student's square.

    Returns:
      float32 (B, grid * grid, E); the values of `tokens` where its grid is the same.
    """
    batch, height, width, embed = tokens.shape
    if (height, width) != (grid, grid):
        shape = (batch, grid, grid, embed)
        tokens = np.asarray(jax.image.resize(tokens, shape, "linear", antialias=True))
    return tokens.reshape(batch, grid * grid, embed)
