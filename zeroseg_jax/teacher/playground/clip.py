"""Training of the Playground's CLIP on captions, written in Hugging Face's layout.

The recipe is in the constants below. pretrain.json beside the weights holds the settings, the log
and the zero-shot accuracy. `make playground-clip` runs the four stages of the shipped CLIP.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zeroseg_jax.data import files
from zeroseg_jax.data.playground.captions import describe
from zeroseg_jax.data.playground.scenes import (
    COLOURS,
    FILLS,
    SHAPES,
    STUFF,
    TRAIN_SEED,
    build_scene,
)
from zeroseg_jax.data.progress import render_duration
from zeroseg_jax.teacher.checkpoints import hugging_face
from zeroseg_jax.teacher.checkpoints.config import read_object
from zeroseg_jax.teacher.checkpoints.tensors import read_params
from zeroseg_jax.teacher.playground import training_images, zero_shot
from zeroseg_jax.teacher.tokenizer import Encode, load_tokenizer
from zeroseg_jax.teacher.towers import (
    CLIP_MEAN,
    CLIP_STD,
    ClipConfig,
    TextTower,
    TowerConfig,
    VisionTower,
)

GROUPS, VIEWS = 6, 24  # images of a step: 6 groups of 12 shapes, and 24 views
_AHEAD = 3  # batches that are built in the background
CONTEXT_TOKENS = 32
WEIGHT_DECAY = 0.05
WARMUP_STEPS = 300


@dataclasses.dataclass(frozen=True)
class PretrainOptions:
    """One stage of training.

    Attributes:
      steps: length of the learning rate schedule in steps.
      stop: number of steps to run; 0 for all.
      rate: peak learning rate.
      easy_share: fraction of the steps over which poses grow from large and upright to any.
      stream: seed of the images; a later stage needs another one.
      log_every_steps: steps between log lines, zero-shot tests and saves.
      init: directory of the stage before, or None.
    """

    steps: int
    stop: int
    rate: float
    easy_share: float
    stream: int
    log_every_steps: int
    init: Path | None


def build_tokenizer(directory: Path) -> int:
    """Train CLIP's byte-pair tokenizer on captions and write its files; return its size."""
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
    """Return the settings of the Playground's CLIP."""
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


def build_step(config: ClipConfig, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """Build the jitted step (params, state, images uint8, ids) -> (params, state, metrics)."""
    vision, text = VisionTower(config), TextTower(config)

    def loss_fn(params, images, ids):
        pixels = (images.astype(jnp.float32) / 255 - jnp.array(CLIP_MEAN)) / jnp.array(CLIP_STD)
        image = vision.apply({"params": params["vision"]}, pixels)
        texts = text.apply({"params": params["text"]}, ids)
        image = image / jnp.linalg.norm(image, axis=-1, keepdims=True)
        texts = texts / jnp.linalg.norm(texts, axis=-1, keepdims=True)
        scale = jnp.exp(jnp.minimum(params["logit_scale"], jnp.log(100.0)))
        logits = scale * image @ texts.T
        diagonal = jnp.arange(len(images))
        by_image = optax.softmax_cross_entropy_with_integer_labels(logits, diagonal)
        by_text = optax.softmax_cross_entropy_with_integer_labels(logits.T, diagonal)
        matched = (logits.argmax(axis=1) == diagonal).mean()
        return (by_image.mean() + by_text.mean()) / 2, {"matched": matched, "scale": scale}

    @jax.jit
    def step(params, state, images, ids):
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, images, ids)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, {"loss": loss, **metrics}

    return step


