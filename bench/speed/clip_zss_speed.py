"""Speed of CLIP-ZSS: regions on the host, and the train step against cross-entropy alone.

    python -m bench.speed.clip_zss_speed

Regions: a 32 x 32 grid of 512-wide tokens, wholly unannotated, the published windows' 58 seeds, 10
iterations. The tokens are those of the Playground's CLIP on its scenes at 256 px, turned into 512
dimensions (which changes no cosine). The step: the recipe clip_zss:playground against the same
encoder with the pixel term alone. CPU seconds are of this process, so other work on the machine
moves them less than wall time.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import least_seconds
from bench.tokens import dense_tokens
from zeroseg_jax.assets.recipes import clip_zss
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.config import Config, RegionsConfig, from_mapping
from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.data.sources import PlaygroundSource
from zeroseg_jax.data.transforms import square_crop
from zeroseg_jax.teacher.clustering import find_regions
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.region_labels import region_threads
from zeroseg_jax.training.clip_zss import build
from zeroseg_jax.training.inputs import Inputs

_WIDTH, _SIDE, _IMAGES = 512, 256, 32


def define_flags() -> None:
    """Define the flags."""
    record.define_output("clip_zss_speed")
    absl_flags.DEFINE_list("parts", ["regions", "step"], "parts to measure")
    absl_flags.DEFINE_integer("repeats", 3, "number of timed calls; the best counts")


def main(arguments: list[str]) -> None:
    """Measure the parts asked for and write the results."""
    del arguments
    use_compilation_cache()
    clip = load_teacher("playground")
    results: dict[str, Any] = {"load_at_start": os.getloadavg()}
    for name, measure in (("regions", time_regions), ("step", time_step)):
        if name in FLAGS.parts:
            results[name] = measure(clip)
            print(results[name], flush=True)
    record.write(results)


def time_regions(clip: Teacher) -> dict:
    """Time find_regions on one thread a core."""
    tokens = _draw_tokens(clip)
    free = np.ones(tokens.shape[1:3], bool)
    settings = RegionsConfig()
    counts = [find_regions(t, free, settings).count for t in tokens]
    workers = os.cpu_count() or 1

    def run() -> None:
        with region_threads() as pool:
            list(pool.map(lambda t: find_regions(t, free, settings), tokens))

    wall, cpu = least_seconds(run, FLAGS.repeats)
    return {
        "grid": list(free.shape),
        "width": _WIDTH,
        "seeds": 58,
        "threads": workers,
        "regions_per_image": round(float(np.mean(counts)), 2),
        "wall_images_per_second": round(len(tokens) / wall, 1),
        "cpu_ms_per_image": round(1000 * cpu / len(tokens), 2),
        "images_per_second_of_these_cores_alone": round(workers * len(tokens) / cpu, 1),
    }


def _draw_tokens(clip: Teacher) -> np.ndarray:
    source = PlaygroundSource(1, _IMAGES)
    images = [square_crop(source[i]["image"], _SIDE) for i in range(_IMAGES)]
    tokens = dense_tokens(clip, images, "maskclip")
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(_WIDTH, tokens.shape[-1])))[0]
    return (tokens @ rotation.T).astype(np.float32)


def time_step(clip: Teacher) -> dict:
    """Time loss and gradients, with all terms and with the pixel term alone."""
    full = from_mapping(clip_zss.get_config("playground").to_dict())
    off = {f"{name}_weight": 0.0 for name in ("focal", "dice", "prototype", "global")}
    loss = dataclasses.replace(full.clip_zss.loss, latent=False, **off)
    alone = dataclasses.replace(full.clip_zss, loss=loss)
    found = {
        name: _time_gradients(dataclasses.replace(full, clip_zss=settings), clip)
        for name, settings in (("cross_entropy", alone), ("clip_zss", full.clip_zss))
    }
    ratio = {
        f"ratio_{key}": round(found["clip_zss"][key] / found["cross_entropy"][key], 3)
        for key in ("cpu_ms", "wall_ms")
    }
    return {**found, **ratio, "target": 1.3}


def _time_gradients(config: Config, clip: Teacher) -> dict:
    words = [list(names) for names in get_split("playground").seen_words]
    objective = build(config, clip, Inputs((), None, clip.digest, config, words))
    b, side = config.optim.batch_global, config.model.image_px
    map_px, rng = side // config.clip_zss.labels.stride_px, np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (b, side, side, 3), dtype=np.uint8),
        "features": rng.normal(size=(b, 1, config.model.embed_dim)).astype(np.float16),
        "fused": rng.integers(-1, len(words) + 2, (b, map_px, map_px)).astype(np.int16),
        "local": np.zeros((b, 0, config.model.embed_dim), np.float16),
    }
    params = jax.jit(objective.init_params)(jax.random.key(0))
    memory, key = objective.init_memory(), jax.random.key(1)
    step = jax.jit(jax.value_and_grad(objective.loss_fn, has_aux=True))
    wall, cpu = least_seconds(
        lambda: jax.block_until_ready(step(params, batch, key, memory)), FLAGS.repeats
    )
    return {"cpu_ms": round(1000 * cpu, 1), "wall_ms": round(1000 * wall, 1)}


if __name__ == "__main__":
    flags.run(main, define_flags)
