"""The losses of CLIP-ZSS against plain numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.config import ClipZssLossConfig
from zeroseg_jax.models.clip_zss import losses as zss
from zeroseg_jax.models.clip_zss import regions

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_global_attention_and_infonce_with_a_bank_half_full():
    dense, token, bank = draw(3, 5, 8), draw(3, 8), draw(4, 8)
    bank[2:] = 0
    found = zss.attend_globally(dense, token[:, None], jnp.ones((1, 5)))[:, 0]
    loss = zss.global_loss(found[:, None], token[:, None], bank, 0.07)
    for i in range(3):
        scores = dense[i] @ token[i] / np.sqrt(8)
        weights = np.exp(scores - scores.max())
        wanted = (weights / weights.sum()) @ dense[i]
        np.testing.assert_allclose(found[i], wanted, rtol=1e-5, atol=1e-6)
        keys = np.concatenate([token, bank[:2]])
        logits = unit(wanted) @ unit(keys).T / 0.07
        expected = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[i]
        np.testing.assert_allclose(loss[i], expected, rtol=1e-4)


def test_a_view_looks_at_its_own_cells_and_every_other_view_is_a_negative():
    dense, views, bank = draw(2, 6, 8), draw(2, 3, 8), draw(4, 8)
    shares = np.zeros((3, 6), np.float32)
    shares[0], shares[1, 2], shares[2, 3:5] = 1, 0.3, (1.0, 0.5)
    found = np.asarray(zss.attend_globally(dense, views, jnp.asarray(shares)))
    # One cell inside: that cell, however little of it.
    np.testing.assert_allclose(found[:, 1], dense[:, 2], rtol=1e-6)
    scores = np.exp(dense[:, 3:5] @ views[:, 2, :, None] / np.sqrt(8))[..., 0] * (1.0, 0.5)
    mixed = np.einsum("bp,bpe->be", scores / scores.sum(axis=1, keepdims=True), dense[:, 3:5])
    np.testing.assert_allclose(found[:, 2], mixed, rtol=1e-5)
    loss = zss.global_loss(jnp.asarray(found), views, bank, 0.07)
    keys = np.concatenate([unit(views).reshape(6, 8), unit(bank)])
    logits = unit(found).reshape(6, 8) @ keys.T / 0.07
    terms = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(loss, terms.reshape(2, 3).mean(axis=1), rtol=1e-4)


def test_the_bank_is_first_in_first_out():
    bank = jnp.zeros((4, 2))
    for step in range(3):
        bank = zss.push_bank(bank, jnp.full((2, 2), step + 1.0))
    assert bank[:, 0].tolist() == [3, 3, 2, 2]
    # More at once than fit: the first rows of the batch stay.
    assert zss.push_bank(bank, jnp.arange(12.0).reshape(6, 2))[:, 0].tolist() == [0, 2, 4, 6]


def test_region_means():
    dense = draw(1, 4, 3)
    fused = np.full((1, 4, 4), -1)
    fused[0, :2, :2], fused[0, 2:, 0] = 0, 2  # cell 0 whole, half of cell 2
    members = regions.region_members(jnp.asarray(fused), 2, 2, 3)
    means, present = regions.region_means(dense, members)
    assert members[0, :, 0].tolist() == [1, 0, 0, 0] and members[0, :, 2].tolist() == [0, 0, 0.5, 0]
    assert present[0].tolist() == [True, False, True]
    np.testing.assert_allclose(means[0], [dense[0, 0], np.zeros(3), dense[0, 2]], rtol=1e-6)


def test_prototype_loss():
    prototypes, text = draw(2, 3, 4), unit(draw(3, 4))
    present = np.array([[True, False, True], [False] * 3])
    loss = zss.prototype_loss(prototypes, jnp.asarray(text), present)
    terms = []
    for c in (0, 2):
        p = sigmoid(text @ prototypes[0, c])
        terms.append(-np.log(np.where(np.arange(3) == c, p, 1 - p)).mean())
    np.testing.assert_allclose(loss, [np.mean(terms), 0], rtol=1e-5)


def test_concatenated_logits():
    dense, text, prototypes = draw(1, 2, 4), unit(draw(3, 4)), draw(1, 2, 4)
    found = zss.concat_logits(
        dense, jnp.asarray(text), prototypes, alpha=14.3, beta=5.0, seen_form="cosine"
    )
    wanted = [14.3 * unit(dense[0]) @ text.T, 5.0 * unit(dense[0]) @ unit(prototypes[0]).T]
    np.testing.assert_allclose(found[0], np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)


def make_masks():
    logits = draw(2, 6, 4)
    ids = np.array([[0, 1, 1, 3, -1, -1], [2, 2, 2, 2, 2, -1]])
    target = (ids[..., None] == np.arange(4)).astype(np.float32)
    present = np.array([[True, True, True, True], [True, True, True, False]])
    return logits, ids, target, present


def test_cross_entropy_drops_pixels_without_an_id():
    logits, ids, target, present = make_masks()
    weights = np.array([1, 1, 1, 0.5], np.float32)
    loss = zss.pixel_loss(logits, target, weights, present)
    for i in range(2):
        total = norm = 0
        for x, c in zip(logits[i], ids[i], strict=True):
            if c >= 0:
                kept = np.exp(x[present[i]])
                total += weights[c] * (np.log(kept.sum()) - x[c])
                norm += weights[c]
        np.testing.assert_allclose(loss[i], total / norm, rtol=1e-5)
    assert zss.pixel_loss(logits, 0 * target, weights, present).tolist() == [0, 0]


def test_focal_counts_ignored_pixels_as_negatives_and_divides_by_masks():
    logits, ids, target, present = make_masks()
    loss = zss.focal_loss(logits, target, present.astype(np.float32))
    masks, sums = 0, []
    for i in range(2):
        total = 0
        for c in range(4):
            p = sigmoid(logits[i, :, c])
            own = ids[i] == c
            pixel = np.where(own, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p))
            total += pixel.mean() * present[i, c]
            masks += own.any() and present[i, c]
        sums.append(total)
    # The mean over the batch is the sum over images divided by all masks of the batch.
    np.testing.assert_allclose(loss.mean(), np.sum(sums) / masks, rtol=1e-5)


def test_dice_over_present_classes_only():
    logits, ids, target, present = make_masks()
    loss = zss.dice_loss(logits, target, present.astype(np.float32))
    terms = []
    for i in range(2):
        for c in range(4):
            own = ids[i] == c
            if own.any():
                p = sigmoid(logits[i, :, c])
                terms.append(1 - (2 * p[own].sum() + 1) / (p.sum() + own.sum() + 1))
    np.testing.assert_allclose(loss.mean(), np.mean(terms), rtol=1e-5)


def test_local_loss():
    means, targets = draw(2, 2, 4), draw(2, 2, 4)
    present = np.array([[True, True], [True, False]])
    loss = zss.local_loss(means, targets, present, temperature=0.1, form="infonce")
    keys = unit(targets[present])
    wanted = []
    for row, mean in enumerate(means[present]):
        logits = unit(mean) @ keys.T / 0.1
        wanted.append(np.log(np.exp(logits).sum()) - logits[row])
    np.testing.assert_allclose(loss, [np.mean(wanted[:2]), wanted[2]], rtol=1e-4)
    loss = zss.local_loss(means, targets, present, temperature=0.1, form="cosine")
    angles = 1 - (unit(means) * unit(targets)).sum(axis=-1)
    np.testing.assert_allclose(loss, [angles[0].mean(), angles[1, 0]], rtol=1e-5)


def whole(config, fused):
    n, k, width = 3, 2, 8
    rng = np.random.default_rng(1)
    dense = jnp.asarray(rng.normal(size=(2, 2, 2, width)), jnp.float32)
    text = jnp.asarray(unit(rng.normal(size=(n, width))), jnp.float32)
    token = jnp.asarray(rng.normal(size=(2, width)), jnp.float32)
    teacher = zss.TeacherView(
        token[:, None], jnp.zeros((3, width)), text, jnp.ones((2, k, width)), text[:0]
    )
    return _whole(config, dense, teacher, jnp.asarray(fused))


@functools.partial(jax.jit, static_argnums=0)
def _whole(config, dense, teacher, fused):
    classes = len(teacher.text) + teacher.local.shape[1]

    def loss(dense):
        members = regions.region_members(fused, 2, 2, classes)
        means, present = regions.region_means(dense.reshape(2, 4, -1), members)
        value, metrics = zss.total_loss(
            dense, fused, means, present, means, teacher, config,
            weights=jnp.ones((1, 4)), flipped=jnp.array([True, False]),
        )  # fmt: skip
        return value.mean(), metrics

    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(dense)
    return value, metrics, grads


FULL = ClipZssLossConfig(local_weight=1.0)


@pytest.mark.parametrize("ids", [-1, 0, 3], ids=["no id", "all annotated", "nothing annotated"])
def test_total_is_finite_at_the_edges(ids):
    value, metrics, grads = whole(FULL, np.full((2, 4, 4), ids))
    assert np.isfinite(value) and np.isfinite(np.asarray(grads)).all()
    assert {f"loss_{n}" for n in ("pixel", "focal", "dice", "global", "prototype", "local")} < set(
        metrics
    )


def test_without_plm_latent_ids_count_for_nothing():
    config = dataclasses.replace(FULL, latent=False, local_weight=0.0)
    fused = np.zeros((2, 4, 4), int)
    fused[:, :2] = 3
    other = np.where(fused == 3, 4, fused)
    hidden = np.where(fused == 3, -1, fused)
    values = [float(whole(config, f)[0]) for f in (fused, other, hidden)]
    np.testing.assert_allclose(values, values[0], rtol=1e-6)
    _, metrics, _ = whole(config, fused)
    np.testing.assert_allclose(metrics["annotated_share"], 0.5)
    assert metrics["latent_regions"].tolist() == [0, 0]


def test_a_term_of_weight_0_is_left_out():
    config = dataclasses.replace(FULL, focal_weight=0.0, local_weight=0.0)
    _, metrics, _ = whole(config, np.zeros((2, 4, 4), int))
    assert "loss_focal" not in metrics and "loss_local" not in metrics


def test_seen_logits_are_products_and_latent_ones_cosines():
    """Method (b)4 of the paper: only the latent part is bounded."""
    dense, text, prototypes = 3 * draw(1, 2, 4), unit(draw(3, 4)), draw(1, 2, 4)
    found = zss.concat_logits(
        dense, jnp.asarray(text), prototypes, alpha=2.0, beta=5.0, seen_form="product"
    )
    wanted = [2.0 * dense[0] @ text.T, 5.0 * unit(dense[0]) @ unit(prototypes[0]).T]
    np.testing.assert_allclose(found[0], np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)