def build_optimizer(peak: float, steps: int) -> optax.GradientTransformation:
    """Return AdamW with clipped gradients, warm-up and cosine decay; only matrices decay."""
    rate = optax.warmup_cosine_decay_schedule(0, peak, min(WARMUP_STEPS, steps // 4), steps)
    decayed = optax.adamw(
        rate, b2=0.98, weight_decay=WEIGHT_DECAY, mask=lambda p: jax.tree.map(_is_matrix, p)
    )
    return optax.chain(optax.clip_by_global_norm(1.0), decayed)


def init_params(config: ClipConfig, key: jax.Array) -> dict[str, Any]:
    """Initialise both towers, and the logit scale to CLIP's 1 / 0.07."""
    first, second = jax.random.split(key)
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    ids = jnp.zeros((1, config.context_tokens), jnp.int32)
    return {
        "vision": VisionTower(config).init(first, pixels)["params"],
        "text": TextTower(config).init(second, ids)["params"],
        "logit_scale": jnp.log(jnp.float32(1 / 0.07)),
    }


def save(
    directory: Path, params: dict[str, Any], config: ClipConfig, record: dict[str, Any]
) -> None:
    """Write the weights, config.json, preprocessor_config.json and pretrain.json."""
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
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }
    tensors = hugging_face.to_tensors(jax.device_get(params), config)
    hugging_face.write_checkpoint(directory, hugging_face.to_config(config), tensors)
    files.write_json(directory / "preprocessor_config.json", preprocessor)
    files.write_json(directory / "pretrain.json", record)


def pretrain(directory: Path, options: PretrainOptions, log: Callable[[str], None] = print) -> None:
    """Train a stage, test it zero-shot and write the checkpoint.

    Args:
      directory: directory of the checkpoint to write.
      options: length, learning rate and seed of the stage.
      log: receiver of a line of JSON every options.log_every_steps.

    Raises:
      ValueError: the stage before has another tokenizer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = build_config(build_tokenizer(directory))
    _check_tokenizers(options.init, directory)
    encode = load_tokenizer(directory, config)
    optimizer = build_optimizer(options.rate, options.steps)
    params = _start(config, options.init)
    state = optimizer.init(params)
    step_fn = build_step(config, optimizer)
    last = options.stop or options.steps
    entries: list[dict[str, Any]] = []
    begin = time.time()
    recipe = _describe(options, last)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(_feed, options, config, encode, step) for step in range(_AHEAD)]
        for step in range(last):
            images, ids = ahead.pop(0).result()
            ahead.append(pool.submit(_feed, options, config, encode, step + _AHEAD))
            params, state, metrics = step_fn(params, state, images, ids)
            if (step + 1) % options.log_every_steps and step + 1 != last:
                continue
            seconds = time.time() - begin
            entry = {"step": step + 1, "images": (step + 1) * len(images), "seconds": seconds}
            entry |= {name: float(value) for name, value in metrics.items()}
            entry |= zero_shot.measure_accuracy(params, config, encode, count=240)
            entries.append({k: round(v, 4) for k, v in entry.items()})
            left = render_duration(seconds / (step + 1) * (last - step - 1))
            log(f"{json.dumps(entries[-1])} {left} left")
            save(directory, params, config, {**recipe, "log": entries})
    final = zero_shot.measure_accuracy(params, config, encode, count=2400)
    save(directory, params, config, {**recipe, "zero_shot": final, "log": entries})
    log(f"zero-shot accuracy on unseen crops of one thing: {final}")


def _check_tokenizers(before: Path | None, directory: Path) -> None:
    if before is None:
        return
    files = [path / "tokenizer.json" for path in (before, directory)]
    if files[0].read_bytes() != files[1].read_bytes():
        raise ValueError(
            f"--init: the tokenizer of {before} differs from this version's; run its stage again."
        )


def _start(config: ClipConfig, before: Path | None) -> dict[str, Any]:
    if before is not None:
        return read_params(before, config)
    params = init_params(config, jax.random.key(0))
    # Embeddings far apart from the start. With CLIP's 0.02 all texts of a group begin as one
    # point, and neither tower learns shapes before the other does.
    params["text"]["token_embedding"]["embedding"] *= 10.0
    return params


def _describe(options: PretrainOptions, last: int) -> dict[str, Any]:
    record = dataclasses.asdict(options)
    before = record.pop("init")
    del record["log_every_steps"]
    record["stop"] = last
    record["earlier"] = read_object(before / "pretrain.json") if before else None
    return record


def _feed(
    options: PretrainOptions, config: ClipConfig, encode: Encode, step: int
) -> tuple[np.ndarray, np.ndarray]:
    images, captions = training_images.build_batch(
        np.random.default_rng((options.stream, step)),
        config.image_px,
        groups=GROUPS,
        views=VIEWS,
        seed=TRAIN_SEED,
        difficulty=min(1.0, step / max(1.0, options.easy_share * options.steps)),
    )
    return images, _trim(encode(captions), config.end_token)


def _trim(ids: np.ndarray, end_token: int) -> np.ndarray:
    """Cut columns that are padding in every text of the batch, in steps of eight."""
    longest = int((ids != end_token).sum(axis=1).max()) + 1
    return ids[:, : -(-longest // 8) * 8]


def _is_matrix(leaf: jax.Array) -> bool:
    return leaf.ndim > 1
