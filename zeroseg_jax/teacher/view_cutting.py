"""Grid views cut on the device: crops and bicubic resizes of an image's square as matrix products.

The square of an image crosses to the device once, as bytes. A view is two products: its columns,
then its rows, with Pillow's bicubic weights. Pillow computes in fixed point and rounds to bytes
after each product. So does this module, and the views are the host's, bit for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from zeroseg_jax.config.relations import LARGEST_DEVICE_GRID
from zeroseg_jax.data.views import Window

Array = jax.Array
# Squares of a batch are padded to a multiple of this side: few shapes are compiled.
_SIDE_STEP = 128
_SUPPORT = 2  # of the cubic filter, in pixels of the larger of the two resolutions
_FRACTION_BITS = 22  # of Pillow's weights


class Squares(NamedTuple):
    """Squares of a batch of B images, and the weights that cut their views.

    Attributes:
      pixels: uint8 (B, S, S, 3), each square in the upper left corner.
      first: int32 (B, I, px), first pixel that counts for each output pixel of each interval.
      weights: int32 (B, I, px, K), weights of that pixel and the next ones, times 2**22.
    """

    pixels: np.ndarray
    first: np.ndarray
    weights: np.ndarray


def choose_cut(cut: str, grids: Sequence[int], platform: str) -> bool:
    """Return whether views are cut on the device.

    Args:
      cut: value of teacher.cut.
      grids: value of teacher.grids.
      platform: platform of the devices; "auto" cuts on the host where it is "cpu".
    """
    return cut == "device" or (
        cut == "auto" and platform != "cpu" and max(grids) <= LARGEST_DEVICE_GRID
    )


def stack_squares(
    squares: Sequence[np.ndarray], windows: Sequence[Window], size_px: int, count: int
) -> Squares:
    """Stack squares of different sides for cut_on.

    Args:
      squares: uint8 (side, side, 3) each, at least one, from transforms.square_for_views.
      windows: windows of the views; see data/views.py.
      size_px: side of a view.
      count: number B of rows, at least len(squares); the last square fills the rest.
    """
    spans, _ = _list_spans(windows)
    sides = [len(square) for square in squares]
    most = -(-max(sides) // _SIDE_STEP) * _SIDE_STEP
    longest = max(stop - start for start, stop in spans) * most
    taps = 2 * math.ceil(_SUPPORT * max(longest / size_px, 1)) + 1
    found = Squares(
        np.zeros((count, most, most, 3), np.uint8),
        np.zeros((count, len(spans), size_px), np.int32),
        np.zeros((count, len(spans), size_px, taps), np.int32),
    )
    for row, square in enumerate(squares):
        side = len(square)
        found.pixels[row, :side, :side] = square
        for i, span in enumerate(spans):
            # Rounded like the edges of transforms.cut_views.
            start, stop = (int(np.rint(edge * side)) for edge in span)
            first, weights = _weigh(stop - start, size_px)
            found.first[row, i] = first + start
            found.weights[row, i, :, : weights.shape[1]] = weights
    for part in found:
        part[len(squares) :] = part[len(squares) - 1]
    return found


def cut_on(windows: Sequence[Window], size_px: int, mesh: Mesh) -> Callable[..., Array]:
    """Return the jitted cut(*Squares) that cuts and resizes the views: uint8 (B, V, px, px, 3).

    Args:
      windows: windows of the V views; see data/views.py.
      size_px: side of a view.
      mesh: devices that share the images, with the one axis "views".

    Source: ZeroSeg, multi-scale views; the filter is Pillow's.
    """
    _, places = _list_spans(windows)
    grids = _find_grids(places)
    cut = [(row, column) for rows, columns in grids for row in rows for column in columns]
    order = [cut.index(place) for place in places]
    in_order = order == list(range(len(order)))  # every grid without overlap

    def cut_one(square: Array, first: Array, weights: Array) -> Array:
        dense = _spread(first, weights, len(square))
        found = []
        for rows, columns in grids:
            narrow = _multiply("cow,hwk->chok", dense[np.array(columns)], square)
            views = _multiply("roh,chwk->rcowk", dense[np.array(rows)], narrow)
            found.append(views.reshape(-1, size_px, size_px, 3))
        views = jnp.concatenate(found)
        return views if in_order else views[np.array(order)]

    rows = PartitionSpec("views")
    return jax.jit(
        jax.shard_map(
            jax.vmap(cut_one), mesh=mesh, in_specs=(rows,) * 3, out_specs=rows, check_vma=False
        )
    )


def _list_spans(
    windows: Sequence[Window],
) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """Return the distinct intervals of windows on one axis, and (rows, columns) of each view."""
    spans: dict[tuple[float, float], int] = {}
    places = []
    for top, left, bottom, right in windows:
        rows = spans.setdefault((top, bottom), len(spans))
        places.append((rows, spans.setdefault((left, right), len(spans))))
    return list(spans), places


def _find_grids(places: list[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Return (rows, columns) of sets of views in which every row meets every column."""
    rows_of: dict[int, list[int]] = {}
    for row, column in places:
        rows_of.setdefault(column, []).append(row)
    columns_of: dict[tuple[int, ...], list[int]] = {}
    for column, rows in rows_of.items():
        columns_of.setdefault(tuple(rows), []).append(column)
    return [(list(rows), columns) for rows, columns in columns_of.items()]


@functools.lru_cache(maxsize=4096)
def _weigh(length: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Pillow's bicubic weights from `length` pixels to size_px.

    Returns:
      int64 (size_px,), first pixel of each output pixel, and int32 (size_px, K), its weights
      times 2**22.
    """
    scale = length / size_px
    stretch = max(scale, 1.0)
    centre = (np.arange(size_px) + 0.5) * scale
    first = np.maximum((centre - _SUPPORT * stretch + 0.5).astype(int), 0)
    stop = np.minimum((centre + _SUPPORT * stretch + 0.5).astype(int), length)
    at = first[:, None] + np.arange((stop - first).max())
    x = np.abs((at + 0.5 - centre[:, None]) / stretch)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0)) * (at < stop[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = weights * 2.0**_FRACTION_BITS
    return first, np.trunc(fixed + np.copysign(0.5, fixed)).astype(np.int32)


def _spread(first: Array, weights: Array, side_px: int) -> Array:
    """Return the matrices (I, px, side_px) whose rows hold `weights` from `first` on."""
    offset = jnp.arange(side_px) - first[..., None]
    dense = jnp.zeros(offset.shape, jnp.int32)
    for tap in range(weights.shape[-1]):
        dense = jnp.where(offset == tap, weights[..., tap, None], dense)
    return dense


def _multiply(form: str, weights: Array, pixels: Array) -> Array:
    """Multiply weights in fixed point with bytes, and round to bytes, exactly.

    A weight is three digits of 8 bits. Digits and bytes are exact in bfloat16, and the sums of
    their products in float32, as long as fewer than 258 weights of a row are not 0.
    """
    digits = (weights >> 16, (weights >> 8) & 255, weights & 255)
    total = jnp.zeros((), jnp.int32)
    for digit in digits:
        factors = digit.astype(jnp.bfloat16), pixels.astype(jnp.bfloat16)
        summed = jnp.einsum(form, *factors, preferred_element_type=jnp.float32)
        total = total * 256 + summed.astype(jnp.int32)
    half = 1 << (_FRACTION_BITS - 1)
    return jnp.clip((total + half) >> _FRACTION_BITS, 0, 255).astype(jnp.uint8)
