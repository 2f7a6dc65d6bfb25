"""The grouping block against Hugging Face's torch GroupViT with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.config import HeadConfig
from zeroseg_jax.models.zeroseg.grouping import GroupingBlock, SegmentationHead
from zeroseg_jax.models.zeroseg.own_terms import normalise_scores

WIDTH, HEADS, TOKENS, SEGMENTS, BATCH = 32, 4, 50, 8, 3
EPS = 1e-5


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def build_torch(segments):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    from transformers import GroupViTVisionConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTTokenAssign

    config = GroupViTVisionConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_attention_heads=HEADS,
        layer_norm_eps=EPS, assign_eps=1.0, assign_mlp_ratio=[0.5, 4], hidden_act="gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    module = GroupViTTokenAssign(config, num_group_token=segments, num_output_group=segments)
    # Weights far from their small initial values, so that every term counts.
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return torch, module.eval()


def linear(module):
    return {
        "kernel": jnp.asarray(module.weight.detach().numpy().T),
        "bias": jnp.asarray(module.bias.detach().numpy()),
    }


def norm(module):
    return {
        "norm": {
            "scale": jnp.asarray(module.weight.detach().numpy()),
            "bias": jnp.asarray(module.bias.detach().numpy()),
        }
    }


def mlp(module):
    return {"fc1": linear(module.fc1), "fc2": linear(module.fc2)}


def from_torch(module):
    attention = module.pre_assign_attn.attn
    return {
        "segment_norm": norm(module.norm_tokens),
        "token_norm": norm(module.norm_x),
        "mixer": {"mlp": mlp(module.mlp_inter)},
        "mixed_norm": norm(module.norm_post_tokens),
        "cross_attention": {
            "query": linear(attention.q_proj),
            "key": linear(attention.k_proj),
            "value": linear(attention.v_proj),
            "out": linear(attention.out_proj),
        },
        "cross_norm": norm(module.pre_assign_attn.norm2),
        "cross_mlp": mlp(module.pre_assign_attn.mlp),
        "cross_post_norm": norm(module.pre_assign_attn.norm_post),
        "query": linear(module.assign.q_proj),
        "key": linear(module.assign.k_proj),
        "value": linear(module.assign.v_proj),
        "out": linear(module.assign.proj),
        "merged_norm": norm(module.norm_new_x),
        "channel_mlp": mlp(module.mlp_channels),
    }


@pytest.mark.parametrize("segments", [SEGMENTS, 32])
def test_grouping_equals_torch(segments):
    torch, module = build_torch(segments)
    tokens, queries = draw(BATCH, TOKENS, WIDTH), draw(BATCH, segments, WIDTH, seed=1)
    with torch.no_grad():
        expected, soft = module(torch.from_numpy(tokens), torch.from_numpy(queries))
    block = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS), segments, EPS)
    params = {"params": from_torch(module)}
    made = jax.jit(block.init)(jax.random.key(0), tokens, queries)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
    merged, assignment = jax.jit(block.apply)(params, tokens, queries)
    np.testing.assert_allclose(merged, expected.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(assignment, soft.numpy().squeeze(), rtol=1e-5, atol=1e-6)
    # The tolerance is tight enough to notice another eps of the count.
    other = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS, count_eps=0.9), segments, EPS)
    assert np.abs(jax.jit(other.apply)(params, tokens, queries)[0] - expected.numpy()).max() > 1e-4


def test_assignment_is_a_distribution_over_segments():
    block = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS), SEGMENTS, EPS)
    tokens, queries = draw(BATCH, TOKENS, WIDTH), draw(BATCH, SEGMENTS, WIDTH, seed=1)
    params = jax.jit(block.init)(jax.random.key(0), tokens, queries)
    _, assignment = jax.jit(block.apply)(params, tokens, queries, jax.random.key(1))
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)


def test_gumbel_noise_moves_the_segments_but_not_the_maps():
    block = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS), SEGMENTS, EPS)
    tokens, queries = draw(BATCH, TOKENS, WIDTH), draw(BATCH, SEGMENTS, WIDTH, seed=1)
    params = jax.jit(block.init)(jax.random.key(0), tokens, queries)
    apply = jax.jit(block.apply)
    quiet, quiet_map = apply(params, tokens, queries)
    noisy, noisy_map = apply(params, tokens, queries, jax.random.key(1))
    np.testing.assert_array_equal(quiet_map, noisy_map)
    assert np.abs(quiet - noisy).max() > 1e-3


def test_straight_through_passes_gradients_to_the_scores():
    block = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS), SEGMENTS, EPS)
    tokens, queries = draw(BATCH, TOKENS, WIDTH), draw(BATCH, SEGMENTS, WIDTH, seed=1)
    params = jax.jit(block.init)(jax.random.key(0), tokens, queries)

    def total(params):
        return jnp.square(block.apply(params, tokens, queries)[0]).sum()

    grads = jax.jit(jax.grad(total))(params)
    assert np.abs(grads["params"]["key"]["kernel"]).max() > 0


def test_head_shapes_and_maps():
    config = HeadConfig(width=WIDTH, heads=HEADS, z_hidden=16)
    head = SegmentationHead(config, embed_dim=24, eps=EPS)
    patches, positions = draw(BATCH, TOKENS, 20), draw(1, TOKENS, WIDTH, seed=2)
    params = jax.jit(head.init)(jax.random.key(0), [patches], positions)
    segments, global_feature, assignment, features = jax.jit(head.apply)(
        params, [patches], positions
    )
    assert features is None
    assert segments.shape == (BATCH, 8, 24)
    assert global_feature.shape == (BATCH, 24)
    assert assignment.shape == (BATCH, 8, TOKENS)
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)
    # Two, two and one layer, and one more for z.
    blocks = [name for name in params["params"] if "blocks" in name]
    assert len(blocks) == 5 and "global_block" in params["params"]


def standardise_slowly(scores):
    """Standardise one image's scores (S, L) a segment at a time."""
    centred = np.array([row - sum(row) / len(row) for row in scores.astype(np.float64)])
    deviation = np.sqrt((centred**2).sum() / centred.size + 1e-6)
    return centred, centred / deviation


