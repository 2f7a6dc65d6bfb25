"""Encoding of batches of grid views with the teacher (ZeroSeg, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.towers import VisionTower

Array = jax.Array
EncodeViews = Callable[[np.ndarray], Array]
# Memory of the float32 scores of one forward pass: larger passes leave VMEM on a TPU.
_SCORE_BYTES = 128 * 2**20


def build_encoder(teacher: Teacher, devices: Sequence[jax.Device] | None = None) -> EncodeViews:
    """Build a function that encodes all views of a batch on all devices, in one compiled call.

    Args:
      teacher: teacher that encodes the views.
      devices: devices of this host; None for the first one. Parameters are replicated. Views are
        split over the largest number of devices that divides both their number and that of the
        devices.

    Returns:
      A function from views uint8 (B, V, px, px, 3), px the teacher's input side, to float32
      (B, V, E), projected and not normalised. It returns before the devices are done.
    """
    devices = list(devices or jax.local_devices()[:1])
    placed: dict[int, tuple[NamedSharding, dict, Callable[..., Array]]] = {}

    def place(count: int) -> tuple[NamedSharding, dict, Callable[..., Array]]:
        if count not in placed:
            mesh = Mesh(np.array(devices[:count]), ("views",))
            params = jax.device_put(teacher.vision_params, NamedSharding(mesh, PartitionSpec()))
            split = NamedSharding(mesh, PartitionSpec("views"))
            placed[count] = split, params, encode_on(teacher, mesh)
        return placed[count]

    def encode_views(views: np.ndarray) -> jax.Array:
        b, v, height, width, channels = views.shape
        split, params, encode = place(math.gcd(b * v, len(devices)))
        flat = jax.device_put(views.reshape(b * v, height, width, channels), split)
        return encode(params, flat).reshape(b, v, -1)

    return encode_views


def encode_on(
    teacher: Teacher, mesh: Mesh, score_bytes: int = _SCORE_BYTES
) -> Callable[..., Array]:
    """Return the jitted encode(params, views): uint8 (n, px, px, 3) to float32 (n, E).

    Args:
      teacher: teacher that encodes; its parameters are not used.
      mesh: devices that share the views, with the one axis "views".
      score_bytes: memory of the scores of one pass, see count_piece.
    """
    mean, std = np.array(teacher.mean, np.float32), np.array(teacher.std, np.float32)
    # The kernel keeps its scores on the chip, and CPUs and GPUs gain nothing from pieces.
    whole = mesh.devices.flat[0].platform != "tpu" or teacher.tower.core != "xla"

    # Pixels are transferred as bytes and normalised on the device: a quarter of the traffic.
    def encode(params: dict[str, Any], views: Array) -> Array:
        bound = teacher.tower.bind({"params": params})
        return bound((views.astype(jnp.float32) / 255 - mean) / std).astype(jnp.float32)

    def encode_in_pieces(params: dict[str, Any], views: Array) -> Array:
        piece = len(views) if whole else count_piece(teacher.tower, len(views), score_bytes)
        if piece == len(views):
            return encode(params, views)
        pieces = views.reshape(-1, piece, *views.shape[1:])
        features = jax.lax.map(lambda part: encode(params, part), pieces)
        return features.reshape(len(views), -1)

    rows = PartitionSpec("views")
    return jax.jit(
        jax.shard_map(
            encode_in_pieces,
            mesh=mesh,
            in_specs=(PartitionSpec(), rows),
            out_specs=rows,
            check_vma=False,
        )
    )


def count_piece(tower: VisionTower, views: int, score_bytes: int) -> int:
    """Return the number of views of one forward pass: the largest divisor of `views` that fits.

    A pass over more views than _SCORE_BYTES of float32 scores was 1.4 times slower, by the
    compiler's cycles for a v5e; see docs/performance.md.
    """
    config = tower.config
    tokens = tower.first_patch + (config.image_px // config.patch_px) ** 2
    most = max(1, score_bytes // (4 * config.vision.heads * tokens**2))
    return max(n for n in range(1, min(views, most) + 1) if views % n == 0)
