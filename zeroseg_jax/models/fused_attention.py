"""Attention cores: XLA's, a Pallas kernel for TPUs that keeps whole rows in VMEM, and cuDNN's.

An attention core computes scores, softmax and weighted sum. In XLA's the float32 scores
(B, N, L, L) pass through HBM. In the kernel one program holds all keys of some images and of 128
lanes, that is, of two heads of 64. Its backward pass computes the scores again, so that only
queries, keys and values are stored. A head narrower than 128 lanes is selected by setting the other
lanes to zero, which costs nothing: the matrix unit pads a contraction to 128.

Letters: B images, L tokens, D width, d width of a head. Source: own; the recomputation is that of
FlashAttention (Dao et al., 2022).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Array = jax.Array
Core = Literal["xla", "fused", "cudnn"]
# Names of mesh axes that split the images, and of the one that splits the heads.
BATCH_AXES, WIDTH_AXIS = ("data", "fsdp"), "tensor"

_LANES = 128
# Compiled for v5e, a block of 79 tokens takes 2.03 ms with the kernel and 2.30 without, forward and
# backward; shorter rows were not compared.
_MIN_TOKENS, _MAX_TOKENS = 64, 2048
# Rows of queries in one softmax: bounds the float32 scores in VMEM to 2 MB at 1,025 keys.
_ROWS = 512
_CUDNN_HEAD = 128  # before Hopper; 256 since
_VMEM_BYTES = 64 * 2**20
_IMAGES_PER_PROGRAM = 4


def choose_core(wanted: str, platform: str, dtype: Any) -> Core:
    """Return the attention core of a platform.

    Args:
      wanted: value of run.attention, "auto" or a core.
      platform: "cpu", "gpu" or "tpu".
      dtype: dtype of the matrix products; cuDNN has no float32 form.

    Returns:
      "xla", "fused" or "cudnn".

    Raises:
      ValueError: a core that the platform or the dtype does not have.
    """
    half = jnp.dtype(dtype) in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))
    if wanted == "auto":
        return "fused" if platform == "tpu" else "cudnn" if platform == "gpu" and half else "xla"
    if wanted == "fused" and platform == "gpu":
        raise ValueError("run.attention: fused runs on TPUs alone; use cudnn or auto on GPUs.")
    if wanted == "cudnn" and (platform != "gpu" or not half):
        raise ValueError(
            f"run.attention: cudnn needs a GPU and run.dtype=bfloat16, not {platform} and "
            f"{jnp.dtype(dtype)}; use auto."
        )
    return cast(Core, wanted)


def fits_core(core: str, tokens: int, width: int, heads: int) -> bool:
    """Return whether a core takes rows of this shape; XLA's takes all."""
    head = width // heads
    if core == "fused":
        whole = head % _LANES == 0 or (_LANES % head == 0 and width % _LANES == 0)
        return whole and _MIN_TOKENS <= tokens <= _MAX_TOKENS
    return core == "xla" or (head % 8 == 0 and head <= _CUDNN_HEAD)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend_fused(q: Array, k: Array, v: Array, heads: int) -> Array:
    """Self-attention by the Pallas kernel; see fits_core for the shapes.

    Args:
      q, k, v: (B, L, D) of one dtype. B may be sharded, and D by whole groups of 128 lanes.
      heads: N.

    Returns:
      (B, L, D). Scores and softmax are float32; weights are rounded to the dtype of `v`.
    """
    head = q.shape[-1] // heads
    return _shard(
        functools.partial(_call, "forward", _forward_kernel, 1, 2, head), head, (q, k, v)
    )[0]


def _attend_fwd(q: Array, k: Array, v: Array, heads: int) -> tuple[Array, tuple[Array, ...]]:
    return attend_fused(q, k, v, heads), (q, k, v)


def _attend_bwd(
    heads: int, residuals: tuple[Array, ...], gradient: Array
) -> tuple[Array, Array, Array]:
    head = gradient.shape[-1] // heads
    arrays = (*residuals, gradient)
    return tuple(
        _shard(functools.partial(_call, "backward", _backward_kernel, 3, 5, head), head, arrays)
    )


attend_fused.defvjp(_attend_fwd, _attend_bwd)


def attend_library(
    q: Array, k: Array, v: Array, heads: int, implementation: Literal["cudnn", "xla"] = "cudnn"
) -> Array:
    """Self-attention by jax.nn, q, k, v (B, L, D); cuDNN needs bfloat16 or float16: (B, L, D)."""
    rows = [x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads) for x in (q, k, v)]
    return jax.nn.dot_product_attention(*rows, implementation=implementation).reshape(q.shape)


def _forward_kernel(q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any, *, head: int) -> None:
    for image in range(q_ref.shape[0]):
        k, v = k_ref[image], v_ref[image]
        for rows in _split_rows(q_ref.shape[1]):
            q = q_ref[image, rows]
            out = jnp.zeros(q.shape, jnp.float32)
            for lanes in _split_lanes(q.shape[-1], head):
                weights = _softmax(q, k, lanes, head).astype(v.dtype)
                out = jnp.where(lanes, _dot(weights, v, 1, 0), out)
            out_ref[image, rows] = out.astype(out_ref.dtype)


