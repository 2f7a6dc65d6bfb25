"""CLIP parameters to Hugging Face's config.json and model.safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from zeroseg_jax.data import files
from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, WEIGHTS
from zeroseg_jax.teacher.checkpoints.names import list_tensors
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig


def to_config(config: ClipConfig) -> dict[str, Any]:
    """Return the content of config.json for a CLIP with both towers."""
    text = config.text
    if text is None:
        raise ValueError("config: the text tower is missing; give both towers.")

    def tower(part: TowerConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "intermediate_size": part.mlp_width,
            "num_hidden_layers": part.depth,
            "num_attention_heads": part.heads,
            "hidden_act": part.activation,
            "layer_norm_eps": part.eps,
            "projection_dim": config.embed_dim,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "vision_config": {
            **tower(config.vision),
            "model_type": "clip_vision_model",
            "image_size": config.image_px,
            "patch_size": config.patch_px,
        },
        "text_config": {
            **tower(text),
            "model_type": "clip_text_model",
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.context_tokens,
            "bos_token_id": config.end_token - 1,
            "eos_token_id": config.end_token,
            "pad_token_id": config.end_token,
        },
    }


def to_tensors(params: dict[str, Any], config: ClipConfig) -> dict[str, np.ndarray]:
    """Return the parameters of a CLIP as float32 tensors with Hugging Face's names and layouts."""
    tensors = {}
    for ours, tensor in list_tensors(config).items():
        leaf: Any = params
        for part in ours.split("/"):
            leaf = leaf[part]
        value = np.asarray(leaf, np.float32)
        if tensor.layout == "patches":
            width, channels, patch, _ = tensor.shape
            value = value.reshape(patch, patch, channels, width).transpose(3, 2, 0, 1)
        elif tensor.layout == "transposed":
            value = value.T
        tensors[tensor.name] = np.array(value.reshape(tensor.shape), order="C")
    return tensors


def write_checkpoint(
    directory: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    """Write model.safetensors and config.json, each atomically; existing ones are replaced."""
    with files.atomic_path(directory / WEIGHTS[HUGGING_FACE][0]) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    files.write_json(directory / HUGGING_FACE, config)
