"""Seconds of one photograph of 448 px: read-outs scclip and proxy against the same in plain torch.

    python -m bench.speed.photograph

Random weights at full size, CLIP ViT-B/16 and DINOv2-B/14 with registers, float32. torch's side is
transformers' towers with the read-out written out, and its own threads. Both sides take the same
pixels and alternate; the least of the rounds counts, because other load only adds. Every case runs
in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import time_in_turns
from zeroseg_jax.commands import flags
from zeroseg_jax.teacher.readouts import Affinity, read_out
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig, VisionTower

SIDE = 448
READOUTS = ("maskclip", "scclip", "proxy")
_BLOCK = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_MASKED = -float("inf")


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 5, "number of timed rounds", lower_bound=1)
    absl_flags.DEFINE_enum("case", "", ["", *READOUTS], "read-out of this process; empty: all")
    absl_flags.DEFINE_enum("side", "both", ["both", "jax", "torch"], "side of this process")
    record.define_output("photograph_speed")


def draw_tower(config: ClipConfig) -> tuple[VisionTower, Any]:
    """Return a vision tower and random parameters."""
    tower, rng = VisionTower(config), np.random.default_rng(0)
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    shapes = jax.eval_shape(lambda key: tower.init(key, pixels)["params"], jax.random.key(0))
    return tower, jax.tree.map(
        lambda leaf: jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32)), shapes
    )


def build_jax(readout: str, pixels: np.ndarray) -> tuple[Callable[[], Any], dict[str, float]]:
    """Return a call of the compiled read-out, and the seconds of its compilation."""
    vision = TowerConfig(768, 12, 12, 3072, "quick_gelu", 1e-5)
    tower, params = draw_tower(ClipConfig(vision, None, 512, 224, 16))
    affinity = None
    if readout == "proxy":
        lent = TowerConfig(768, 12, 12, 3072, "gelu", 1e-6)
        config = ClipConfig(lent, None, 768, 518, 14, "dinov2_with_registers", registers=4)
        second, weights = draw_tower(config)
        affinity = Affinity(weights, second, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def run(params: Any, pixels: Any, affinity: Affinity | None) -> Any:
        return read_out(tower, params, pixels, readout, affinity)

    begin = time.perf_counter()
    compiled = jax.jit(run).lower(params, pixels, affinity).compile()
    seconds = {"compile": round(time.perf_counter() - begin, 2)}
    return lambda: jax.block_until_ready(compiled(params, pixels, affinity)), seconds


def build_torch(readout: str, pixels: np.ndarray) -> Callable[[], Any]:
    """Return a call of the same read-out in torch, on transformers' towers."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.set_num_threads(os.cpu_count() or 1)
    clip = CLIPVisionModel(CLIPVisionConfig(**_BLOCK, intermediate_size=3072, patch_size=16)).eval()
    dino = None
    if readout == "proxy":
        config = Dinov2WithRegistersConfig(**_BLOCK, image_size=518, patch_size=14)
        dino = Dinov2WithRegistersModel(config).eval()
    projection = torch.nn.Linear(768, 512, bias=False)
    picture = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    vision = getattr(clip, "vision_model", clip)
    last = vision.encoder.layers[-1]

    def unit(x: Any) -> Any:
        return torch.nn.functional.normalize(x, dim=-1)

    def weigh(similarity: Any, beta: float) -> Any:
        shifted = 3 * (similarity - beta * similarity.mean())
        return shifted.masked_fill(shifted < 0, _MASKED).softmax(-1)

    def finish(x: Any) -> Any:
        return projection(vision.post_layernorm(x))

    def read_maskclip(states: Any) -> Any:
        x = states[-2]
        attention = last.self_attn
        x = x + attention.out_proj(attention.v_proj(last.layer_norm1(x)))
        return finish((x + last.mlp(last.layer_norm2(x)))[:, 1:])

    def read_proxy(states: Any) -> Any:
        features = dino(picture).last_hidden_state[:, 5:]
        weights = weigh(unit(features) @ unit(features).mT, 1.2)
        values = last.self_attn.v_proj(last.layer_norm1(states[-2][:, 1:]))
        values = values.mT.reshape(1, 768, SIDE // 16, SIDE // 16)
        grid = (SIDE // 14, SIDE // 14)
        values = torch.nn.functional.interpolate(values, grid, mode="bilinear").flatten(2).mT
        return finish(last.self_attn.out_proj(weights @ values))

    def fill(x: Any, bad: Any) -> Any:
        valid = (~bad).float().reshape(1, 1, SIDE // 16, -1)
        grid = x.mT.reshape(1, 768, SIDE // 16, -1)
        pool = torch.nn.functional.avg_pool2d
        count = 9 * pool(valid, 3, 1, 1)
        mean = 9 * pool(grid * valid, 3, 1, 1) / count.clamp(min=1)
        return torch.where(bad.reshape(valid.shape) & (count > 0), mean, grid).flatten(2).mT

    def average(x: Any, similarity: Any) -> Any:
        kept = similarity.masked_fill(similarity < 0.4, 0)
        return kept / (kept.sum(-1, keepdim=True) + 1e-6) @ x

    def attend(x: Any, weights: Any) -> Any:
        normed = last.layer_norm1(x)
        k, v = (part(normed).reshape(1, -1, 12, 64).transpose(1, 2)
                for part in (last.self_attn.k_proj, last.self_attn.v_proj))  # fmt: skip
        mixed = (weights + (k @ k.mT / 8).softmax(-1)) / 2 @ v
        return last.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))

    def read_scclip(states: Any) -> Any:
        x = states[-2]
        near, nearest = (torch.cdist(x[0, 1:], x[0, 1:]) ** 2).topk(31, largest=False)
        density = 1 / near[:, -1]
        factor = density[nearest[:, 1:]].mean(1) / density
        bad = factor > factor.quantile(0.95)
        middle, low = unit(fill(states[9][:, 1:], bad)), unit(states[4][:, 1:])
        similarity, low = middle @ middle.mT, low @ low.mT
        weights = weigh(similarity, 1.0)
        patches = average(fill(x[:, 1:], bad), similarity)
        levels = sum(states[4:11])
        both = attend(patches, weights) + 0.3 * x[:, :1]
        both = both + attend(levels[:, 1:], weights) + 0.3 * levels[:, :1]
        return finish(average(both, low))

    read = {"maskclip": read_maskclip, "proxy": read_proxy, "scclip": read_scclip}[readout]

    @torch.inference_mode()
    def run() -> Any:
        hidden = vision.embeddings(picture, interpolate_pos_encoding=True)
        states = [vision.pre_layrnorm(hidden)]
        for layer in vision.encoder.layers[:-1]:
            output = layer(states[-1], None)
            states.append(output[0] if isinstance(output, tuple) else output)
        return read([*states, None])

    return run


def measure(readout: str) -> dict[str, Any]:
    """Measure the sides of this process: least and median seconds, compilation, peak memory."""
    pixels = np.random.default_rng(1).standard_normal((1, SIDE, SIDE, 3)).astype(np.float32)
    sides: dict[str, Callable[[], Any]] = {}
    found: dict[str, Any] = {}
    if FLAGS.side != "torch":
        sides["jax"], found = build_jax(readout, pixels)
    if FLAGS.side != "jax":
        sides["torch"] = build_torch(readout, pixels)
    rounds = time_in_turns(sides, FLAGS.rounds)
    for side in sides:
        seconds = sorted(row[side]["wall"] for row in rounds)
        found[side] = {
            "least": round(seconds[0], 3),
            "median": round(seconds[len(seconds) // 2], 3),
        }
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def measure_products() -> dict[str, float]:
    """Return the GFLOP/s of both libraries for the largest matrix product of the towers' MLPs."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    rng, tokens = np.random.default_rng(2), (SIDE // 16) ** 2 + 1
    x = rng.standard_normal((tokens, 768), np.float32)
    kernel = rng.standard_normal((768, 3072), np.float32)
    left, right = jnp.asarray(x), jnp.asarray(kernel)
    ours, theirs = jax.jit(jnp.matmul), (torch.from_numpy(x), torch.from_numpy(kernel))
    sides: dict[str, Callable[[], Any]] = {
        "jax": lambda: jax.block_until_ready(ours(left, right)),
        "torch": lambda: torch.mm(*theirs),
    }
    rounds = time_in_turns(sides, 20 * FLAGS.rounds)
    work = 2 * tokens * 768 * 3072 / 1e9
    return {side: round(work / min(row[side]["wall"] for row in rounds)) for side in sides}


def count_gflop() -> float:
    """Return the GFLOP of the CLIP's blocks before the last, which every read-out computes."""
    tokens, width = (SIDE // 16) ** 2 + 1, 768
    return 11 * (8 * tokens * width**2 + 4 * tokens**2 * width + 16 * tokens * width**2) / 1e9


def _measure_apart(readout: str, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.speed.photograph", f"--case={readout}",
               f"--side={side}", f"--rounds={FLAGS.rounds if side == 'both' else 1}"]  # fmt: skip
    # A cached program would hide the compilation.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return json.loads(done.stdout)


def main(arguments: list[str]) -> None:
    """Measure every read-out, or the one of this process."""
    del arguments
    if FLAGS.case:
        print(json.dumps(measure(FLAGS.case)))
        return
    content: dict[str, Any] = {"side_px": SIDE, "load_at_the_start": os.getloadavg()[0]}
    # Both sides are nearly all matrix products, so that their ratio is read beside this one.
    content["matrix_product_gflop_s"] = measure_products()
    content["gflop_of_11_blocks"] = round(count_gflop(), 1)
    print(json.dumps(content), flush=True)
    for readout in READOUTS:
        found = _measure_apart(readout, "both")
        del found["peak_memory_mb"]  # of both sides together
        found["times_as_fast"] = round(found["torch"]["least"] / found["jax"]["least"], 2)
        for side in ("jax", "torch"):
            found[side]["peak_memory_mb"] = _measure_apart(readout, side)["peak_memory_mb"]
        content[readout] = found
        print(readout, json.dumps(found), flush=True)
    record.write({**content, "load_at_the_end": os.getloadavg()[0]})


if __name__ == "__main__":
    flags.run(main, define_flags)