def _backward_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, g_ref: Any, dq_ref: Any, dk_ref: Any, dv_ref: Any, *,
    head: int,
) -> None:  # fmt: skip
    for image in range(q_ref.shape[0]):
        k, v = k_ref[image], v_ref[image]
        dk = dv = jnp.zeros(k.shape, jnp.float32)
        for rows in _split_rows(q_ref.shape[1]):
            q, g = q_ref[image, rows], g_ref[image, rows]
            dq = jnp.zeros(q.shape, jnp.float32)
            for lanes in _split_lanes(q.shape[-1], head):
                weights = _softmax(q, k, lanes, head)
                inner = _dot(jnp.where(lanes, g, jnp.zeros_like(g)), v, 1, 1)
                mean = jnp.sum(weights * inner, axis=-1, keepdims=True)
                scores = (weights * (inner - mean) * head**-0.5).astype(q.dtype)
                dv = jnp.where(lanes, dv + _dot(weights.astype(v.dtype), g, 0, 0), dv)
                dk = jnp.where(lanes, dk + _dot(scores, q, 0, 0), dk)
                dq = jnp.where(lanes, _dot(scores, k, 1, 0), dq)
            dq_ref[image, rows] = dq.astype(dq_ref.dtype)
        dk_ref[image], dv_ref[image] = dk.astype(dk_ref.dtype), dv.astype(dv_ref.dtype)


def _softmax(q: Array, k: Array, lanes: Array, head: int) -> Array:
    """Return the float32 weights (rows, L) of the head whose lanes are True."""
    scores = _dot(jnp.where(lanes, q, jnp.zeros_like(q)), k, 1, 1) * head**-0.5
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _dot(a: Array, b: Array, of_a: int, of_b: int) -> Array:
    """Contract axis `of_a` of a with axis `of_b` of b, with a float32 sum."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((of_a,), (of_b,)), ((), ()))
    return jax.lax.dot_general(
        a, b, dimensions, preferred_element_type=jnp.float32, precision=precision
    )


def _split_rows(length: int) -> list[slice]:
    """Cut the rows into parts of equal size, at most _ROWS, that begin at multiples of 8."""
    parts = -(-length // _ROWS)
    size = -(-length // (8 * parts)) * 8
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _split_lanes(width: int, head: int) -> list[Array]:
    """Return one mask (1, width) per head of a group of lanes."""
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)
    return [(lane >= start) & (lane < start + head) for start in range(0, width, head)]


def _call(
    name: str, kernel: Callable[..., None], outputs: int, products: int, head: int, *arrays: Array
) -> Any:
    """Run a kernel over images and groups of lanes; `products` of L x L x d belong to a head."""
    # Imported late: it takes 0.2 s, and only TPUs need it.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    images, length, width = arrays[0].shape
    lanes = max(head, _LANES)
    most = max(1, _IMAGES_PER_PROGRAM * 256 // length)
    together = max(n for n in range(1, min(images, most) + 1) if images % n == 0)
    block = pl.BlockSpec((together, length, lanes), lambda i, g: (i, 0, g))
    shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
    call = functools.partial(
        pl.pallas_call,
        functools.partial(kernel, head=head),
        grid=(images // together, width // lanes),
        in_specs=[block] * len(arrays),
        out_specs=[block] * outputs,
        out_shape=[shape] * outputs,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=_VMEM_BYTES
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * images * width * length**2,
            transcendentals=images * (width // head) * length**2,
            bytes_accessed=(len(arrays) + outputs) * arrays[0].size * arrays[0].dtype.itemsize,
        ),
        name=f"attention_{name}_d{head}",
    )
    # Interpreted on a CPU, for tests. The platform is that of the lowering, not of this machine:
    # a plan compiles for TPUs on a CPU.
    return jax.lax.platform_dependent(*arrays, cpu=call(interpret=True), default=call())


def _shard(call: Callable[..., Any], head: int, arrays: tuple[Array, ...]) -> Any:
    """Run `call` on each device's images and lanes: XLA cannot split a kernel by itself.

    The mesh is that of jax.sharding.use_abstract_mesh around the caller. Without one, and inside
    jax.shard_map, `call` runs on the arrays as they are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    images = tuple(axis for axis in mesh.axis_names if axis in BATCH_AXES)
    if not images:
        return call(*arrays)
    parts = math.prod(mesh.shape[axis] for axis in images)
    if arrays[0].shape[0] % parts:
        raise ValueError(
            f"attention: {arrays[0].shape[0]} images do not divide among {parts} devices; use a "
            "multiple."
        )
    tensor = mesh.shape.get(WIDTH_AXIS, 1)
    split_width = tensor > 1 and arrays[0].shape[-1] % (tensor * max(head, _LANES)) == 0
    spec = PartitionSpec(images, None, WIDTH_AXIS if split_width else None)
    return jax.shard_map(call, in_specs=spec, out_specs=spec, check_vma=False)(*arrays)
