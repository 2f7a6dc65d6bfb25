"""Configs: published ones as transformers reads them, and settings that are refused."""

import json

import pytest
from published_clips import OPEN_BIGG, PUBLISHED, save
from small_clips import CONFIG, OPEN_CLIP_CONFIG, save_open_clip
from small_clips import save as save_small

from zeroseg_jax.teacher.checkpoints.config import (
    HUGGING_FACE,
    OPEN_CLIP,
    CheckpointError,
    read_config,
)
from zeroseg_jax.teacher.checkpoints.hugging_face import to_config
from zeroseg_jax.teacher.checkpoints.names import list_tensors
from zeroseg_jax.teacher.load import load_teacher


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_read_as_transformers_reads_them(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    raw = PUBLISHED[name]
    kind = "SiglipConfig" if raw["model_type"] == "siglip" else "CLIPConfig"
    theirs = getattr(transformers, kind).from_dict(raw)
    config = read_config(save(tmp_path, raw))
    for ours, other in ((config.vision, theirs.vision_config), (config.text, theirs.text_config)):
        assert (ours.width, ours.depth) == (other.hidden_size, other.num_hidden_layers)
        assert (ours.heads, ours.mlp_width) == (other.num_attention_heads, other.intermediate_size)
        act = other.hidden_act.replace("_pytorch", "")
        assert (ours.activation, ours.eps) == (act, other.layer_norm_eps)
    assert config.vocabulary == theirs.text_config.vocab_size
    assert config.context_tokens == theirs.text_config.max_position_embeddings
    assert config.patch_px == theirs.vision_config.patch_size


def test_the_older_spelling_counts_as_in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    raw = PUBLISHED["LAION H/14"]
    older = {"hidden_size": 1280, "num_attention_heads": 20, "hidden_act": "gelu"}
    raw = {**raw, "text_config_dict": older, "vision_config_dict": None}
    theirs = transformers.CLIPConfig.from_dict(raw).text_config
    text = read_config(save(tmp_path, raw)).text
    assert (text.width, text.depth, text.heads, text.mlp_width) == (
        theirs.hidden_size, theirs.num_hidden_layers, theirs.num_attention_heads,
        theirs.intermediate_size,
    )  # fmt: skip
    assert text.depth == 12  # a default, over the 24 of text_config


def test_the_format_whose_weights_are_there_is_read(tmp_path):
    save(tmp_path, PUBLISHED["OpenAI B/32"])
    save(tmp_path, OPEN_BIGG, OPEN_CLIP)
    assert read_config(tmp_path).embed_dim == 512
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    assert read_config(tmp_path).embed_dim == 1280
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert read_config(tmp_path).embed_dim == 512


@pytest.mark.parametrize(
    ("part", "field", "value", "sentence"),
    [
        ("text_cfg", "hf_model_name", "roberta-base", "text_cfg uses 'roberta-base', a tower of"),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224", "SigLIP: google/siglip"),
        ("vision_cfg", "layers", [3, 4, 6, 3], "this is a ResNet"),
        ("vision_cfg", "ls_init_value", 0.1, "vision_cfg.ls_init_value is 0.1, which changes"),
        ("text_cfg", "pool_type", "last", "text_cfg.pool_type is 'last'"),
        ("text_cfg", "never_heard_of", True, "text_cfg.never_heard_of is True"),
        (None, "custom_text", True, "model_cfg.custom_text is True"),
        (None, "multimodal_cfg", {"width": 1}, "model_cfg.multimodal_cfg is"),
    ],
)
def test_what_open_clip_builds_otherwise_is_refused(tmp_path, part, field, value, sentence):
    raw = json.loads(json.dumps(OPEN_BIGG))
    (raw["model_cfg"][part] if part else raw["model_cfg"])[field] = value
    with pytest.raises(CheckpointError, match=sentence):
        read_config(save(tmp_path, raw, OPEN_CLIP))


def _paths(tree, at=()):
    for key, value in tree.items():
        yield (*at, key)
        if isinstance(value, dict):
            yield from _paths(value, (*at, key))


@pytest.mark.parametrize("odd", [None, "x", "", -1, 0, 3.7, 1e30, True, [], [224], {}, {"a": 1}])
@pytest.mark.parametrize("name", ["OpenAI B/32", "SigLIP 2 giant/16", OPEN_CLIP])
def test_no_odd_value_gives_a_traceback(tmp_path, name, odd):
    """Any field, any type: a config, or one sentence that names the file."""
    layout = OPEN_CLIP if name == OPEN_CLIP else HUGGING_FACE
    whole = OPEN_BIGG if name == OPEN_CLIP else PUBLISHED[name]
    for path in _paths(whole):
        raw = json.loads(json.dumps(whole))
        part = raw
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = odd
        try:
            list_tensors(read_config(save(tmp_path, raw, layout)), layout)
        except CheckpointError as error:
            assert str(error).startswith(str(tmp_path / layout)) and str(error).count("\n") == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(model_type="bert"), "model_type is 'bert'"),
        (lambda c: c.update(model_type="siglip2"), "not NaFlex"),
        (lambda c: c["vision_config"].update(hidden_act="silu"), "hidden_act is 'silu'"),
        (lambda c: c["vision_config"].update(num_attention_heads=7), "not a multiple of its 7"),
        (lambda c: c["vision_config"].update(patch_size=0), "patch_size is 0"),
        (lambda c: c["text_config"].update(hidden_size="64"), "text width is '64'"),
        (
            lambda c: c["vision_config"].update(image_size=4),
            "larger than image_size 4",
        ),
    ],
)
def test_configs_that_cannot_be(tensors, tmp_path, change, sentence):
    config = to_config(CONFIG)
    change(config)
    with pytest.raises(CheckpointError, match=sentence):
        load_teacher(save_small(tmp_path / "odd", tensors, config))


def test_open_clip_needs_its_fields(tensors, tmp_path):
    config = json.loads(json.dumps(OPEN_CLIP_CONFIG))
    del config["model_cfg"]["embed_dim"]
    with pytest.raises(CheckpointError, match="'embed_dim' is missing"):
        load_teacher(save_open_clip(tmp_path / "b", tensors, config))
