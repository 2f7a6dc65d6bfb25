"""Small random CLIPs in Hugging Face's and OpenCLIP's formats."""

import json

import jax
import numpy as np
from safetensors.numpy import save_file

from zeroseg_jax.teacher.checkpoints.hugging_face import to_config, to_tensors
from zeroseg_jax.teacher.playground.clip import init_params
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

CONFIG = ClipConfig(
    vision=TowerConfig(64, 2, 1, 128, "quick_gelu", 1e-5),
    text=TowerConfig(64, 2, 1, 128, "quick_gelu", 1e-5),
    embed_dim=20, image_px=32, patch_px=8, vocabulary=60, context_tokens=12, end_token=59,
)  # fmt: skip


def random_tensors():
    return to_tensors(jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0)), CONFIG)


def save(directory, tensors, config=None, name="model.safetensors"):
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / name)
    (directory / "config.json").write_text(json.dumps(config or to_config(CONFIG)))
    return directory


def pixels():
    return np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)


def to_open_clip(tensors):
    """Rename by hand, apart from the project's own table."""
    out = {}
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        depth = sum(n.startswith(tower) and n.endswith("layer_norm1.bias") for n in tensors)
        for i in range(depth):
            left, right = f"{tower}.encoder.layers.{i}", f"{prefix}.resblocks.{i}"
            for kind in ("weight", "bias"):
                parts = [tensors[f"{left}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                out[f"{right}.attn.in_proj_{kind}"] = np.concatenate(parts)
                out[f"{right}.attn.out_proj.{kind}"] = tensors[f"{left}.self_attn.out_proj.{kind}"]
                out[f"{right}.ln_1.{kind}"] = tensors[f"{left}.layer_norm1.{kind}"]
                out[f"{right}.ln_2.{kind}"] = tensors[f"{left}.layer_norm2.{kind}"]
                out[f"{right}.mlp.c_fc.{kind}"] = tensors[f"{left}.mlp.fc1.{kind}"]
                out[f"{right}.mlp.c_proj.{kind}"] = tensors[f"{left}.mlp.fc2.{kind}"]
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = tensors[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = tensors[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = tensors[f"text_model.final_layer_norm.{kind}"]
    out |= {
        "visual.conv1.weight": tensors["vision_model.embeddings.patch_embedding.weight"],
        "visual.class_embedding": tensors["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": tensors["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": tensors["visual_projection.weight"].T,
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T,
        "logit_scale": tensors["logit_scale"],
    }
    return {name: np.array(value, order="C") for name, value in out.items()}


OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 20, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8,
                       "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 64, "heads": 1, "layers": 2,
                     "mlp_ratio": 2.0},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
}  # fmt: skip


def save_open_clip(directory, tensors, config=OPEN_CLIP_CONFIG):
    directory.mkdir(exist_ok=True)
    save_file(to_open_clip(tensors), directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found.vision_params, expected.vision_params)
    jax.tree.map(np.testing.assert_array_equal, found.text_params, expected.text_params)
