"""Our towers against torch's, block by block, on small random checkpoints made here.

Every family is checked at its native size and at one whose positions are resized, not square.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.models.layers import Block
from zeroseg_jax.teacher import towers
from zeroseg_jax.teacher.checkpoints.config import CheckpointError, read_config
from zeroseg_jax.teacher.checkpoints.tensors import read_params
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.towers import TextTower, VisionTower

BATCH, CONTEXT, END = 3, 12, 59
# name -> family, shared settings, those of the vision tower, those of the text tower
FAMILIES = {
    # OpenAI's and MetaCLIP's; the end token is the highest id, whatever config.json says.
    "openai": ("clip", {"hidden_act": "quick_gelu"}, {}, {"eos_token_id": 2}),
    # LAION's: exact gelu, one projection width for both.
    "laion": ("clip", {"hidden_act": "gelu", "projection_dim": 28}, {}, {"eos_token_id": END}),
    # bigG's proportions: heads of odd width, an MLP of no whole ratio, patches of 14.
    "bigg": (
        "clip", {"hidden_act": "gelu", "projection_dim": 40},
        {"hidden_size": 52, "intermediate_size": 255, "image_size": 42, "patch_size": 14},
        {"hidden_size": 40, "intermediate_size": 160, "num_hidden_layers": 1, "eos_token_id": END},
    ),
    "siglip": ("siglip", {"hidden_act": "gelu_pytorch_tanh"}, {}, {}),
    # so400m's: patches that do not divide the image, an MLP of no whole ratio.
    "so400m": (
        "siglip", {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_size": 36, "intermediate_size": 135, "image_size": 38},
        {"hidden_size": 36, "projection_size": 36},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tmp_path_factory):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    import transformers

    family, shared, vision, text = FAMILIES[request.param]
    tower = {"num_attention_heads": 2, "num_hidden_layers": 2, **shared}
    vision = {"hidden_size": 32, "intermediate_size": 96, "image_size": 32, "patch_size": 8,
              **tower, **vision}  # fmt: skip
    text = {"hidden_size": 24, "intermediate_size": 64, "vocab_size": END + 1,
            "max_position_embeddings": CONTEXT, "bos_token_id": 58, "pad_token_id": 1,
            **tower, **text}  # fmt: skip
    if family == "siglip":
        text.setdefault("projection_size", vision["hidden_size"])
        config = transformers.SiglipConfig(vision_config=vision, text_config=text)
        model = transformers.SiglipModel(config)
    else:
        width = shared.get("projection_dim", 20)
        vision["projection_dim"] = text["projection_dim"] = width
        config = transformers.CLIPConfig(
            vision_config=vision, text_config=text, projection_dim=width
        )
        model = transformers.CLIPModel(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.15 * torch.randn_like(value) + (value == 1))
    directory = tmp_path_factory.mktemp(request.param)
    model.eval().save_pretrained(directory)
    return torch, model, directory


def pixels(height, width):
    return np.random.default_rng(0).normal(size=(BATCH, height, width, 3)).astype(np.float32)


def sizes(directory):
    """The native size, and one that is larger one way and smaller the other."""
    config = read_config(directory)
    native, patch = config.image_px, config.patch_px
    return (native, native), (native + 2 * patch, native - patch)


def ids():
    rows = np.random.default_rng(1).integers(0, 58, (BATCH, CONTEXT)).astype(np.int32)
    for row, end in enumerate((11, 5, 8)):
        rows[row, end:] = END
    return rows


def close(found, expected):
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def check_blocks(tower, params, x, states, pooled):
    @jax.jit
    def run(params, x):
        before = tower.apply(params, x, 0, method="tokens")
        found, seen = tower.apply(
            params, x, capture_intermediates=lambda module, _: isinstance(module, Block)
        )
        blocks = seen["intermediates"]
        outputs = [blocks[f"blocks_{i}"]["__call__"][0] for i in range(len(blocks))]
        return [before, *outputs], found

    blocks, found = run(params, x)
    for block, expected in zip(blocks, states.hidden_states, strict=True):
        close(block, expected)
    close(found, pooled)


def check_vision(torch, model, directory, size):
    """Every block, and the pooled and projected output."""
    config = read_config(directory)
    params = {"params": read_params(directory, config)["vision"]}
    x = pixels(*size)
    with torch.no_grad():
        states = model.vision_model(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), output_hidden_states=True,
            interpolate_pos_encoding=True,
        )  # fmt: skip
        pooled = states.pooler_output
        if config.family == "clip":
            pooled = model.visual_projection(pooled)
    check_blocks(VisionTower(config), params, x, states, pooled)


def check_text(torch, model, directory):
    config = read_config(directory)
    params = {"params": read_params(directory, config)["text"]}
    with torch.no_grad():
        states = model.text_model(torch.from_numpy(ids()).long(), output_hidden_states=True)
        pooled = states.pooler_output
        if config.family == "clip":
            pooled = model.text_projection(pooled)
    check_blocks(TextTower(config), params, ids(), states, pooled)


@pytest.mark.parametrize("which", [0, 1], ids=["native", "resized"])
def test_vision_tower_equals_torch(checkpoint, which):
    check_vision(*checkpoint, sizes(checkpoint[2])[which])


def test_text_tower_equals_torch(checkpoint):
    check_text(*checkpoint)


def test_logits_equal_torch_with_scale_and_bias(checkpoint):
    torch, model, directory = checkpoint
    clip = load_teacher(directory)
    x = pixels(clip.image_px, clip.image_px)
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(ids()).long(),
            pixel_values=torch.from_numpy(x.transpose(0, 3, 1, 2)),
        ).logits_per_image.numpy()
    text = jax.jit(TextTower(clip.config).apply)({"params": clip.text_params}, ids())
    image, text = (
        np.asarray(rows) / np.linalg.norm(rows, axis=-1, keepdims=True)
        for rows in (clip.encode_images(x), text)
    )
    found = clip.logit_scale * image @ text.T + clip.logit_bias
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    siglip = clip.config.family == "siglip"
    assert (clip.logit_bias != 0) == siglip and (clip.mean == (0.5, 0.5, 0.5)) == siglip


def mutate_config(directory, tmp_path, field, value):
    copy = tmp_path / "mutated"
    shutil.copytree(directory, copy)
    raw = json.loads((copy / "config.json").read_text())
    raw["vision_config"][field] = value
    raw["text_config"][field] = value
    (copy / "config.json").write_text(json.dumps(raw))
    return copy


@pytest.mark.parametrize("checkpoint", ["laion", "siglip"], indirect=True)
@pytest.mark.parametrize("field", ["hidden_act", "layer_norm_eps"])
def test_a_wrong_setting_fails_parity(checkpoint, tmp_path, field):
    torch, model, directory = checkpoint
    act = model.config.vision_config.hidden_act
    # The nearest wrong one: the two gelus are 5e-4 apart at most.
    value = 1e-4 if field == "layer_norm_eps" else {"gelu": "gelu_pytorch_tanh"}.get(act, "gelu")
    wrong = mutate_config(directory, tmp_path, field, value)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_vision(torch, model, wrong, sizes(directory)[0])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_text(torch, model, wrong)


@pytest.mark.parametrize("checkpoint", ["laion", "siglip"], indirect=True)
def test_wrong_pooling_fails_parity(checkpoint, monkeypatch):
    torch, model, directory = checkpoint

    def mean(self, x):
        tokens = self.post_norm(self.tokens(x)).mean(axis=1)
        return self.projection(tokens) if self.config.family == "clip" else tokens

    def first(self, ids):
        return self.projection(self.final_norm(self.tokens(ids))[:, 0])

    monkeypatch.setattr(VisionTower, "__call__", mean)
    monkeypatch.setattr(TextTower, "__call__", first)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_vision(torch, model, directory, sizes(directory)[0])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_text(torch, model, directory)


@pytest.mark.parametrize("checkpoint", ["openai"], indirect=True)
@pytest.mark.parametrize(("method", "antialias"), [("bilinear", False), ("cubic", False),
                                                   ("cubic-pytorch", True)])  # fmt: skip
def test_a_wrong_resize_fails_parity(checkpoint, monkeypatch, method, antialias):
    torch, model, directory = checkpoint

    def resize(positions, h, w, rule):
        side = int(round(len(positions) ** 0.5))
        grid = jnp.reshape(positions, (side, side, -1))
        out = jax.image.resize(grid, (h, w, grid.shape[-1]), method, antialias=antialias)
        return out.reshape(h * w, -1)

    monkeypatch.setattr(towers, "resize_positions", resize)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_vision(torch, model, directory, sizes(directory)[1])


@pytest.mark.parametrize("checkpoint", ["laion", "siglip"], indirect=True)
def test_dense_against_torch_modules(checkpoint):
    """Raw and MaskCLIP by torch's own modules; SigLIP's head shown one patch at a time."""
    torch, model, directory = checkpoint
    clip = load_teacher(directory)
    x = pixels(clip.image_px, clip.image_px)
    first = int(clip.config.family == "clip")
    tower = model.vision_model
    with torch.no_grad():
        tensor = torch.from_numpy(x.transpose(0, 3, 1, 2))
        states = tower(tensor, output_hidden_states=True).hidden_states
        last = tower.encoder.layers[-1]
        attention, tokens = last.self_attn, states[-2]
        tokens = tokens + attention.out_proj(attention.v_proj(last.layer_norm1(tokens)))
        tokens = tokens + last.mlp(last.layer_norm2(tokens))
        for readout, out in (("maskclip", tokens), ("raw", states[-1])):
            normed = tower.post_layernorm(out[:, first:])
            if first:
                expected = model.visual_projection(normed)
            else:
                expected = tower.head(normed.reshape(-1, 1, normed.shape[-1]))
            found = np.asarray(clip.dense(x, readout))
            close(found, expected.reshape(found.shape))
    for readout in () if first else ("sclip", "clearclip", "naclip"):  # test_dense has CLIP's
        assert np.isfinite(np.asarray(clip.dense(x, readout))).all()


@pytest.mark.parametrize("checkpoint", ["openai", "so400m"], indirect=True)
def test_vision_only_exports_serve_images(checkpoint, tmp_path):
    torch, model, directory = checkpoint
    import transformers

    siglip = read_config(directory).family == "siglip"
    kind = "SiglipVisionModel" if siglip else "CLIPVisionModelWithProjection"
    alone = getattr(transformers, kind).from_pretrained(directory)
    alone.save_pretrained(tmp_path)
    clip, whole = load_teacher(tmp_path), load_teacher(directory)
    x = pixels(clip.image_px, clip.image_px)
    np.testing.assert_array_equal(clip.encode_images(x), whole.encode_images(x))
    with pytest.raises(CheckpointError, match="no text tower"):
        clip.encode_texts(["a dog"])
