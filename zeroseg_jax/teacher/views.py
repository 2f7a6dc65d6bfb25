"""Encoding of batches of grid views with the teacher (ZeroSeg, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zeroseg_jax.data.views import Window
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.towers import VisionTower
from zeroseg_jax.teacher.view_cutting import cut_on, stack_squares

Array = jax.Array
EncodeViews = Callable[[np.ndarray], Array]
EncodeSquares = Callable[[Sequence[np.ndarray], int], tuple[Array, Array | None]]
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
    placements = _Placements(teacher, devices)

    def encode_views(views: np.ndarray) -> jax.Array:
        b, v, height, width, channels = views.shape
        split, params, encode = placements.of(b * v)
        flat = jax.device_put(views.reshape(b * v, height, width, channels), split)
        return encode(params, flat).reshape(b, v, -1)

    return encode_views


def build_square_encoder(
    teacher: Teacher, windows: Sequence[Window], devices: Sequence[jax.Device] | None = None
) -> EncodeSquares:
    """Build a function that cuts, resizes and encodes the views of images on all devices.

    Cutting is a compiled call of its own, so that the teacher is compiled once for squares of every
    side.

    Args:
      teacher: teacher that encodes the views.
      windows: windows of the V views; see data/views.py.
      devices: see build_encoder; images are split over them.

    Returns:
      A function from the squares of transforms.square_for_views, and a number B of rows to which
      the last one is repeated, to float32 (B, V, E) and the first view of each, uint8
      (B, px, px, 3). It returns before the devices are done.
    """
    placements = _Placements(teacher, devices)
    cutters: dict[Mesh, Callable[..., Array]] = {}

    def encode_squares(squares: Sequence[np.ndarray], count: int) -> tuple[Array, Array | None]:
        split, params, encode = placements.of(count)
        mesh = placements.mesh(count)
        if mesh not in cutters:
            cutters[mesh] = cut_on(windows, teacher.image_px, mesh)
        stacked = stack_squares(squares, windows, teacher.image_px, count)
        views = cutters[mesh](*jax.device_put(stacked, split))
        flat = views.reshape(-1, *views.shape[2:])
        return encode(params, flat).reshape(count, len(windows), -1), views[:, 0]

    return encode_squares


def build_padded_encoder(
    teacher: Teacher, windows: Sequence[Window], devices: Sequence[jax.Device] | None = None
) -> EncodeSquares:
    """Build build_square_encoder's function for views that the host has cut.

    It takes the views of some images, uint8 (V, px, px, 3) each, and returns no first views.
    """
    del windows
    encode_views = build_encoder(teacher, devices)

    def encode(views: Sequence[np.ndarray], count: int) -> tuple[Array, None]:
        # Padding to one shape avoids a second compilation.
        return encode_views(np.stack([*views, *[views[-1]] * (count - len(views))])), None

    return encode


class _Placements:
    """The parameters and the compiled pass on as many devices as a batch can be split over."""

    def __init__(self, teacher: Teacher, devices: Sequence[jax.Device] | None):
        self._teacher, self._devices = teacher, list(devices or jax.local_devices()[:1])
        self._found: dict[int, tuple[NamedSharding, dict, Callable[..., Array]]] = {}

    def mesh(self, rows: int) -> Mesh:
        """Return the mesh of the devices that share `rows` rows."""
        count = math.gcd(rows, len(self._devices))
        return Mesh(np.array(self._devices[:count]), ("views",))

    def of(self, rows: int) -> tuple[NamedSharding, dict, Callable[..., Array]]:
        """Return the sharding of `rows` rows, the parameters, and the function of both."""
        mesh = self.mesh(rows)
        count = mesh.size
        if count not in self._found:
            whole = NamedSharding(mesh, PartitionSpec())
            params = jax.device_put(self._teacher.vision_params, whole)
            split = NamedSharding(mesh, PartitionSpec("views"))
            self._found[count] = split, params, encode_on(self._teacher, mesh)
        return self._found[count]


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
