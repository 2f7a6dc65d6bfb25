"""Masking, encoder and pixel decoder against torch's ViTMAE with the same weights and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.building import draw_params
from zeroseg_jax.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig
from zeroseg_jax.models.layers import from_patches, sincos_positions, to_patches
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.models.zeroseg.losses import reconstruction_loss
from zeroseg_jax.models.zeroseg.masking import choose_visible, count_visible, restore_patches

IMAGE_PX, PATCH_PX, BATCH, EPS = 32, 8, 3, 1e-6
MODEL = ModelConfig(
    image_px=IMAGE_PX,
    embed_dim=12,
    encoder=EncoderConfig(width=32, depth=2, heads=4, patch_px=PATCH_PX),
    decoder=DecoderConfig(width=16, depth=2, heads=2),
    head=HeadConfig(width=32, heads=4, z_hidden=16),
)


def block_from_torch(layer):
    def linear(module):
        return {
            "kernel": jnp.asarray(module.weight.detach().numpy().T),
            "bias": jnp.asarray(module.bias.detach().numpy()),
        }

    def norm(module):
        return {"norm": {"scale": jnp.asarray(module.weight.detach().numpy()),
                         "bias": jnp.asarray(module.bias.detach().numpy())}}  # fmt: skip

    attention = layer.attention
    return {
        "norm1": norm(layer.layernorm_before),
        "norm2": norm(layer.layernorm_after),
        "attention": {
            "query": linear(attention.q_proj),
            "key": linear(attention.k_proj),
            "value": linear(attention.v_proj),
            "out": linear(attention.o_proj),
        },
        "mlp": {"fc1": linear(layer.mlp.fc1), "fc2": linear(layer.mlp.fc2)},
    }


def build_torch():
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        image_size=IMAGE_PX, patch_size=PATCH_PX, decoder_hidden_size=16,
        decoder_num_hidden_layers=2, decoder_num_attention_heads=2, decoder_intermediate_size=64,
        mask_ratio=0.6, norm_pix_loss=True, layer_norm_eps=EPS, hidden_act="gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
        # transformers 5 leaves these tables at zero until a checkpoint fills them.
        for table, width in (
            (model.vit.embeddings.position_embeddings, 32),
            (model.decoder.decoder_pos_embed, 16),
        ):
            table.copy_(torch.from_numpy(positions_by_hand(4, width))[None])
    return torch, model


def from_torch(model, params):
    def array(value):
        return jnp.asarray(value.detach().numpy())

    def norm(module):
        return {"norm": {"scale": array(module.weight), "bias": array(module.bias)}}

    def linear(module):
        return {"kernel": array(module.weight).T, "bias": array(module.bias)}

    embeddings = model.vit.embeddings
    projection = embeddings.patch_embeddings.projection
    kernel = projection.weight.detach().numpy().transpose(2, 3, 1, 0).reshape(-1, 32)
    encoder = {
        "patch_embedding": {
            "projection": {"kernel": jnp.asarray(kernel), "bias": array(projection.bias)}
        },
        "class_token": array(embeddings.cls_token).reshape(-1),
        "post_norm": norm(model.vit.layernorm),
        **{f"blocks_{i}": block_from_torch(layer) for i, layer in enumerate(model.vit.layers)},
    }
    source = model.decoder
    decoder = {
        "embedding": linear(source.decoder_embed),
        "mask_token": array(source.mask_token).reshape(-1),
        "post_norm": norm(source.decoder_norm),
        "projection": linear(source.decoder_pred),
        **{f"blocks_{i}": block_from_torch(x) for i, x in enumerate(source.decoder_layers)},
    }
    return {**params, "encoder": encoder, "decoder": decoder}


def test_masked_reconstruction_equals_torch():
    torch, model = build_torch()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, IMAGE_PX, IMAGE_PX, 3)).astype(np.float32)
    noise = rng.random((BATCH, 16)).astype(np.float32)
    with torch.no_grad():
        expected = model(
            pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2)),
            noise=torch.from_numpy(noise),
        )
    student = students.build_student(MODEL)
    start = draw_params(student)
    params = from_torch(model, start)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, params)

    @jax.jit
    def reconstruct(params):
        outputs = student.apply({"params": params}, images, noise, None)
        return outputs.pixels, outputs.mask  # the head is not compiled

    pixels, mask = reconstruct(params)
    np.testing.assert_array_equal(mask, expected.mask.numpy())
    np.testing.assert_allclose(pixels, expected.logits.numpy(), rtol=1e-5, atol=1e-5)
    loss = reconstruction_loss(
        pixels,
        to_patches(jnp.asarray(images), PATCH_PX),
        mask,
        normalise=True,
        masked_only=True,
    )
    np.testing.assert_allclose(loss.mean(), expected.loss.numpy(), rtol=1e-5)


def positions_by_hand(side, width):
    """MAE's table, written out: the class token's row of zeros, then patch by patch."""
    table = np.zeros((1 + side * side, width), np.float32)
    quarter = width // 4
    for row in range(side):
        for column in range(side):
            for i in range(quarter):
                omega = 10000.0 ** (-i / quarter)
                entry = table[1 + row * side + column]
                entry[i], entry[quarter + i] = np.sin(column * omega), np.cos(column * omega)
                entry[2 * quarter + i] = np.sin(row * omega)
                entry[3 * quarter + i] = np.cos(row * omega)
    return table


def test_positions_by_hand():
    np.testing.assert_allclose(
        sincos_positions(5, 5, 48), positions_by_hand(5, 48)[1:], rtol=1e-6, atol=1e-6
    )


def test_masking_against_plain_numpy():
    noise = np.random.default_rng(1).random((4, 10)).astype(np.float32)
    keep, restore, mask = choose_visible(jnp.asarray(noise), 4)
    for row in range(4):
        expected = sorted(range(10), key=lambda i: noise[row, i])[:4]
        assert list(np.asarray(keep[row])) == expected
        assert {i for i in range(10) if mask[row, i] == 0} == set(expected)
        assert list(np.asarray(restore[row])[expected]) == [0, 1, 2, 3]


def test_restore_puts_patches_back():
    x = np.random.default_rng(2).normal(size=(2, 10, 3)).astype(np.float32)
    keep, restore, mask = choose_visible(jnp.asarray(x[..., 0]), 4)
    visible = np.take_along_axis(x, np.asarray(keep)[..., None], axis=1)
    filler = jnp.full(3, 7.0)
    back = np.asarray(restore_patches(jnp.asarray(visible), filler, restore))
    np.testing.assert_array_equal(back[np.asarray(mask) == 0], x[np.asarray(mask) == 0])
    assert (back[np.asarray(mask) == 1] == 7).all()


def test_paper_keeps_78_of_196_patches():
    assert count_visible(196, 0.6) == 78


def test_patches_round_trip():
    images = np.random.default_rng(3).normal(size=(2, 16, 24, 3)).astype(np.float32)
    np.testing.assert_array_equal(from_patches(to_patches(jnp.asarray(images), 8), 2, 3), images)
