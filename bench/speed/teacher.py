"""Speed of the teacher against transformers' torch, and of prepare end to end.

    python -m bench.speed.teacher --parts=forward
    python -m bench.speed.teacher --parts=prepare --output=docs/results/prepare_speed.json
    python -m bench.speed.teacher --parts=forward --dtype=bfloat16 --batch=256 --peak_tflops=989

The forward pass of full-size vision towers with random weights; both sides use the same file,
batch and threads and alternate; the ratio is the median over rounds. On an accelerator torch is
left out, and MFU is reported if --peak_tflops is given.

FLOP of one image, matrix products alone, a multiplication and an addition as two: with T tokens,
P patches of p pixels, width D, MLP width M, output width E and L blocks,
6 P p^2 D + L (8 T D^2 + 4 T^2 D + 4 T D M) + 2 D E.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image
from safetensors.numpy import save_file

from bench import record
from bench.speed.timing import median_seconds, ratios, time_in_turns
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.teacher import encode_bank as encoding
from zeroseg_jax.teacher.checkpoints.config import read_config
from zeroseg_jax.teacher.checkpoints.names import list_tensors
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.views import build_encoder

# width, blocks, heads, patch, output width; the MLP is four times as wide.
SIZES = {
    "B/32": (768, 12, 12, 32, 512),
    "B/16": (768, 12, 12, 16, 512),
    "L/14": (1024, 24, 16, 14, 768),
}
IMAGE_PX = 224


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_list("models", list(SIZES), "models to measure: " + ", ".join(SIZES))
    absl_flags.DEFINE_list("parts", ["forward"], "parts to measure: forward, prepare")
    absl_flags.DEFINE_integer("batch", 8, "batch size of the forward pass", lower_bound=1)
    absl_flags.DEFINE_integer("rounds", 7, "number of alternating rounds", lower_bound=1)
    absl_flags.DEFINE_integer(
        "calls", 1, "forward passes of a round; more on an accelerator", lower_bound=1
    )
    absl_flags.DEFINE_enum(
        "dtype", "", ["", "float32", "bfloat16"], "compute type; empty: by the device"
    )
    absl_flags.DEFINE_float("peak_tflops", 0.0, "peak TFLOP/s of one device at --dtype, for MFU")
    absl_flags.DEFINE_integer("images", 10, "number of images in the bank", lower_bound=4)
    record.define_output("teacher_forward")


def main(arguments: list[str]) -> None:
    """Measure and write raw results after every model."""
    del arguments
    results: dict[str, Any] = {
        "threads": len(os.sched_getaffinity(0)),
    }
    with tempfile.TemporaryDirectory() as folder:
        # The second start of prepare then finds its program compiled.
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")
        for name in FLAGS.models:
            directory = write_checkpoint(Path(folder), name)
            for part in FLAGS.parts:
                measure = {"forward": measure_forward, "prepare": measure_prepare}[part]
                found = measure(directory, name)
                results.setdefault(part, {})[name] = found
                shown = {k: v for k, v in found.items() if k != "rounds"}
                print(name, part, json.dumps(shown), flush=True)
                results["load_average"] = os.getloadavg()
                record.write(results)


def write_checkpoint(folder: Path, name: str) -> Path:
    """Write a vision tower of full size with random weights, in Hugging Face's layout."""
    width, depth, heads, patch, out = SIZES[name]
    directory = folder / name.replace("/", "-")
    directory.mkdir()
    settings = {
        "model_type": "clip_vision_model", "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": patch,
        "image_size": IMAGE_PX, "projection_dim": out, "hidden_act": "quick_gelu",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings))
    rng = np.random.default_rng(0)
    tensors = {}
    for tensor in list_tensors(read_config(directory)).values():
        values = rng.standard_normal(tensor.shape, np.float32) * 0.03
        scale = "norm" in tensor.name and "weight" in tensor.name
        tensors[tensor.name] = values + 1 if scale else values
    save_file(tensors, directory / "model.safetensors")
    return directory


