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


def build_encoder(teacher: Teacher, devices: Sequence[jax.Device] | None = None) -> EncodeViews:
    """Build a function that encodes all views of a batch in one forward pass on all devices.

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
    tower = VisionTower(teacher.config, teacher.dtype)
    mean, std = np.array(teacher.mean, np.float32), np.array(teacher.std, np.float32)
    placed: dict[int, tuple[NamedSharding, dict]] = {}

    # Pixels are transferred as bytes and normalised on the device: a quarter of the traffic.
    @jax.jit
    def encode(params: dict[str, Any], views: Array) -> Array:
        bound = tower.bind({"params": params})
        features = bound((views.astype(jnp.float32) / 255 - mean) / std)
        return features.astype(jnp.float32)

    def place(count: int) -> tuple[NamedSharding, dict]:
        if count not in placed:
            mesh = Mesh(np.array(devices[:count]), ("views",))
            params = jax.device_put(teacher.vision_params, NamedSharding(mesh, PartitionSpec()))
            placed[count] = NamedSharding(mesh, PartitionSpec("views")), params
        return placed[count]

    def encode_views(views: np.ndarray) -> jax.Array:
        b, v, height, width, channels = views.shape
        split, params = place(math.gcd(b * v, len(devices)))
        flat = jax.device_put(views.reshape(b * v, height, width, channels), split)
        return encode(params, flat).reshape(b, v, -1)

    return encode_views
