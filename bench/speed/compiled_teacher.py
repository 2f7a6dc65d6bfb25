"""The teacher's forward pass compiled for TPUs that are not there: attention cores and pieces.

    pip install "zeroseg_jax[plan]"
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1 \\
        python -m bench.speed.compiled_teacher

One chip, 224 px, bfloat16. Times are the compiler's estimated cycles, plus the attention kernel by
the formula of training/plan/planner.py. An interrupted run resumes. The printed table is that of
docs/performance.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bench import record
from bench.speed.teacher import IMAGE_PX, SIZES
from zeroseg_jax.commands import flags
from zeroseg_jax.teacher import views
from zeroseg_jax.teacher.towers import CLIP_MEAN, CLIP_STD, ClipConfig, TowerConfig, VisionTower
from zeroseg_jax.training.plan import costs
from zeroseg_jax.training.plan.planner import describe_devices, estimate_kernel
from zeroseg_jax.training.plan.program import Program

# Attention core, and whether the views pass in pieces; "xla whole" is the form before both.
FORMS = ("xla whole", "xla pieces", "fused whole")


@dataclasses.dataclass(frozen=True)
class AbstractTeacher:
    """What views.encode_on reads of a teacher."""

    tower: VisionTower
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_list("models", ["B/16", "L/14"], "models to compile: " + ", ".join(SIZES))
    absl_flags.DEFINE_list("forms", list(FORMS), "forms to compile")
    absl_flags.DEFINE_list("topologies", ["v5e:2x2", "v6e:2x2"], "slices; one chip of each is used")
    absl_flags.DEFINE_integer("batch", 256, "views in one call", lower_bound=1)
    record.define_output("compiled_teacher")


def main(arguments: list[str]) -> None:
    """Compile every form of every model for every chip; results are written after each."""
    del arguments
    if unknown := set(FLAGS.forms) - set(FORMS):
        raise ValueError(f"--forms: {sorted(unknown)} is unknown; use {', '.join(FORMS)}.")
    rows = record.read_earlier().get("rows", {})
    for topology in FLAGS.topologies:
        for model in FLAGS.models:
            for form in FLAGS.forms:
                name = f"{model}, {topology.partition(':')[0]}, {form}"
                if name not in rows:
                    rows[name] = _compile(model, topology, form)
                    record.write({"batch": FLAGS.batch, "rows": rows})
    print(render_table(rows))


def _compile(model: str, topology: str, form: str) -> dict[str, Any]:
    width, depth, heads, patch, out = SIZES[model]
    core, _, whole = form.partition(" ")
    config = ClipConfig(
        vision=TowerConfig(width, depth, heads, 4 * width, "quick_gelu", 1e-5),
        text=None, embed_dim=out, image_px=IMAGE_PX, patch_px=patch,
    )  # fmt: skip
    chip, _, devices = describe_devices(topology)
    mesh = Mesh(np.array(devices[:1]), ("views",))
    tower = VisionTower(config, jnp.bfloat16, core)
    image = jnp.zeros((1, IMAGE_PX, IMAGE_PX, 3))
    shapes = jax.eval_shape(lambda key: tower.init(key, image)["params"], jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, P())
        ),
        shapes,
    )
    batch = jax.ShapeDtypeStruct(
        (FLAGS.batch, IMAGE_PX, IMAGE_PX, 3), jnp.uint8, sharding=NamedSharding(mesh, P("views"))
    )
    limits = {"score_bytes": 2**62} if whole == "whole" else {}
    encode = views.encode_on(AbstractTeacher(tower), mesh, **limits)
    compiled = encode.lower(params, batch).compile()
    flops = costs.count_flops(encode, params, batch)
    program = Program(compiled.as_text(), 1)
    kernels = sum(estimate_kernel(kernel, chip) for kernel in program.list_kernels())
    seconds = program.count_cycles() / chip.clock + kernels
    return {
        "milliseconds": 1e3 * seconds,
        "of_which_kernels": 1e3 * kernels,
        "images_per_second": FLAGS.batch / seconds,
        "mfu": flops / chip.flops / seconds,
        "moved_gb": program.count_traffic() / 1e9,
        "temporaries_gb": compiled.memory_analysis().temp_size_in_bytes / 1e9,
    }


def render_table(rows: dict[str, dict[str, Any]]) -> str:
    """Render the rows as a Markdown table."""
    lines = [
        "| model, chip, form | ms | of which kernels | images/s | MFU | GB moved |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['milliseconds']:.1f} | {row['of_which_kernels']:.1f} | "
            f"{row['images_per_second']:,.0f} | {100 * row['mfu']:.0f} % | {row['moved_gb']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
