"""Small random models in their published layouts, behind the names of the alias table.

`python -m small_hub ARGUMENTS` is `zeroseg ARGUMENTS` with one difference: the alias table holds
the checksums of the small files, from $SMALL_SUMS, in place of those of the published weights. The
commits and every other entry stay, and so does the code that reads them.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import sys

import jax
import numpy as np
import small_clips
from fakehub import FakeHub
from safetensors.numpy import save_file

from zeroseg_jax.teacher import aliases
from zeroseg_jax.teacher.checkpoints.hugging_face import to_config, to_tensors
from zeroseg_jax.teacher.load import SHIPPED
from zeroseg_jax.teacher.playground.clip import init_params
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

# Twelve blocks, as scclip reads the middle ones; the vocabulary is that of the shipped tokenizer.
CONFIG = ClipConfig(
    vision=TowerConfig(64, 12, 1, 128, "quick_gelu", 1e-5),
    text=TowerConfig(64, 2, 1, 128, "quick_gelu", 1e-5),
    embed_dim=64, image_px=224, patch_px=16, vocabulary=670, context_tokens=32, end_token=669,
)  # fmt: skip
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


@functools.cache
def random_tensors():
    return to_tensors(jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(1)), CONFIG)


def write_clip(directory, *, shards=False):
    """Write Hugging Face's layout, in one file or in shards with their index."""
    tensors = random_tensors()
    small_clips.save(directory, tensors, to_config(CONFIG))
    _add_tokenizer(directory)
    if shards:
        (directory / "model.safetensors").unlink()
        names = sorted(tensors)
        index = {}
        for i, part in enumerate((names[::2], names[1::2]), 1):
            file = f"model-{i:05}-of-00002.safetensors"
            save_file({name: tensors[name] for name in part}, directory / file)
            index |= dict.fromkeys(part, file)
        text = json.dumps({"metadata": {}, "weight_map": index})
        (directory / "model.safetensors.index.json").write_text(text)
    return directory


def write_timm(directory):
    """Write timm's layout: OpenCLIP's two towers, and the vision tower alone beside them."""
    part = {"layers": 12, "width": 64, "mlp_ratio": 2.0}
    config = {
        "model_cfg": {
            "embed_dim": 64, "quick_gelu": True,
            "vision_cfg": {"image_size": 224, "patch_size": 16, **part},
            "text_cfg": {"context_length": 32, "vocab_size": 670, "heads": 1, **part, "layers": 2},
        },
        "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
    }  # fmt: skip
    small_clips.save_open_clip(directory, random_tensors(), config)
    (directory / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip"}))
    save_file({"head": np.zeros(4, np.float32)}, directory / "model.safetensors")
    (directory / "pytorch_model.bin").write_bytes(b"never fetched")
    _add_tokenizer(directory)
    return directory


def write_dinov2(directory):
    """Write a DINOv2 with registers as transformers does; needs torch."""
    import transformers

    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    transformers.Dinov2WithRegistersModel(config).save_pretrained(directory)
    return directory


def _add_tokenizer(directory):
    for name in _TOKENIZER:
        if (SHIPPED / name).is_file():
            shutil.copyfile(SHIPPED / name, directory / name)


def start(folders):
    """Serve {alias or "owner/name": folder} at the commits of the alias table.

    Returns:
      The hub, and the environment variables for child processes, without the cache.
    """
    repositories, sums = {}, {}
    for name, folder in folders.items():
        alias = aliases.ALIASES.get(name)
        repositories[alias.repository if alias else name] = {
            alias.revision if alias else "main": folder
        }
        if alias:
            sums[name] = dict(with_sums(name, folder).sha256)
    hub = FakeHub(repositories)
    return hub, {"HF_ENDPOINT": hub.url, "SMALL_SUMS": json.dumps(sums)}


def with_sums(name, folder):
    """Return the entry of an alias with the checksums of a small folder."""
    alias = aliases.ALIASES[name]
    sums = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in alias.sha256}
    return dataclasses.replace(alias, sha256=sums)


def record_small_sums():
    """Put the checksums of $SMALL_SUMS into the alias table."""
    for name, sums in json.loads(os.environ["SMALL_SUMS"]).items():
        aliases.ALIASES[name] = dataclasses.replace(aliases.ALIASES[name], sha256=sums)


if __name__ == "__main__":
    from zeroseg_jax.commands.main import main

    record_small_sums()
    sys.exit(main())
