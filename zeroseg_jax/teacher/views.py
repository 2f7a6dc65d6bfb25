"""Grid views of images to a bank of teacher features (ZeroSeg, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zeroseg_jax.teacher.clip import VisionTower
from zeroseg_jax.teacher.load import Teacher

EncodeViews = Callable[[np.ndarray], jax.Array]


def build_encoder(teacher: Teacher, devices: Sequence[jax.Device] | None = None) -> EncodeViews:
    """Build what encodes every view of a batch in one forward pass, across devices.

    Args:
      teacher: the frozen CLIP.
      devices: of this host; None for its first. Views are split among as many of them as
        divide their number; each holds the parameters.

    Returns:
      A function from views uint8 (B, V, px, px, 3), px the teacher's input side, to float32
      (B, V, E), projected and not normalised. It returns before the devices are done.
    """
    devices = list(devices or jax.local_devices()[:1])
    tower = VisionTower(teacher.config, teacher.dtype)
    mean, std = np.float32(teacher.mean), np.float32(teacher.std)
    placed: dict[int, tuple[NamedSharding, dict]] = {}

    # Bytes go to the device and become floats there: a quarter of the traffic.
    @jax.jit
    def encode(params, views):
        features = tower.apply({"params": params}, (views.astype(jnp.float32) / 255 - mean) / std)
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
