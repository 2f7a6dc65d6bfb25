"""Our CLIP against torch's, block by block, on small random checkpoints made here."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax import teacher
from zeroseg_jax.teacher.clip import TextTower, VisionTower
from zeroseg_jax.teacher.layout import read_config
from zeroseg_jax.teacher.tensors import read_params

IMAGE_PX, PATCH_PX, BATCH = 32, 8, 3


@pytest.fixture(params=["quick_gelu", "gelu"])
def checkpoint(request, tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_attention_heads": 2, "num_hidden_layers": 3, "hidden_act": request.param}
    config = CLIPConfig(
        vision_config={**tower, "hidden_size": 32, "intermediate_size": 96,
                       "image_size": IMAGE_PX, "patch_size": PATCH_PX, "projection_dim": 20},
        text_config={**tower, "hidden_size": 24, "intermediate_size": 64, "vocab_size": 60,
                     "max_position_embeddings": 12, "eos_token_id": 59, "bos_token_id": 58,
                     "pad_token_id": 59, "projection_dim": 20},
        projection_dim=20,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    model.save_pretrained(tmp_path)
    return torch, model, tmp_path


def pixels(size=IMAGE_PX):
    return np.random.default_rng(0).normal(size=(BATCH, size, size, 3)).astype(np.float32)


def ids():
    rows = np.random.default_rng(1).integers(0, 58, (BATCH, 12)).astype(np.int32)
    for row, end in enumerate((11, 5, 8)):
        rows[row, end:] = 59
    return rows


def test_vision_blocks_equal_torch(checkpoint):
    torch, model, directory = checkpoint
    config = read_config(directory)
    params = {"params": read_params(directory, config)["vision"]}
    x = torch.from_numpy(pixels().transpose(0, 3, 1, 2))
    with torch.no_grad():
        states = model.vision_model(x, output_hidden_states=True)
    tower = VisionTower(config)
    for depth, expected in enumerate(states.hidden_states):
        found = tower.apply(params, pixels(), depth, method="tokens")
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_text_blocks_equal_torch(checkpoint):
    torch, model, directory = checkpoint
    config = read_config(directory)
    params = {"params": read_params(directory, config)["text"]}
    with torch.no_grad():
        states = model.text_model(torch.from_numpy(ids()).long(), output_hidden_states=True)
    tower = TextTower(config)
    for depth, expected in enumerate(states.hidden_states):
        found = tower.apply(params, ids(), depth, method="tokens")
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_projected_features_equal_torch(checkpoint):
    torch, model, directory = checkpoint
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(ids()).long(),
            pixel_values=torch.from_numpy(pixels().transpose(0, 3, 1, 2)),
        )
    clip = teacher.load(directory)
    image = np.array(clip.encode_images(pixels()))
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    np.testing.assert_allclose(image, out.image_embeds.numpy(), rtol=1e-5, atol=1e-5)
    config = read_config(directory)
    params = {"params": read_params(directory, config)["text"]}
    text = np.array(TextTower(config).apply(params, ids()))
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    np.testing.assert_allclose(text, out.text_embeds.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(clip.logit_scale, model.logit_scale.exp().item(), rtol=1e-6)


def test_larger_pictures_resize_positions_as_torch_does(checkpoint):
    torch, model, directory = checkpoint
    x = torch.from_numpy(pixels(48).transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = model.vision_model(x, interpolate_pos_encoding=True).last_hidden_state
    config = read_config(directory)
    params = {"params": read_params(directory, config)["vision"]}
    found = VisionTower(config).apply(params, pixels(48), method="tokens")
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_maskclip_against_torch_modules(checkpoint):
    torch, model, directory = checkpoint
    x = torch.from_numpy(pixels().transpose(0, 3, 1, 2))
    with torch.no_grad():
        states = model.vision_model(x, output_hidden_states=True).hidden_states
        last = model.vision_model.encoder.layers[-1]
        tokens = states[-2]
        attention = last.self_attn
        tokens = tokens + attention.out_proj(attention.v_proj(last.layer_norm1(tokens)))
        tokens = tokens + last.mlp(last.layer_norm2(tokens))
        norm = model.vision_model.post_layernorm
        expected = model.visual_projection(norm(tokens[:, 1:])).reshape(BATCH, 4, 4, -1)
        raw = model.visual_projection(norm(states[-1][:, 1:])).reshape(BATCH, 4, 4, -1)
    clip = teacher.load(directory)
    np.testing.assert_allclose(clip.dense(pixels(), "maskclip"), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(clip.dense(pixels(), "raw"), raw.numpy(), atol=1e-5)


@pytest.mark.parametrize("field", ["hidden_act", "layer_norm_eps"])
def test_the_tolerance_notices_a_wrong_setting(checkpoint, field):
    torch, model, directory = checkpoint
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    vision = raw["vision_config"]
    if field == "hidden_act":
        vision[field] = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[vision[field]]
    else:
        vision[field] = 1e-3
    path.write_text(json.dumps(raw))
    with torch.no_grad():
        out = model.get_image_features(torch.from_numpy(pixels().transpose(0, 3, 1, 2)))
    expected = getattr(out, "pooler_output", out).numpy()
    found = np.asarray(teacher.load(directory).encode_images(jnp.asarray(pixels())))
    assert np.abs(found - expected).max() > 1e-4
