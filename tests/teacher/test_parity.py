"""MetaCLIP 2, TIPSv2, DINO and DINOv2 against torch, on small random checkpoints made here.

Each family is checked at its native grid, at a larger one and at one that is not square. CLIP and
SigLIP are in test_towers.py.
"""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zeroseg_jax.inference.model import load_readout
from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.readouts import READOUTS
from zeroseg_jax.teacher.towers import FAMILIES, TextTower, VisionTower

WIDTH, CONTEXT, END = 32, 12, 2
VISION_ONLY = ("dinov2", "dinov2_with_registers", "vit")
WITH_TEXT = ("metaclip_2", "tipsv2")
GRIDS = {"native": (56, 56), "larger": (84, 84), "not square": (42, 98)}
TOWER = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {**TOWER, "image_size": 56, "patch_size": 14}
TEXT = {**TOWER, "intermediate_size": 48, "vocab_size": 60, "max_position_embeddings": CONTEXT}


def build(transformers, family):
    if family == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**VISION))
    if family == "dinov2_with_registers":
        config = transformers.Dinov2WithRegistersConfig(**VISION)
        return transformers.Dinov2WithRegistersModel(config)
    if family == "vit":
        return transformers.ViTModel(transformers.ViTConfig(**VISION, intermediate_size=96))
    if family == "tipsv2":
        config = transformers.Tipsv2Config(vision_config=VISION, text_config=TEXT)
        return transformers.Tipsv2Model(config)
    wide = {"projection_dim": 20, "bos_token_id": 0}
    config = transformers.MetaClip2Config(
        vision_config={**VISION, "intermediate_size": 96, **wide},
        text_config={**TEXT, **wide, "eos_token_id": END},
        projection_dim=20,
    )
    return transformers.MetaClip2Model(config)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    import transformers

    made = {}

    def make(family):
        if family not in made:
            model = build(transformers, family).eval()
            torch.manual_seed(0)
            with torch.no_grad():
                for name, value in model.named_parameters():
                    # A temperature is positive; norms and LayerScale lie around 1.
                    if name != "temperature":
                        value.copy_(0.15 * torch.randn_like(value) + (value == 1))
            directory = tmp_path_factory.mktemp(family)
            model.save_pretrained(directory)
            made[family] = torch, model, directory
        return made[family]

    return make


def pixels(height, width):
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


def close(found, expected):
    # Values are of order 1; float32 sums of 32 to 96 terms differ by about 1e-6 in their order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)


def torch_features(torch, model, family, x):
    """Patch tokens after the final norm, and the class token after it and the projection."""
    tower = model if family in VISION_ONLY else model.vision_model
    more = {"interpolate_pos_encoding": True} if family in ("vit", "metaclip_2") else {}
    with torch.no_grad():
        out = tower(torch.from_numpy(x.transpose(0, 3, 1, 2)), **more).last_hidden_state
        if family == "metaclip_2":  # the final norm is applied to the class token alone
            out = tower.post_layernorm(out)
            first = model.visual_projection(out[:, 0])
        else:
            first = out[:, 0]
    grid = x.shape[1] // 14, x.shape[2] // 14
    patches = out[:, out.shape[1] - grid[0] * grid[1] :]
    return patches.reshape(len(x), *grid, -1).numpy(), first.numpy()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", [*VISION_ONLY, *WITH_TEXT])
def test_vision_tower_equals_torch(make, family, grid):
    torch, model, directory = make(family)
    teacher = load_teacher(directory)
    assert teacher.config.family == family
    x = pixels(*GRIDS[grid])
    patches, first = torch_features(torch, model, family, x)
    found = teacher.features(x)
    assert found.dtype == np.float32
    close(found, patches)
    close(teacher.encode_images(x), first)


@pytest.mark.parametrize("family", [*VISION_ONLY, *WITH_TEXT])
def test_other_rules_of_resizing_are_far_off(make, family, monkeypatch):
    torch, model, directory = make(family)
    right = FAMILIES[family]
    for rule in {"cubic", "cubic_antialias", "linear_antialias"} - {right.positions}:
        # A grid that shrinks one way: antialiasing changes nothing where a grid only grows.
        x = pixels(*GRIDS["not square"])
        patches, _ = torch_features(torch, model, family, x)
        monkeypatch.setitem(FAMILIES, family, dataclasses.replace(right, positions=rule))
        found = load_teacher(directory).features(x)
        monkeypatch.setitem(FAMILIES, family, right)
        assert np.abs(found - patches).max() > 100 * (5e-6 + 1e-5 * np.abs(patches).max())


def ids():
    rows = np.random.default_rng(1).integers(5, 60, (3, CONTEXT)).astype(np.int32)
    return rows


def text_rows(config, params, rows):
    return jax.jit(TextTower(config).apply)({"params": params}, rows)


def test_metaclip_is_pooled_at_its_first_end_token(make):
    torch, model, directory = make("metaclip_2")
    teacher = load_teacher(directory)
    rows = ids()
    for row, end in zip(rows, (11, 5, 8), strict=True):
        row[end:] = 1
        row[end] = END
    rows[1, 9] = END  # a second one, and higher ids before and behind
    rows[1, 10] = 59
    with torch.no_grad():
        pooled = model.text_model(torch.from_numpy(rows).long()).pooler_output
        expected = model.text_projection(pooled).numpy()
    close(text_rows(teacher.config, teacher.text_params, rows), expected)
    # The rule of CLIP's configs with end token 2 would take the highest id.
    wrong = dataclasses.replace(teacher.config, family="clip")
    assert np.abs(text_rows(wrong, teacher.text_params, rows) - expected).max() > 0.01


