"""Settings of the published checkpoints, read by config alone; and settings that cannot be."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest

from zeroseg_jax.teacher import CheckpointError
from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, OPEN_CLIP, read_config
from zeroseg_jax.teacher.checkpoints.names import build_slots
from zeroseg_jax.teacher.clip import TextTower, VisionTower


def clip(vision, text, embed, **more):
    """A config.json with what the published one says beyond the defaults."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vision = dict(zip((*names, "patch_size", "image_size"), vision, strict=True))
    text = dict(zip(names, text, strict=True))
    return {"model_type": "clip", "projection_dim": embed, "vision_config": {**vision, **more},
            "text_config": {**text, **more}}  # fmt: skip


def siglip(vision, vocabulary=32000):
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vision = dict(zip((*names, "patch_size", "image_size"), vision, strict=True))
    text = {name: vision[name] for name in names} | {"vocab_size": vocabulary}
    text |= {"projection_size": vision["hidden_size"]}
    return {"model_type": "siglip", "vision_config": vision, "text_config": text}


SMALL, LARGE = (512, 12, 8, 2048), (768, 12, 12, 3072)
GELU = {"hidden_act": "gelu"}
PUBLISHED = {
    "OpenAI B/32": clip((768, 12, 12, 3072, 32, 224), SMALL, 512),
    "OpenAI B/16": clip((768, 12, 12, 3072, 16, 224), SMALL, 512),
    "OpenAI L/14": clip((1024, 24, 16, 4096, 14, 224), LARGE, 768),
    "OpenAI L/14-336": clip((1024, 24, 16, 4096, 14, 336), LARGE, 768),
    "LAION H/14": clip((1280, 32, 16, 5120, 14, 224), (1024, 24, 16, 4096), 1024, **GELU),
    "LAION g/14": clip((1408, 40, 16, 6144, 14, 224), (1024, 24, 16, 4096), 1024, **GELU),
    "LAION bigG/14": clip((1664, 48, 16, 8192, 14, 224), (1280, 32, 20, 5120), 1280, **GELU),
    "SigLIP B/16": siglip((768, 12, 12, 3072, 16, 224)),
    "SigLIP L/16-384": siglip((1024, 24, 16, 4096, 16, 384)),
    "SigLIP so400m/14-384": siglip((1152, 27, 16, 4304, 14, 384)),
    "SigLIP 2 B/16": siglip((768, 12, 12, 3072, 16, 224), 256000),
    "SigLIP 2 giant/16": siglip((1536, 40, 16, 6144, 16, 256), 256000) | {
        "text_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16,
                        "intermediate_size": 4304, "projection_size": 1536, "vocab_size": 256000},
    },
}  # fmt: skip


def save(directory, raw, name=HUGGING_FACE):
    (directory / name).write_text(json.dumps(raw))
    return directory


@pytest.mark.parametrize("name", PUBLISHED)
def test_tensors_on_disk_fit_the_towers_at_full_size(tmp_path, name):
    """Two blocks of each: the others are like them."""
    config = read_config(save(tmp_path, PUBLISHED[name]))
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, depth=2),
        text=dataclasses.replace(config.text, depth=2),
    )
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    ids = jnp.zeros((1, config.context_tokens), jnp.int32)
    towers = {"vision": (VisionTower(config), pixels), "text": (TextTower(config), ids)}
    expected = {}
    for part, (tower, x) in towers.items():
        shapes = jax.eval_shape(tower.init, jax.random.key(0), x)["params"]
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            expected["/".join([part, *(key.key for key in path)])] = leaf.shape
    found = {ours: slot.turned_shape for ours, slot in build_slots(config).items()}
    found = {ours: shape for ours, shape in found.items() if not ours.startswith("logit")}
    assert found == expected


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


OPEN_BIGG = {
    "model_cfg": {
        "embed_dim": 1280,
        "vision_cfg": {"image_size": 224, "layers": 48, "width": 1664, "head_width": 104,
                       "mlp_ratio": 4.9231, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1280, "heads": 20,
                     "layers": 32},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}  # fmt: skip


def test_open_clips_bigg_is_hugging_faces(tmp_path):
    theirs = read_config(save(tmp_path, PUBLISHED["LAION bigG/14"]))
    (tmp_path / HUGGING_FACE).unlink()
    ours = read_config(save(tmp_path, OPEN_BIGG, OPEN_CLIP))
    assert ours == theirs
    sizes = [
        sum(math.prod(slot.turned_shape) for slot in build_slots(theirs, layout).values())
        for layout in (HUGGING_FACE, OPEN_CLIP)
    ]
    assert sizes[0] == sizes[1] and 2.53e9 < sizes[0] < 2.55e9  # as published: 2.54 billion


def test_the_layout_whose_weights_are_there_is_read(tmp_path):
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
        ("text_cfg", "hf_model_name", "roberta-base", "text_cfg names 'roberta-base', a tower of"),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224", "SigLIP: google/siglip"),
        ("vision_cfg", "layers", [3, 4, 6, 3], "a ResNet"),
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
            build_slots(read_config(save(tmp_path, raw, layout)), layout)
        except CheckpointError as error:
            assert str(error).startswith(str(tmp_path / layout)) and str(error).count("\n") == 0
