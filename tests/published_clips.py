"""Configs of the published CLIPs and SigLIPs, with what they say beyond the defaults."""

import json

from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE


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


def save(directory, raw, name=HUGGING_FACE):
    (directory / name).write_text(json.dumps(raw))
    return directory
