"""Seconds from the start of `zeroseg segment` to its answer, for a CLIP of ViT-B/16's size.

python -m bench.speed.first_answer

The weights are random and lie in a folder; nothing is downloaded. "first": no program is compiled
and no class name is embedded yet. "other words": programs are compiled, the words are new. "again":
everything is cached. Peak memory is that of the process.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image
from safetensors.numpy import save_file

from bench import record
from bench.speed.timing import time_process
from zeroseg_jax.commands import flags
from zeroseg_jax.teacher.load import SHIPPED

_WORDS = {"first": "dog, sofa, floor, wall, lamp", "other words": "cat, bed, rug, door, window",
          "again": "dog, sofa, floor, wall, lamp"}  # fmt: skip
_VOCABULARY = 49408


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("repeats", 3, "number of timed processes of each kind", 1)
    absl_flags.DEFINE_string("readout", "", "dense read-out; empty: the family's default")
    record.define_output("first_answer")


def write_clip(directory: Path) -> None:
    """Write a random ViT-B/16 of OpenAI's sizes, with the shipped tokenizer filled up."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.02, shape).astype(np.float32)

    tensors = {"logit_scale": np.array(4.6, np.float32)}
    towers = {"vision_model": (768, 3072), "text_model": (512, 2048)}
    for tower, (width, wide) in towers.items():
        for i in range(12):
            layer = f"{tower}.encoder.layers.{i}"
            for name in ("layer_norm1", "layer_norm2"):
                tensors[f"{layer}.{name}.weight"] = np.ones(width, np.float32)
                tensors[f"{layer}.{name}.bias"] = np.zeros(width, np.float32)
            shapes = {f"self_attn.{p}_proj": (width, width) for p in ("q", "k", "v", "out")}
            shapes |= {"mlp.fc1": (wide, width), "mlp.fc2": (width, wide)}
            for name, shape in shapes.items():
                tensors[f"{layer}.{name}.weight"] = draw(*shape)
                tensors[f"{layer}.{name}.bias"] = np.zeros(shape[0], np.float32)
    for name, width in (("vision_model.pre_layrnorm", 768), ("vision_model.post_layernorm", 768),
                        ("text_model.final_layer_norm", 512)):  # fmt: skip
        tensors[f"{name}.weight"] = np.ones(width, np.float32)
        tensors[f"{name}.bias"] = np.zeros(width, np.float32)
    tensors |= {
        "vision_model.embeddings.class_embedding": draw(768),
        "vision_model.embeddings.patch_embedding.weight": draw(768, 3, 16, 16),
        "vision_model.embeddings.position_embedding.weight": draw(197, 768),
        "text_model.embeddings.token_embedding.weight": draw(_VOCABULARY, 512),
        "text_model.embeddings.position_embedding.weight": draw(77, 512),
        "visual_projection.weight": draw(512, 768),
        "text_projection.weight": draw(512, 512),
    }
    save_file(tensors, directory / "model.safetensors")
    config = {
        "model_type": "clip", "projection_dim": 512,
        "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                          "num_attention_heads": 12, "patch_size": 16, "image_size": 224},
        "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
                        "num_attention_heads": 8, "vocab_size": _VOCABULARY},
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(_fill_tokenizer()))


def _fill_tokenizer() -> dict:
    """Return the shipped tokenizer with OpenAI's number of tokens; the added ones never occur."""
    tokenizer = json.loads((SHIPPED / "tokenizer.json").read_text())
    ends = ("<|startoftext|>", "<|endoftext|>")
    vocabulary = {t: i for t, i in tokenizer["model"]["vocab"].items() if t not in ends}
    filler = range(len(vocabulary), _VOCABULARY - len(ends))
    vocabulary |= {f"<|{i}|>": i for i in filler}
    for i, token in enumerate(ends, _VOCABULARY - len(ends)):
        vocabulary[token] = i
        tokenizer["added_tokens"][i - _VOCABULARY + len(ends)]["id"] = i
    tokenizer["model"]["vocab"] = vocabulary
    tokenizer["post_processor"] |= {
        "cls": [ends[0], vocabulary[ends[0]]], "sep": [ends[1], vocabulary[ends[1]]]
    }  # fmt: skip
    return tokenizer


def main(arguments: list[str]) -> None:
    """Time the processes in alternating rounds; print medians and write all seconds."""
    del arguments
    seconds: dict[str, list[float]] = {name: [] for name in _WORDS}
    cpu: dict[str, list[float]] = {name: [] for name in _WORDS}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "clip").mkdir()
        write_clip(root / "clip")
        coarse = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(root / "a.jpg")
        for i in range(FLAGS.repeats):
            for name, words in _WORDS.items():
                command = [sys.executable, "-m", "zeroseg_jax", "segment", str(root / "a.jpg"),
                           f"--model={root / 'clip'}", f"--words={words}",
                           f"--readout={FLAGS.readout}", f"--output={root / 'out'}"]  # fmt: skip
                took, used = time_process(command, root / f"cache-{i}")
                seconds[name].append(round(took, 2))
                cpu[name].append(round(used, 2))
                print(
                    f"{name:12s} {seconds[name][-1]:.2f} s, CPU {cpu[name][-1]:.2f} s", flush=True
                )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    print(f"medians: {medians}; peak memory {peak:.2f} GB")
    record.write(
        {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "medians": medians,
            "peak_memory_gb": round(peak, 2),
        }
    )


if __name__ == "__main__":
    flags.run(main, define_flags)
