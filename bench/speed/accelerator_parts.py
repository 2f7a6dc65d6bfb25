"""Parts of bench.speed.accelerator: python -m bench.speed.accelerator_parts NAME [KEY=VALUE ...].

The last line of the output is the result as JSON. MFU is over the published dense bfloat16 rate of
the device; without one it is left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

if os.environ.get("ACCELERATOR_CARRY"):
    sys.path.append(os.environ["ACCELERATOR_CARRY"])  # last: the machine's own packages win

import numpy as np

from bench.speed.accelerator import READY

TINY = bool(os.environ.get("ACCELERATOR_TINY"))
ROUNDS, CALLS = (1, 1) if TINY else (3, 10)
# bfloat16 operations per second, dense. Source: NVIDIA's data sheets.
_RATES = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}
_TINY_MODEL = {
    "encoder": {"depth": 1, "width": 64, "heads": 2},
    "decoder": {"depth": 1, "width": 64, "heads": 2},
    "head": {"width": 64, "heads": 2, "z_hidden": 64, "stage_depths": (1, 1, 1)},
}


def take_turn() -> None:
    """Say that this process is compiled, and wait until it has the device to itself."""
    if os.environ.get("ACCELERATOR_TURNS"):
        print(READY, flush=True)
        sys.stdin.readline()


def time_calls(call: Callable[[], Any], wait: Callable[[], Any]) -> dict[str, Any]:
    """Time asynchronous calls: the first alone, then rounds of CALLS each that end with wait()."""
    begin = time.perf_counter()
    call()
    wait()
    first, rounds = time.perf_counter() - begin, []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(CALLS):
            call()
        wait()
        rounds.append((time.perf_counter() - begin) / CALLS)
    return {
        "first_seconds": round(first, 2),
        "milliseconds": round(1e3 * statistics.median(rounds), 3),
        "rounds_milliseconds": [round(1e3 * one, 3) for one in rounds],
    }


def rate(found: dict[str, Any], images: int, flops: float, device: str) -> dict[str, Any]:
    """Add images per second; MFU where the operations and the device's rate are known."""
    seconds = found["milliseconds"] / 1e3
    found |= {"images_per_second": round(images / seconds, 1)}
    if flops:
        found["gflop_per_image"] = round(flops / images / 1e9, 1)
    peak = next((value for name, value in _RATES.items() if name in device), None)
    if flops and peak:
        found["mfu"] = round(flops / seconds / peak, 4)
    return found


def describe() -> dict[str, Any]:
    """Return the devices and the versions, and which modules of the package import."""
    import jax
    import torch
    import transformers

    from zeroseg_jax.training.workdir import describe_machine

    found = {**describe_machine(), "torch": torch.__version__}
    return {**found, "transformers": transformers.__version__, "platform": jax.default_backend()}


def train_step(variant: str, attention: str, batch: int) -> dict[str, Any]:
    """Time the training step of a student of configs/imagenet.py, bfloat16."""
    import jax

    from zeroseg_jax.assets.recipes import imagenet
    from zeroseg_jax.config import from_mapping
    from zeroseg_jax.models.fused_attention import choose_core
    from zeroseg_jax.training import sharding
    from zeroseg_jax.training.methods import METHODS
    from zeroseg_jax.training.optimizer import build_optimizer
    from zeroseg_jax.training.plan import costs
    from zeroseg_jax.training.plan.planner import trace_step
    from zeroseg_jax.training.state import init_state

    raw = imagenet.get_config(variant)
    raw.optim.update(batch_global=batch, steps=1000)
    raw.mesh.data = 1
    raw.loss.centre = False  # one bias at the start; a step costs the same
    _shrink(raw)
    config = from_mapping(raw.to_dict())
    device = jax.local_devices()[0]
    core = choose_core(attention, device.platform, config.run.dtype)
    counted, timed = (
        dataclasses.replace(config, run=dataclasses.replace(config.run, attention=one))
        for one in ("xla", core)
    )
    mesh = sharding.build_mesh(config, [device])
    # Library calls are not counted, so that the operations are those of the plain form.
    flops = costs.count_flops(*trace_step(counted, mesh, 1000))
    step, state, shapes = trace_step(timed, mesh, 1000)
    objective, optimizer = METHODS["zeroseg"].build_abstract(timed), build_optimizer(timed, 1000)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    held = [jax.jit(lambda: init_state(timed, objective, optimizer), out_shardings=shardings)()]
    rng = np.random.default_rng(0)
    rows = {name: _draw(rng, shape) for name, shape in shapes.items()}
    placed = jax.device_put(rows, sharding.split(mesh))
    compiled = step.lower(state, placed).compile()
    losses: list[Any] = []

    def call() -> None:
        held[0], metrics = compiled(held[0], placed)
        losses[:] = [metrics["loss"]]

    take_turn()
    found = time_calls(call, lambda: jax.block_until_ready(losses))
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    found |= {
        "attention": core,
        "temporaries_gb": round(temporaries / 1e9, 2),
        "peak_gb": _peak(device),
    }
    found["loss"] = round(float(losses[0]), 4)
    return rate(found, batch, flops, device.device_kind)


