"""Train the Playground's CLIP on its captions and write it in Hugging Face's layout.

    python -m zeroseg_jax.teacher.playground.clip --output=DIR

The recipe is in the constants below; pretrain.json beside the weights keeps the log and the
zero-shot accuracy. The shipped checkpoint was made by exactly this command.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags as absl_flags
from absl.flags import FLAGS
from safetensors.numpy import save_file

from zeroseg_jax.commands import flags
from zeroseg_jax.data.playground.captions import describe
from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    FILLS,
    SHAPES,
    STUFF,
    TRAIN_SEED,
    build_scene,
)
from zeroseg_jax.teacher.checkpoints.config import write_config
from zeroseg_jax.teacher.checkpoints.names import to_hf
from zeroseg_jax.teacher.checkpoints.tensors import read_params
from zeroseg_jax.teacher.clip import ClipConfig, TextTower, TowerConfig, VisionTower
from zeroseg_jax.teacher.playground import training_pictures as diet
from zeroseg_jax.teacher.playground import zero_shot as probe
from zeroseg_jax.teacher.tokenizer import load_tokenizer

GROUPS, VIEWS = 6, 24  # pictures a step: 6 groups of 12 shapes and 24 views
CONTEXT_TOKENS = 32
WEIGHT_DECAY = 0.05
WARMUP_STEPS = 300
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own
STD = (0.26862954, 0.26130258, 0.27577711)


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", "runs/playground-clip", "directory for the checkpoint")
    absl_flags.DEFINE_integer("steps", 7_000, "training steps", lower_bound=1)
    absl_flags.DEFINE_string("init", "", "directory of an earlier stage to go on from")
    absl_flags.DEFINE_integer("stop", 0, "stop after so many steps of the schedule; 0: all")
    absl_flags.DEFINE_float(
        "easy_share", 0.3,
        "share of the steps in which things grow from large and upright to any pose",
    )  # fmt: skip
    absl_flags.DEFINE_integer("stream", 7, "seed of the pictures; another one for a later stage")
    absl_flags.DEFINE_float("rate", 1.5e-3, "peak learning rate")
    absl_flags.DEFINE_integer("log_every_steps", 250, "steps between log lines", lower_bound=1)


def build_tokenizer(directory: Path) -> int:
    """Train CLIP's byte-pair tokenizer on captions, write its files, return the vocabulary size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    rng = np.random.default_rng(0)
    corpus = [describe(build_scene(TRAIN_SEED, i), rng) for i in range(4000)]
    corpus += [" ".join((*SHAPES, *COLOURS, *FILLS, *STUFF))] * 50
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=1500, initial_alphabet=sorted(alphabet), end_of_word_suffix="</w>"
        ),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    symbols = sorted(alphabet) + [s + "</w>" for s in sorted(alphabet)]
    symbols += ["".join(pair) for pair in merges]
    symbols = list(dict.fromkeys(symbols)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_TOKENS)
    tokenizer.save_pretrained(directory)
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(vocabulary)


def build_config(vocabulary: int) -> ClipConfig:
    """Return the size of the Playground's CLIP."""
    vision = TowerConfig(128, 4, 2, 512, "quick_gelu", 1e-5)
    text = TowerConfig(128, 2, 2, 512, "quick_gelu", 1e-5)
    return ClipConfig(
        vision=vision,
        text=text,
        embed_dim=128,
        image_px=48,
        patch_px=8,
        vocabulary=vocabulary,
        context_tokens=CONTEXT_TOKENS,
        end_token=vocabulary - 1,
    )


def build_step(config: ClipConfig, optimizer: optax.GradientTransformation):
    """Return the jitted step (params, state, images uint8, ids) -> (params, state, metrics)."""
    vision, text = VisionTower(config), TextTower(config)

    def loss_fn(params, images, ids):
        pixels = (images.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(STD)
        image = vision.apply({"params": params["vision"]}, pixels)
        words = text.apply({"params": params["text"]}, ids)
        image = image / jnp.linalg.norm(image, axis=-1, keepdims=True)
        words = words / jnp.linalg.norm(words, axis=-1, keepdims=True)
        scale = jnp.exp(jnp.minimum(params["logit_scale"], jnp.log(100.0)))
        logits = scale * image @ words.T
        diagonal = jnp.arange(len(images))
        by_image = optax.softmax_cross_entropy_with_integer_labels(logits, diagonal)
        by_text = optax.softmax_cross_entropy_with_integer_labels(logits.T, diagonal)
        right = (logits.argmax(axis=1) == diagonal).mean()
        return (by_image.mean() + by_text.mean()) / 2, {"matched": right, "scale": scale}

    @jax.jit
    def step(params, state, images, ids):
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, images, ids)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, {"loss": loss, **metrics}

    return step


