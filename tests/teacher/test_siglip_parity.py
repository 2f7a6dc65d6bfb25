"""Our SigLIP against torch's, block by block, on small random checkpoints made here."""

import json

import numpy as np
import pytest

from zeroseg_jax import teacher
from zeroseg_jax.teacher.clip import TextTower, VisionTower
from zeroseg_jax.teacher.layout import read_config
from zeroseg_jax.teacher.tensors import read_params

IMAGE_PX, PATCH_PX, BATCH, CONTEXT = 32, 8, 3, 10


@pytest.fixture(params=["gelu_pytorch_tanh", "gelu"])
def checkpoint(request, tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    from transformers import SiglipConfig, SiglipModel

    tower = {"num_attention_heads": 2, "num_hidden_layers": 3, "hidden_act": request.param}
    config = SiglipConfig(
        vision_config={**tower, "hidden_size": 24, "intermediate_size": 72,
                       "image_size": IMAGE_PX, "patch_size": PATCH_PX},
        text_config={**tower, "hidden_size": 16, "intermediate_size": 64, "vocab_size": 60,
                     "max_position_embeddings": CONTEXT, "projection_size": 24},
    )  # fmt: skip
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    model.save_pretrained(tmp_path)
    return torch, model, tmp_path


def pixels(size=IMAGE_PX):
    return np.random.default_rng(0).normal(size=(BATCH, size, size, 3)).astype(np.float32)


def ids():
    return np.random.default_rng(1).integers(0, 60, (BATCH, CONTEXT)).astype(np.int32)


def channels_first(torch, x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2))


def test_vision_blocks_equal_torch(checkpoint):
    torch, model, directory = checkpoint
    config = read_config(directory)
    params = {"params": read_params(directory, config)["vision"]}
    with torch.no_grad():
        states = model.vision_model(channels_first(torch, pixels()), output_hidden_states=True)
    tower = VisionTower(config)
    assert len(states.hidden_states) == 4
    for depth, expected in enumerate(states.hidden_states):
        found = tower.apply(params, pixels(), depth, method="tokens")
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)
    pooled = tower.apply(params, pixels())
    np.testing.assert_allclose(pooled, states.pooler_output.numpy(), rtol=1e-5, atol=1e-5)


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
    pooled = tower.apply(params, ids())
    np.testing.assert_allclose(pooled, states.pooler_output.numpy(), rtol=1e-5, atol=1e-5)


def test_logits_equal_torch_with_scale_and_bias(checkpoint):
    torch, model, directory = checkpoint
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(ids()).long(), pixel_values=channels_first(torch, pixels())
        ).logits_per_image.numpy()
    clip = teacher.load(directory)
    config = read_config(directory)
    text = TextTower(config).apply({"params": read_params(directory, config)["text"]}, ids())
    image, text = (
        x / np.linalg.norm(x, axis=-1, keepdims=True)
        for x in (np.asarray(clip.encode_images(pixels())), np.asarray(text))
    )
    found = clip.logit_scale * image @ text.T + clip.logit_bias
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # scale and bias are about 10
    assert clip.mean == (0.5, 0.5, 0.5) and clip.logit_bias != 0


def test_larger_pictures_resize_positions_as_torch_does(checkpoint):
    torch, model, directory = checkpoint
    with torch.no_grad():
        expected = model.vision_model(
            channels_first(torch, pixels(48)), interpolate_pos_encoding=True
        ).pooler_output
    config = read_config(directory)
    params = {"params": read_params(directory, config)["vision"]}
    found = VisionTower(config).apply(params, pixels(48))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("field", ["hidden_act", "layer_norm_eps"])
def test_the_tolerance_notices_a_wrong_setting(checkpoint, field):
    torch, model, directory = checkpoint
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    vision = raw["vision_config"]
    if field == "hidden_act":
        vision[field] = {"gelu": "gelu_pytorch_tanh"}.get(vision[field], "gelu")
    else:
        vision[field] = 1e-3
    path.write_text(json.dumps(raw))
    with torch.no_grad():
        expected = model.vision_model(channels_first(torch, pixels())).pooler_output.numpy()
    found = np.asarray(teacher.load(directory).encode_images(pixels()))
    # Ten times what the parity tests allow: the two gelus differ by 1e-4 at most.
    assert not np.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - expected).max() > 3e-5


def test_patches_are_pooled_one_by_one(checkpoint):
    torch, model, directory = checkpoint
    with torch.no_grad():
        states = model.vision_model(channels_first(torch, pixels()))
        flat = states.last_hidden_state.reshape(-1, 1, 24)
        expected = model.vision_model.head(flat).reshape(BATCH, 4, 4, 24).numpy()
    found = teacher.load(directory).dense(pixels(), "raw")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for readout in ("maskclip", "sclip", "clearclip", "naclip"):
        dense = np.asarray(teacher.load(directory).dense(pixels(), readout))
        assert dense.shape == (BATCH, 4, 4, 24) and np.isfinite(dense).all()


def test_a_vision_only_export_serves_images(checkpoint, tmp_path):
    torch, model, directory = checkpoint
    from transformers import SiglipVisionModel

    alone = SiglipVisionModel(model.config.vision_config).eval()
    alone.load_state_dict(
        {k: v for k, v in model.state_dict().items() if k.startswith("vision_model.")}
        if any(k.startswith("vision_model.") for k in alone.state_dict())
        else model.vision_model.state_dict()
    )
    folder = tmp_path / "vision"
    alone.save_pretrained(folder)
    clip = teacher.load(folder)
    expected = teacher.load(directory).encode_images(pixels())
    np.testing.assert_allclose(clip.encode_images(pixels()), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(teacher.CheckpointError, match="no text tower"):
        clip.encode_texts(["a dog"])
