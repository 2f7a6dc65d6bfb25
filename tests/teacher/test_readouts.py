"""Dense read-outs against the formulas written out in numpy, patch by patch, head by head."""

import numpy as np
import pytest
from slow_layers import linear, norm, softmax

from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.readouts import SINGLE_TOWER_READOUTS
from zeroseg_jax.teacher.towers import VisionTower

H, W = 4, 6  # a picture that is not square


def weights(readout, q, k, i):
    """Attention of token i over all tokens, for one head; token 0 is the class token."""
    n, scale = len(q), q.shape[-1] ** -0.5
    if readout == "raw":
        return softmax(np.array([q[i] @ k[j] for j in range(n)]) * scale)
    if readout == "maskclip":
        return np.eye(n)[i]
    if readout == "clearclip":
        return softmax(np.array([q[i] @ q[j] for j in range(n)]) * scale)
    if readout == "sclip":
        qq = softmax(np.array([q[i] @ q[j] for j in range(n)]) * scale)
        return qq + softmax(np.array([k[i] @ k[j] for j in range(n)]) * scale)
    near = np.zeros(n)
    if i:
        here = np.array(divmod(i - 1, W))
        for j in range(1, n):
            there = np.array(divmod(j - 1, W))
            near[j] = np.exp(-((here - there) ** 2).sum() / (2 * 5.0**2))
    return softmax(np.array([k[i] @ k[j] for j in range(n)]) * scale + near)


@pytest.mark.parametrize("readout", [r for r in SINGLE_TOWER_READOUTS if r != "scclip"])
def test_read_outs_equal_their_formulas(readout):
    clip = load_teacher("playground")
    pixels = np.random.default_rng(0).normal(size=(1, 8 * H, 8 * W, 3)).astype(np.float32)
    part, params = clip.config.vision, clip.vision_params
    block = params[f"blocks_{part.depth - 1}"]
    tokens = np.asarray(
        VisionTower(clip.config).apply({"params": params}, pixels, part.depth - 1, method="tokens"),
        np.float64,
    )[0]
    normed = norm(tokens, block["norm1"], part.eps)
    q, k, v = (
        linear(normed, block["attention"][name]).reshape(len(tokens), part.heads, -1)
        for name in ("query", "key", "value")
    )
    mixed = np.zeros_like(v)
    for head in range(part.heads):
        for i in range(len(tokens)):
            mixed[i, head] = weights(readout, q[:, head], k[:, head], i) @ v[:, head]
    x = linear(mixed.reshape(len(tokens), -1), block["attention"]["out"])
    if readout not in ("clearclip", "naclip"):
        x = tokens + x
        hidden = linear(norm(x, block["norm2"], part.eps), block["mlp"]["fc1"])
        x = x + linear(hidden / (1 + np.exp(-1.702 * hidden)), block["mlp"]["fc2"])
    expected = linear(norm(x, params["post_norm"], part.eps), params["projection"])[1:]
    found = np.asarray(clip.dense(pixels, readout))
    assert found.shape == (1, H, W, clip.embed_dim)
    # Features are about 2; the tower runs in float32, this in float64.
    np.testing.assert_allclose(found[0], expected.reshape(H, W, -1), rtol=1e-4, atol=1e-4)


def test_read_outs_differ_and_unknown_ones_are_refused():
    clip = load_teacher("playground")
    pixels = np.random.default_rng(0).normal(size=(1, 48, 48, 3)).astype(np.float32)
    found = [np.asarray(clip.dense(pixels, name)) for name in SINGLE_TOWER_READOUTS]
    for i, one in enumerate(found):
        assert all(np.abs(one - other).max() > 0.1 for other in found[:i])
    with pytest.raises(ValueError, match="'densest' is not one of raw, maskclip"):
        clip.dense(pixels, "densest")
