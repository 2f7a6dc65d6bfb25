"""SegFormer in training: stochastic depth and dropout, and batch norm against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from zeroseg_jax.models.clip_zss import segformer
from zeroseg_jax.models.clip_zss.segformer import MIT_SIZES, STATISTICS, BatchNorm, MixBlock

RATE = 0.5


@pytest.fixture(scope="module")
def block():
    """A block that drops, its parameters and an input of 64 images."""
    x = jax.random.normal(jax.random.key(0), (64, 4, 4, 8))
    module = MixBlock(heads=2, reduction=2, mlp_ratio=2, drop_path=RATE)
    return module, jax.jit(module.init)(jax.random.key(1), x)["params"], x


def test_rates_are_those_of_transformers():
    torch = pytest.importorskip("torch", reason="parity needs torch, see make test")
    from transformers import SegformerConfig, SegformerModel

    depths = list(MIT_SIZES["mit_b0"].depths)
    with torch.device("meta"):
        model = SegformerModel(SegformerConfig(depths=depths, drop_path_rate=0.1))
    modules = model.named_modules()
    theirs = [getattr(m, "drop_prob", 0.0) for name, m in modules if name.endswith("drop_path")]
    np.testing.assert_allclose(segformer.drop_rates(MIT_SIZES["mit_b0"], 0.1), theirs, atol=1e-7)


def test_a_dropped_branch_adds_nothing_and_the_others_twice_as_much(block):
    """At a rate of one half each image has one of four outcomes."""
    module, params, x = block
    apply = jax.jit(module.apply)
    silent = {name: jax.tree.map(jnp.zeros_like, params[name]) for name in ("out", "fc2")}

    def attend(y):
        return apply({"params": {**params, "fc2": silent["fc2"]}}, y) - y

    def expand(y):
        return apply({"params": {**params, "out": silent["out"]}}, y) - y

    outcomes = []
    for first in (0, 2):
        y = x + first * attend(x)
        outcomes += [y, y + 2 * expand(y)]
    found = apply({"params": params}, x, rngs={"drop": jax.random.key(2)})
    away = np.stack([np.abs(found - wanted).max(axis=(1, 2, 3)) for wanted in outcomes])
    assert (away.min(axis=0) < 1e-4).all()
    counts = np.bincount(away.argmin(axis=0), minlength=4)
    assert (counts > 6).all()  # 16 each on average


def test_without_a_key_nothing_is_dropped(block):
    module, params, x = block
    plain = MixBlock(heads=2, reduction=2, mlp_ratio=2)
    np.testing.assert_array_equal(
        module.apply({"params": params}, x), plain.apply({"params": params}, x)
    )


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_the_head_drops_channels_and_keeps_their_mean(remat):
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    encoder = segformer.MixTransformer(MIT_SIZES["mit_tiny"], remat=remat, drop_path=0.2)
    maps, variables = jax.jit(encoder.init_with_output)(jax.random.key(1), images)
    head = segformer.AllMlpHead(64, dropout=0.25)
    whole, params = jax.jit(head.init_with_output)(jax.random.key(2), maps)
    dropped = jax.jit(head.apply)(params, maps, rngs={"drop": jax.random.key(3)})
    gone = np.asarray((dropped == 0).all(axis=(1, 2)) & ~(whole == 0).all(axis=(1, 2)))
    assert 0.1 < gone.mean() < 0.4
    kept = np.broadcast_to(~gone[:, None, None], whole.shape)
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-6)

    # The gradient passes, and two keys give two values.
    @jax.jit
    @jax.value_and_grad
    def total(variables, key):
        return sum(y.sum() for y in encoder.apply(variables, images, rngs={"drop": key}))

    values = [total(variables, jax.random.key(k)) for k in (4, 5)]
    assert values[0][0] != values[1][0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values[0][1]))


def normalise(params, x):
    """Return BatchNorm's output in training and the parameters of the next step."""
    y, found = BatchNorm().apply({"params": params}, x, mutable=[STATISTICS])
    return y, {**params, **found[STATISTICS]}


