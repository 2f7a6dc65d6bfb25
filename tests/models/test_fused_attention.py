import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from zeroseg_jax.models.fused_attention import (
    attend_fused,
    attend_library,
    choose_core,
    fits_core,
)
from zeroseg_jax.models.layers import Attention, remat_block


def draw(shape, count=4, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(count)]


def attend_by_rows(q, k, v, heads):
    """Attention in NumPy's float64, one image and one head at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    head, out = q.shape[-1] // heads, np.zeros(q.shape)
    for image in range(len(q)):
        for start in range(0, q.shape[-1], head):
            at = np.s_[image, :, start : start + head]
            scores = q[at] @ k[at].T / np.sqrt(head)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[at] = weights / weights.sum(axis=1, keepdims=True) @ v[at]
    return out


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradients(attend, heads, q, k, v, g):
    return jax.grad(lambda *rows: (attend(*rows, heads) * g).sum(), (0, 1, 2))(q, k, v)


def attend_plainly(q, k, v, heads):
    """The same formula in JAX without a kernel, for gradients."""
    head = q.shape[-1] // heads
    q, k, v = (x.reshape(*x.shape[:-1], heads, head) for x in (q, k, v))
    scores = jnp.einsum("blnd,bmnd->bnlm", q, k, precision="highest") / head**0.5
    out = jnp.einsum("bnlm,bmnd->blnd", jax.nn.softmax(scores), v, precision="highest")
    return out.reshape(*out.shape[:-2], -1)


# 600 rows are two parts of one softmax each; heads of 32, 64 and 128 share 128 lanes by 4, 2, 1.
@pytest.mark.parametrize(
    ("shape", "heads"),
    [((3, 197, 256), 4), ((1, 600, 128), 1), ((2, 130, 128), 4), ((2, 79, 128), 2)],
)
def test_kernel_is_attention(shape, heads):
    q, k, v, g = draw(shape)
    fused = jax.jit(attend_fused, static_argnums=3)
    np.testing.assert_allclose(fused(q, k, v, heads), attend_by_rows(q, k, v, heads), atol=1e-6)
    ours, theirs = (gradients(f, heads, q, k, v, g) for f in (attend_fused, attend_plainly))
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one - other).max() <= 1e-6 * np.abs(other).max()


def test_kernel_rounds_bfloat16_no_more_than_xla():
    exact = attend_by_rows(*draw((2, 197, 128), 3), 2)
    rounded = draw((2, 197, 128), 3, jnp.bfloat16)
    kernel = np.asarray(attend_fused(*rounded, 2), np.float64)
    xla = np.asarray(attend_plainly(*rounded, 2), np.float64)
    # One unit in the last place of the result is room for a sum in another order.
    assert np.abs(kernel - exact).max() <= np.abs(xla - exact).max() + 2**-8


def test_kernel_over_a_mesh_equals_one_device():
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    arrays = draw((4, 130, 256))

    @jax.jit
    def on_mesh(q, k, v, g):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return gradients(attend_fused, 4, q, k, v, g)

    split = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor"))
    found = on_mesh(*(jax.device_put(x, split) for x in arrays))
    for one, other in zip(found, gradients(attend_fused, 4, *arrays), strict=True):
        assert one.sharding.shard_shape(one.shape) == (1, 130, 128)
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(ValueError, match="3 images do not divide among 4 devices"):
        on_mesh(*draw((3, 130, 256)))


def test_module_takes_the_kernel_where_it_fits():
    x = draw((2, 130, 128), 1)[0]
    plain, fused = Attention(2), Attention(2, core="fused")
    params = jax.jit(fused.init)(jax.random.key(0), x)
    assert "pallas" in str(jax.make_jaxpr(fused.apply)(params, x))
    np.testing.assert_allclose(fused.apply(params, x), plain.apply(params, x), atol=1e-6)
    for other in ({"mask": jnp.ones((130, 130), bool)}, {"keys": x[:, :40]}):
        apply = functools.partial(fused.apply, params, x, **other)
        assert "pallas" not in str(jax.make_jaxpr(apply)())


def test_kernel_is_recomputed_under_remat():
    x = draw((1, 130, 128), 1)[0]

    def grads(remat, core):
        block = remat_block(remat)(2, core=core)
        params = jax.jit(block.init)(jax.random.key(0), x)
        return jax.jit(jax.grad(lambda params: block.apply(params, x).sum()))(params)

    plain = grads("none", "xla")
    for remat in ("full", "dots"):
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4),
            grads(remat, "fused"),
            plain,
        )


def test_kernel_lowers_to_mosaic_on_a_tpu():
    rows = draw((2, 197, 128), 3, jnp.bfloat16)
    traced = jax.jit(functools.partial(attend_fused, heads=2)).trace(*rows)
    assert "tpu_custom_call" in traced.lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize("implementation", ["xla", "cudnn"])
def test_library_attention_takes_rows_of_heads(implementation):
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        pytest.skip("cuDNN needs a GPU")
    dtype = {"xla": jnp.float32, "cudnn": jnp.bfloat16}[implementation]
    rows = draw((2, 197, 128), 3, dtype)
    found = np.asarray(attend_library(*rows, 2, implementation), np.float64)
    atol = {"xla": 1e-6, "cudnn": 2**-7}[implementation]  # one bfloat16 step at 1
    np.testing.assert_allclose(found, attend_by_rows(*rows, 2), atol=atol)


def test_choice_of_a_core():
    half, full = jnp.bfloat16, jnp.float32
    assert choose_core("auto", "tpu", full) == "fused"
    assert [choose_core("auto", "gpu", dtype) for dtype in (half, full)] == ["cudnn", "xla"]
    assert choose_core("auto", "cpu", half) == "xla"
    assert choose_core("xla", "tpu", half) == "xla"
    with pytest.raises(ValueError, match="fused runs on TPUs alone"):
        choose_core("fused", "gpu", half)
    for platform, dtype in (("gpu", full), ("cpu", half)):
        with pytest.raises(ValueError, match="cudnn needs a GPU and run.dtype=bfloat16"):
            choose_core("cudnn", platform, dtype)
    # SigLIP's heads of 72, a short row, a width that is not whole groups of 128 lanes.
    assert fits_core("fused", 197, 768, 12) and fits_core("fused", 257, 1024, 16)
    for shape in ((729, 1152, 16), (50, 768, 12), (197, 192, 3)):
        assert not fits_core("fused", *shape) and fits_core("cudnn", *shape)