def _shrink(raw: Any) -> None:
    if TINY:
        raw.model.image_px, raw.run.dtype = 32, "float32"  # bfloat16 compiles slowly on a CPU
        for name, sizes in _TINY_MODEL.items():
            raw.model[name].update(sizes)


def _draw(rng: np.random.Generator, shape: Any) -> np.ndarray:
    if np.issubdtype(shape.dtype, np.integer):
        return rng.integers(0, 255, shape.shape).astype(shape.dtype)
    return rng.normal(size=shape.shape).astype(shape.dtype)


def _peak(device: Any) -> float:
    return round((device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9, 2)


def teacher(model: str, attention: str, batch: int) -> dict[str, Any]:
    """Time the teacher's forward pass from uint8 views, bfloat16, as prepare runs it."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh

    from bench.speed.compiled_teacher import AbstractTeacher
    from bench.speed.teacher import IMAGE_PX, SIZES, count_flop
    from zeroseg_jax.models.fused_attention import choose_core
    from zeroseg_jax.teacher import views
    from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig, VisionTower

    width, depth, heads, patch, out = SIZES[model]
    depth = 1 if TINY else depth
    config = ClipConfig(
        vision=TowerConfig(width, depth, heads, 4 * width, "quick_gelu", 1e-5),
        text=None, embed_dim=out, image_px=IMAGE_PX, patch_px=patch,
    )  # fmt: skip
    device = jax.local_devices()[0]
    core = choose_core(attention, device.platform, "bfloat16")
    tower = VisionTower(config, jnp.bfloat16, core)
    image = jnp.zeros((1, IMAGE_PX, IMAGE_PX, 3))
    params = jax.jit(lambda key: tower.init(key, image)["params"])(jax.random.key(0))
    encode = views.encode_on(AbstractTeacher(tower), Mesh(np.array([device]), ("views",)))
    pixels = np.random.default_rng(0).integers(0, 256, (batch, IMAGE_PX, IMAGE_PX, 3), np.uint8)
    placed = jax.device_put(pixels, device)
    compiled = encode.lower(params, placed).compile()  # type: ignore[attr-defined] -- jitted
    last: list[Any] = []

    def call() -> None:
        last[:] = [compiled(params, placed)]

    take_turn()
    found = time_calls(call, lambda: jax.block_until_ready(last))
    found |= {"attention": core, "peak_gb": _peak(device)}
    return rate(found, batch, count_flop(model) * batch, device.device_kind)


def predictor() -> dict[str, Any]:
    """Time Predictor.segment of a random student, 640 x 480 px and 1365 x 1024 px, 20 words."""
    from bench.speed.predictor import build_predictor

    built = build_predictor("playground" if TINY else "vit_b16")
    words = [f"word {i}" for i in range(20)]

    def measure(image: np.ndarray) -> float:
        built.clear_cache()
        begin = time.perf_counter()
        built.segment(image, words)
        return time.perf_counter() - begin

    images, found = [], {}
    for height, width in ((480, 640), (1024, 1365))[: 1 if TINY else 2]:
        rng = np.random.default_rng(0)
        blocks = rng.integers(0, 255, (-(-height // 16), -(-width // 16), 3), np.uint8)
        images.append(blocks.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])
    firsts = [measure(image) for image in images]
    take_turn()
    for image, first in zip(images, firsts, strict=True):
        seconds = [measure(image) for _ in range(1 if TINY else 5)]
        found[f"{image.shape[1]} x {image.shape[0]}"] = {
            "first_seconds": round(first, 2),
            "milliseconds": round(1e3 * statistics.median(seconds), 1),
        }
    return found


def _torch() -> tuple[Any, str, Callable[[], None]]:
    import torch

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    on_gpu = torch.cuda.is_available()
    return torch, "cuda" if on_gpu else "cpu", torch.cuda.synchronize if on_gpu else lambda: None


def _time_torch(
    build: Callable[[Any], Callable[[], Any]], images: int, flops: float, model: Any, form: str
) -> dict[str, Any]:
    """Time calls of a torch model, form "eager" as it is, "compiled" by torch.compile."""
    torch, device, wait = _torch()
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    call = build(torch.compile(model) if form == "compiled" else model)
    begin = time.perf_counter()
    call()
    wait()
    first = time.perf_counter() - begin
    take_turn()
    found = rate(time_calls(call, wait), images, flops, name)
    if device == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return {**found, "first_seconds": round(first, 2), "form": form}


def torch_clip(model: str, batch: int, form: str) -> dict[str, Any]:
    """Time transformers' CLIP vision tower: bfloat16, scaled_dot_product_attention."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from bench.speed.teacher import IMAGE_PX, SIZES, count_flop

    torch, device, _ = _torch()
    width, depth, heads, patch, out = SIZES[model]
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=1 if TINY else depth,
        num_attention_heads=heads, patch_size=patch, image_size=IMAGE_PX, projection_dim=out,
        attn_implementation="sdpa",
    )  # fmt: skip
    tower = CLIPVisionModelWithProjection(config).eval().to(device, torch.bfloat16)
    pixels = torch.randn(batch, 3, IMAGE_PX, IMAGE_PX, device=device, dtype=torch.bfloat16)

    def build(run: Any) -> Callable[[], Any]:
        def call() -> None:
            with torch.inference_mode():
                run(pixel_values=pixels)

        return call

    return _time_torch(build, batch, count_flop(model) * batch, tower, form)