def count_flop(name: str) -> float:
    """Return the FLOP of one image; the formula is in the module docstring."""
    width, depth, _, patch, out = SIZES[name]
    patches = (IMAGE_PX // patch) ** 2
    tokens = patches + 1
    block = 24 * tokens * width**2 + 4 * tokens**2 * width  # the MLP is 4 D wide: 8 + 4 * 4
    return 6 * patches * patch**2 * width + depth * block + 2 * width * out


def measure_forward(directory: Path, name: str) -> dict[str, Any]:
    """Time our forward pass and torch's; on an accelerator only ours."""
    clip = load_teacher(directory, FLAGS.dtype or None)
    pixels = np.random.default_rng(1).standard_normal((FLAGS.batch, IMAGE_PX, IMAGE_PX, 3))
    pixels = pixels.astype(np.float32)
    placed = jax.device_put(pixels)

    def ours() -> np.ndarray:
        for _ in range(FLAGS.calls):
            out = clip.encode_images(placed)
        return np.asarray(out)

    sides: dict[str, Callable[[], np.ndarray]] = {"ours": ours}
    found: dict[str, Any] = {"dtype": clip.dtype.name, "batch": FLAGS.batch}
    if jax.default_backend() == "cpu" and clip.dtype == jnp.float32:
        sides["torch"] = build_torch(directory, pixels)
        found["largest_difference"] = float(np.abs(ours() - sides["torch"]()).max())
    rounds = time_in_turns(sides, FLAGS.rounds)
    images = FLAGS.batch * FLAGS.calls
    for side in sides:
        seconds = median_seconds(rounds, side)
        found[f"{side}_images_per_second"] = round(images / seconds, 3)
    if "torch" in sides:
        for clock in ("wall", "cpu"):
            faster = ratios(rounds, "torch", "ours", clock)
            found[f"times_torch_{clock}"] = round(statistics.median(faster), 3)
    gflop = count_flop(name) / 1e9
    found["gflop_per_image"] = round(gflop, 2)
    found["gflop_per_second"] = round(gflop * found["ours_images_per_second"], 1)
    if FLAGS.peak_tflops:
        found["mfu"] = round(found["gflop_per_second"] / 1e3 / FLAGS.peak_tflops, 4)
    return {**found, "rounds": rounds}


def build_torch(directory: Path, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """Build transformers' forward of the same file, on as many threads as jax has."""
    import torch
    from transformers import CLIPVisionModelWithProjection

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = CLIPVisionModelWithProjection.from_pretrained(directory).eval()
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            for _ in range(FLAGS.calls):
                out = model(pixel_values=x).image_embeds
        return out.numpy()

    return theirs


def measure_prepare(directory: Path, name: str) -> dict[str, Any]:
    """Time prepare on a folder of photos, and the bare forward pass of as many views."""
    clip = load_teacher(directory, FLAGS.dtype or None)
    photos = directory.parent / "photos"
    _write_photos(photos)
    config = from_mapping(
        {
            "model": {"image_px": IMAGE_PX, "embed_dim": clip.embed_dim},
            "data": {"source": "folder", "directory": str(photos), "images": FLAGS.images},
        }
    )
    views = len(list_windows(config))
    at_once = encoding.count_group_images(clip, views)
    encode = build_encoder(clip, jax.local_devices())
    batch = np.random.default_rng(2).integers(
        0, 256, (at_once, views, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8
    )
    starts = iter(range(1000))

    def forward() -> None:
        for _ in range(-(-FLAGS.images // at_once)):
            np.asarray(encode(batch))

    def prepare() -> None:
        bank = directory / f"bank-{next(starts)}"
        prepare_bank(config, bank, clip, lambda line: None)

    rounds = time_in_turns({"forward": forward, "prepare": prepare}, FLAGS.rounds)
    found: dict[str, Any] = {
        "dtype": clip.dtype.name, "images": FLAGS.images, "views": views,
        "images_at_once": at_once,
    }  # fmt: skip
    for clock in ("wall", "cpu"):
        share = ratios(rounds, "forward", "prepare", clock)
        found[f"of_forward_{clock}"] = round(statistics.median(share), 3)
    seconds = median_seconds(rounds, "prepare")
    found["views_per_second"] = round(FLAGS.images * views / seconds, 2)
    return {**found, "rounds": rounds}


def _write_photos(folder: Path) -> None:
    """Write JPEG files of a usual size, for a realistic cost of decoding and resizing."""
    if folder.is_dir():
        return
    folder.mkdir()
    for i in range(FLAGS.images):
        image, _ = render(build_scene(0, i), 512)
        Image.fromarray(image[:384]).save(folder / f"{i:04d}.jpg", quality=92)


if __name__ == "__main__":
    flags.run(main, define_flags)