def test_centred_scores_of_the_block_are_those_of_its_softmax():
    tokens, queries = draw(BATCH, TOKENS, WIDTH), draw(BATCH, SEGMENTS, WIDTH, seed=1)
    raw = GroupingBlock(HeadConfig(width=WIDTH, heads=HEADS), SEGMENTS, EPS)
    params = jax.jit(raw.init)(jax.random.key(0), tokens, queries)
    # The logarithm of a softmax over segments is the score, up to a number for each patch.
    scores = np.log(np.asarray(jax.jit(raw.apply)(params, tokens, queries)[1], np.float64))
    config = HeadConfig(width=WIDTH, heads=HEADS, scores="centred")
    _, found = jax.jit(GroupingBlock(config, SEGMENTS, EPS).apply)(params, tokens, queries)
    wanted = [standardise_slowly(image)[0] for image in scores]
    np.testing.assert_allclose(
        np.diff(np.log(np.asarray(found, np.float64)), axis=1), np.diff(wanted, axis=1), atol=2e-5
    )


@pytest.mark.parametrize("form", ["centred", "standardised"])
def test_normalised_scores_equal_the_slow_ones(form):
    scores = 3 * draw(2, 4, 7) + draw(2, 4, 1, seed=1)
    found = normalise_scores(scores, form)
    wanted = [standardise_slowly(image)[form == "standardised"] for image in scores]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(normalise_scores(scores, "raw"), scores)


def test_scores_per_segment_are_standardised_rows():
    scores = 3 * draw(2, 4, 7) * draw(2, 4, 1, seed=2) + draw(2, 4, 1, seed=1)
    wanted = [[standardise_slowly(row[None])[1][0] for row in image] for image in scores]
    np.testing.assert_allclose(normalise_scores(scores, "per_segment"), wanted, atol=1e-5)


def test_a_shared_projection_is_that_of_z():
    config = HeadConfig(width=WIDTH, heads=HEADS, z_hidden=16, shared_projection=True)
    head = SegmentationHead(config, embed_dim=24, eps=EPS)
    patches, positions = draw(BATCH, TOKENS, 20), draw(1, TOKENS, WIDTH, seed=2)
    params = jax.jit(head.init)(jax.random.key(0), [patches], positions)
    assert not {"segment_projection", "segment_norm"} & params["params"].keys()

    apply = jax.jit(head.apply)

    def train_z(params):
        return jnp.square(apply(params, [patches], positions)[1]).sum()

    # What trains z trains the projection of g, and moves g.
    grads = jax.jit(jax.grad(train_z))(params)
    assert np.abs(grads["params"]["global_mlp"]["fc2"]["kernel"]).max() > 0
    before = apply(params, [patches], positions)[0]
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert np.abs(apply(moved, [patches], positions)[0] - before).max() > 1e-3