def test_batch_norm_is_torchs_over_several_steps():
    """Outputs, running statistics and gradients; small batches, whose two variances differ."""
    torch = pytest.importorskip("torch", reason="parity needs torch, see make test")
    rng = np.random.default_rng(0)
    theirs = torch.nn.BatchNorm2d(5)
    affine = {name: rng.normal(size=5).astype(np.float32) for name in ("scale", "bias")}
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(affine["scale"]))
        theirs.bias.copy_(torch.tensor(affine["bias"]))
    params = BatchNorm().init(jax.random.key(0), jnp.zeros((1, 1, 1, 5)))["params"] | affine

    @jax.jit
    def learn(params, x, pull):
        def total(params, x):
            y, after = normalise(params, x)
            return (y * pull).sum(), (y, after)

        return jax.grad(total, argnums=(0, 1), has_aux=True)(params, x)

    close = {"rtol": 1e-5, "atol": 1e-5}
    for _ in range(4):
        x, pull = (rng.normal(2, 3, (2, 2, 3, 5)).astype(np.float32) for _ in range(2))
        given = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
        theirs.zero_grad()
        output = theirs(given)
        (output * torch.tensor(pull.transpose(0, 3, 1, 2))).sum().backward()
        (grads, grad_x), (y, params) = learn(params, x, pull)
        np.testing.assert_allclose(y, output.detach().numpy().transpose(0, 2, 3, 1), **close)
        np.testing.assert_allclose(grad_x, given.grad.numpy().transpose(0, 2, 3, 1), **close)
        np.testing.assert_allclose(grads["scale"], theirs.weight.grad.numpy(), **close)
        np.testing.assert_allclose(grads["bias"], theirs.bias.grad.numpy(), **close)
        for name in ("mean", "variance"):
            assert not grads[name].any()
        np.testing.assert_allclose(params["mean"], theirs.running_mean.numpy(), rtol=1e-6)
        np.testing.assert_allclose(params["variance"], theirs.running_var.numpy(), rtol=1e-6)
    output = theirs.eval()(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
    found = BatchNorm().apply({"params": params}, x)
    np.testing.assert_allclose(found, output.transpose(0, 2, 3, 1), **close)


def test_batch_norm_sees_the_batch_of_all_devices():
    """Each of eight devices has one image, whose mean is its own."""
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3)) + np.arange(8).reshape(8, 1, 1, 1)
    params = BatchNorm().init(jax.random.key(0), x)["params"]
    whole = normalise(params, x)
    mesh = jax.make_mesh((8,), ("data",))
    placed = jax.device_put(x, NamedSharding(mesh, P("data")))
    split = jax.jit(normalise)(params, placed)
    assert len(placed.sharding.device_set) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, split)
    np.testing.assert_allclose(split[1]["mean"], 0.1 * np.mean(x, axis=(0, 1, 2)), rtol=1e-5)
    deviation = np.var(x, axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(split[1]["variance"], 0.9 + 0.1 * deviation, rtol=1e-5)
    assert np.abs(split[0].mean(axis=(1, 2))).min() > 0.1  # no image is centred by itself


def test_batch_norm_in_bfloat16_has_statistics_in_float32():
    x = (8 + jax.random.normal(jax.random.key(0), (4, 8, 8, 3))).astype("bfloat16")
    params = BatchNorm().init(jax.random.key(0), x)["params"]
    y, after = normalise(params, x)
    assert y.dtype == x.dtype and {leaf.dtype.name for leaf in after.values()} == {"float32"}
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(after["mean"], 0.1 * exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    wanted = (exact - exact.mean(axis=(0, 1, 2))) / exact.std(axis=(0, 1, 2))
    np.testing.assert_allclose(np.asarray(y, np.float64), wanted, rtol=1e-2, atol=1e-3)
