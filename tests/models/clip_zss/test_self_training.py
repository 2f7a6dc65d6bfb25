"""Self-training against NumPy: pseudo labels, their gradient, and no effect before its time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.config import ClipZssLossConfig
from zeroseg_jax.models.clip_zss import losses as zss
from zeroseg_jax.models.clip_zss import regions

N, K, U, E = 3, 2, 4, 8
CONFIG = ClipZssLossConfig(self_training_begin=0.5)
ALONE = dataclasses.replace(
    CONFIG, focal_weight=0.0, dice_weight=0.0, global_weight=0.0, prototype_weight=0.0
)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def drawn():
    """Features of one pixel a cell, class vectors, and a map of seen, latent and no ids."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(2, 4, 4, E)).astype(np.float32)
    text, unseen = (unit(rng.normal(size=(n, E))).astype(np.float32) for n in (N, U))
    fused = rng.integers(-1, N + K, (2, 4, 4))
    return dense, text, unseen, fused


def compute(config, drawn, active, *, fused=None, names=U):
    dense, text, unseen, ids = drawn
    ids = jnp.asarray(ids if fused is None else fused)
    views = jnp.ones((2, 1, E))
    teacher = zss.TeacherView(views, jnp.zeros((3, E)), text, jnp.zeros((2, 0, E)), unseen[:names])

    def loss(dense):
        members = regions.region_members(ids, 4, 4, N + K)
        means, present = regions.region_means(dense.reshape(2, 16, E), members)
        value, _ = zss.total_loss(
            dense, ids, means, present, jax.lax.stop_gradient(means), teacher, config,
            weights=jnp.ones((1, 16)), flipped=jnp.zeros(2, bool), self_train=active,
        )  # fmt: skip
        return value.sum(), value

    (_, values), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(dense)
    return np.asarray(values), np.asarray(gradient)


def test_regions_get_the_best_unseen_name(drawn):
    """Cross-entropy over seen and unseen names, pixel by pixel; -1 stays without a label."""
    dense, text, unseen, fused = drawn
    found, _ = compute(ALONE, drawn, jnp.bool_(True))
    for i in range(2):
        terms = []
        for feature, label in zip(dense[i].reshape(16, E), fused[i].ravel(), strict=True):
            if label < 0:
                continue
            cosines = unit(feature) @ np.concatenate([text, unseen]).T
            name = label if label < N else N + cosines[N:].argmax()
            logits = CONFIG.seen_scale * cosines
            terms.append(np.log(np.exp(logits).sum()) - logits[name])
        assert found[i] == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_gradient_reaches_the_pixels_of_regions(drawn):
    dense, _, unseen, _ = drawn
    latent = np.full((2, 4, 4), N)
    latent[:, 0] = -1
    values, gradient = compute(ALONE, drawn, jnp.bool_(True), fused=latent)
    assert (np.abs(gradient[:, 1:]).max(axis=-1) > 1e-6).all()
    assert not gradient[:, 0].any()  # no id, no label
    # A step down the gradient raises the chosen name's cosine.
    best = (unit(dense) @ unseen.T)[:, 1:].max(axis=-1)
    chosen = (unit(dense) @ unseen.T)[:, 1:].argmax(axis=-1)
    after = unit(dense - 0.1 * gradient) @ unseen.T
    moved = np.take_along_axis(after[:, 1:], chosen[..., None], axis=-1)[..., 0]
    assert (moved > best).all() and values.min() > 0


@pytest.mark.parametrize("latent", [True, False])
def test_before_its_time_the_loss_is_that_without(drawn, latent):
    config = dataclasses.replace(CONFIG, latent=latent)
    before = compute(config, drawn, jnp.bool_(False))
    without = compute(config, drawn, False, names=0)
    for ours, theirs in zip(before, without, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    after = compute(config, drawn, jnp.bool_(True))
    assert np.abs(after[0] - before[0]).min() > 1e-3