def build_optimizer(peak: float, steps: int) -> optax.GradientTransformation:
    """Return clipped AdamW with a warm-up and a half cosine; only matrices decay."""
    rate = optax.warmup_cosine_decay_schedule(0, peak, min(WARMUP_STEPS, steps // 4), steps)
    decayed = optax.adamw(
        rate, b2=0.98, weight_decay=WEIGHT_DECAY, mask=lambda p: jax.tree.map(_is_matrix, p)
    )
    return optax.chain(optax.clip_by_global_norm(1.0), decayed)


def init_params(config: ClipConfig, key: jax.Array):
    """Initialise both towers and the logit scale (1 / 0.07, CLIP's)."""
    first, second = jax.random.split(key)
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    ids = jnp.zeros((1, config.context_tokens), jnp.int32)
    return {
        "vision": VisionTower(config).init(first, pixels)["params"],
        "text": TextTower(config).init(second, ids)["params"],
        "logit_scale": jnp.log(jnp.float32(1 / 0.07)),
    }


def save(directory: Path, params, config: ClipConfig, record: dict) -> None:
    """Write weights, configs and the record; each file is written aside and renamed."""
    tensors = to_hf(jax.device_get(params), config)
    save_file(tensors, directory / "model.safetensors.part", metadata={"format": "pt"})
    (directory / "model.safetensors.part").rename(directory / "model.safetensors")
    size = config.image_px
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    for name, content in (
        ("config.json", write_config(config)),
        ("preprocessor_config.json", preprocessor),
        ("pretrain.json", record),
    ):
        part = directory / f"{name}.part"
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.rename(directory / name)


def main(argv: list[str]) -> None:
    """Train, probe and save."""
    del argv
    directory = Path(FLAGS.output)
    directory.mkdir(parents=True, exist_ok=True)
    first = Path(FLAGS.init) if FLAGS.init else None
    config = build_config(build_tokenizer(directory))
    if (
        first
        and (first / "tokenizer.json").read_bytes() != (directory / "tokenizer.json").read_bytes()
    ):
        raise ValueError(f"--init: {first} has another tokenizer than this version makes.")
    encode = load_tokenizer(directory, config)
    optimizer = build_optimizer(FLAGS.rate, FLAGS.steps)
    params = init_params(config, jax.random.key(0))
    # Words far apart from the start: with CLIP's 0.02 the texts of a group begin as one
    # point, and the towers wait for each other to tell shapes apart.
    params["text"]["token_embedding"]["embedding"] *= 10.0
    if first:
        params = read_params(first, config)
    state = optimizer.init(params)
    step_fn = build_step(config, optimizer)

    def feed(step: int):
        rng = np.random.default_rng((FLAGS.stream, step))
        images, captions = diet.build_batch(
            rng,
            config.image_px,
            groups=GROUPS,
            views=VIEWS,
            seed=TRAIN_SEED,
            difficulty=min(1.0, step / max(1.0, FLAGS.easy_share * FLAGS.steps)),
        )
        return images, _trim(encode(captions), config.end_token)

    last = FLAGS.stop or FLAGS.steps
    log, begin = [], time.time()
    recipe = {
        "steps": FLAGS.steps,
        "stop": last,
        "rate": FLAGS.rate,
        "easy_share": FLAGS.easy_share,
        "stream": FLAGS.stream,
        "earlier": json.loads((first / "pretrain.json").read_text()) if first else None,
    }
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(feed, step) for step in range(3)]
        for step in range(last):
            images, ids = ahead.pop(0).result()
            ahead.append(pool.submit(feed, step + 3))
            params, state, metrics = step_fn(params, state, images, ids)
            if (step + 1) % FLAGS.log_every_steps and step + 1 != last:
                continue
            seconds = time.time() - begin
            entry = {"step": step + 1, "images": (step + 1) * len(images), "seconds": seconds}
            entry |= {name: float(value) for name, value in metrics.items()}
            entry |= probe.zero_shot(params, config, encode, count=240)
            log.append({k: round(v, 4) for k, v in entry.items()})
            left = seconds / (step + 1) * (last - step - 1)
            print(json.dumps(log[-1]), f"eta {left / 60:.0f} min", flush=True)
            save(directory, params, config, {**recipe, "log": log})
    final = probe.zero_shot(params, config, encode, count=2400)
    save(directory, params, config, {**recipe, "zero_shot": final, "log": log})
    print("zero-shot accuracy on unseen single-thing crops:", final)


def _trim(ids: np.ndarray, end_token: int) -> np.ndarray:
    """Drop columns of padding that no text of the batch needs, in steps of eight."""
    longest = int((ids != end_token).sum(axis=1).max()) + 1
    return ids[:, : -(-longest // 8) * 8]


def _is_matrix(leaf) -> bool:
    return leaf.ndim > 1


if __name__ == "__main__":
    flags.run(main, define_flags)