def test_tips_text_equals_torch(make):
    torch, model, directory = make("tipsv2")
    teacher = load_teacher(directory)
    rows = ids()
    rows[0, 3:] = 0
    rows[1, 8:] = 0
    with torch.no_grad():
        expected = model.text_model(
            torch.from_numpy(rows).long(), attention_mask=torch.from_numpy(rows != 0)
        ).pooler_output.numpy()
    close(text_rows(teacher.config, teacher.text_params, rows), expected)
    with torch.no_grad():
        logits = model(
            input_ids=torch.from_numpy(rows).long(),
            attention_mask=torch.from_numpy(rows != 0),
            pixel_values=torch.from_numpy(pixels(56, 56).transpose(0, 3, 1, 2)),
        ).logits_per_image.numpy()
    image, text = (
        np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True)
        for x in (teacher.encode_images(pixels(56, 56)), expected)
    )
    # A scale of 197 carries float32's rounding of a cosine to 2e-5.
    np.testing.assert_allclose(teacher.logit_scale * image @ text.T, logits, rtol=1e-5, atol=5e-5)
    assert teacher.mean == (0.0, 0.0, 0.0) and teacher.std == (1.0, 1.0, 1.0)


def test_tips_as_published(make, tmp_path):
    """The published names of the vision tower's MLP, and no temperature among the weights."""
    _, _, directory = make("tipsv2")
    tensors = load_file(directory / "model.safetensors")
    published = {
        re.sub(r"(vision_encoder.*mlp\.)c_fc", r"\1fc1", name).replace(
            "mlp.c_proj", "mlp.fc2" if name.startswith("vision") else "mlp.c_proj"
        ): value
        for name, value in tensors.items()
        if name != "temperature"
    }
    assert "vision_encoder.blocks.0.mlp.fc1.weight" in published
    assert "vision_encoder.blocks.0.mlp.fc2.bias" in published
    save_file(published, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    found, expected = load_teacher(tmp_path), load_teacher(directory)
    for left, right in (
        (found.vision_params, expected.vision_params),
        (found.text_params, expected.text_params),
    ):
        jax.tree.map(np.testing.assert_array_equal, left, right)
    np.testing.assert_allclose(found.logit_scale, 1 / 0.005065968260169029, rtol=1e-6)
    np.testing.assert_allclose(expected.logit_scale, found.logit_scale, rtol=1e-6)
    assert load_readout(found).logit_scale == found.logit_scale > FAMILIES["clip"].max_scale
    with pytest.raises(ValueError, match="is above 100"):
        load_readout("playground").get_preset({"logit_scale": "197"})
    assert load_readout(found).get_preset({"logit_scale": "197"}).logit_scale == 197


def test_tips_maskclip_equals_torch_modules(make):
    """The last block with each patch attending to itself alone, by torch's own modules."""
    torch, model, directory = make("tipsv2")
    x = pixels(56, 56)
    tower = model.vision_model
    with torch.no_grad():
        states = tower(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), output_hidden_states=True
        ).hidden_states
        last, tokens = tower.encoder.layer[-1], states[2]
        attended = last.attention.o_proj(last.attention.v_proj(last.norm1(tokens)))
        tokens = tokens + last.layer_scale1(attended)
        tokens = tokens + last.layer_scale2(last.mlp(last.norm2(tokens)))
        expected = tower.layernorm(tokens)[:, 2:].reshape(2, 4, 4, WIDTH).numpy()
    close(load_teacher(directory).dense(x, "maskclip"), expected)


@pytest.mark.parametrize("family", VISION_ONLY)
def test_words_are_refused_without_a_text_tower(make, family):
    _, _, directory = make(family)
    teacher = load_teacher(directory)
    with pytest.raises(CheckpointError, match="no text tower for class names"):
        teacher.encode_texts(["dog"])
    assert len(teacher.digest) == 64
    for readout in READOUTS[:3]:
        assert teacher.dense(pixels(56, 56), readout).shape == (2, 4, 4, WIDTH)


@pytest.mark.parametrize("family", ["dinov2", "tipsv2"])
def test_the_giant_is_refused_by_name(make, tmp_path, family):
    _, _, directory = make(family)
    raw = json.loads((directory / "config.json").read_text())
    (raw.get("vision_config") or raw)["use_swiglu_ffn"] = True
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="SwiGLU of the giant models"):
        load_teacher(tmp_path)


def test_layer_scale_folded_equals_layer_scale_applied(make):
    """Folding is exact in real arithmetic; here against the block with the scales beside it."""
    torch, model, directory = make("dinov2")
    config = load_teacher(directory).config
    tower = VisionTower(config)
    params = load_teacher(directory).vision_params
    tensors = load_file(directory / "model.safetensors")
    kernel = tensors["encoder.layer.1.attention.output.dense.weight"]
    scale = tensors["encoder.layer.1.layer_scale1.lambda1"]
    np.testing.assert_array_equal(
        params["blocks_1"]["attention"]["out"]["kernel"], kernel.T * scale
    )
    assert "scale1" not in params["blocks_1"]
    assert set(jax.eval_shape(tower.init, jax.random.key(0), pixels(56, 56))["params"]) == set(
        params
    )