def torch_step(batch: int, form: str) -> dict[str, Any]:
    """Time train_step's arithmetic from transformers' layers: bfloat16 autocast, fused AdamW."""
    from bench.speed.train_step import build_torch_student
    from zeroseg_jax.assets.recipes import imagenet
    from zeroseg_jax.config import from_mapping

    torch, device, _ = _torch()
    raw = imagenet.get_config("vit_b16")
    _shrink(raw)
    config = from_mapping(raw.to_dict())
    student = build_torch_student(config).train().to(device)
    pixels = torch.randn(batch, 3, config.model.image_px, config.model.image_px, device=device)
    features = torch.randn(batch, 30, config.model.embed_dim, device=device)
    gflop_per_image = 92.4  # of the jaxpr of the same step; see docs/scaling.md
    return _time_torch(
        lambda run: _update(student, lambda: run(pixels, features), device),
        batch, gflop_per_image * 1e9 * batch, student, form,
    )  # fmt: skip


def _update(model: Any, loss: Callable[[], Any], device: str) -> Callable[[], None]:
    import torch

    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05, **fused)

    def call() -> None:
        with torch.autocast(device, torch.bfloat16):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    return call


def torch_groupvit(batch: int, form: str) -> dict[str, Any]:
    """Time forward, backward and update of transformers' GroupViT-S, the published size."""
    from transformers import GroupViTConfig, GroupViTModel

    torch, device, _ = _torch()
    config = GroupViTConfig()
    if TINY:
        config.vision_config.depths, config.vision_config.num_hidden_layers = [1, 1, 1], 3
    model = GroupViTModel(config).vision_model.train().to(device)
    pixels = torch.randn(batch, 3, 224, 224, device=device)
    return _time_torch(
        lambda run: _update(model, lambda: run(pixels)[1].float().square().mean(), device),
        batch, 0.0, model, form,
    )  # fmt: skip


PARTS = {
    part.__name__: part
    for part in (
        describe, train_step, teacher, predictor, torch_clip, torch_step, torch_groupvit,
    )
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Run one part and print its result."""
    name, *words = arguments
    given: dict[str, Any] = dict(word.split("=", 1) for word in words)
    if "batch" in given:
        given["batch"] = int(given["batch"])
    print(json.dumps(PARTS[name](**given)))


if __name__ == "__main__":
    main(sys.argv[1:])
