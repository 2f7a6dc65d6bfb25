"""What zeroseg_plus costs at test time, against the paper's own wiring: operations and seconds.

python -m bench.speed.inference_cost

One window through the student at batch 1, float32, weights drawn; both students in turn, several
rounds, so that both see the same machine.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags as absl_flags
from absl.flags import FLAGS

from configs import imagenet, playground, zeroseg_plus
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.files import write_json
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.training.metrics import describe_machine
from zeroseg_jax.training.plan.costs import count_flops

RECIPES = {
    "playground": {
        "faithful": lambda: playground.get_config("faithful"),
        "plus": lambda: zeroseg_plus.get_config("playground"),
    },
    "imagenet": {
        "faithful": lambda: imagenet.get_config("vit_b16"),
        "plus": lambda: zeroseg_plus.get_config("imagenet"),
    },
}


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_integer("rounds", 15, "timed calls of each; the median counts", 3)
    absl_flags.DEFINE_string("output", "docs/results/inference_cost.json", "raw results")


def build(raw: Any) -> tuple[int, Any]:
    """Return the operations of one window, and a call that segments one."""
    config = from_mapping(raw.to_dict())
    student = students.build_student(config.model)
    params = jax.jit(lambda key: students.init_params(student, key))(jax.random.key(0))
    side = config.model.image_px
    window = jax.random.normal(jax.random.key(1), (1, side, side, 3), jnp.float32)

    def segment(params, window):
        return students.apply_segment(student, params, window)

    compiled = jax.jit(segment)
    return count_flops(segment, params, window), lambda: jax.block_until_ready(
        compiled(params, window)
    )


def main(arguments: list[str]) -> None:
    """Count and time both students of every recipe."""
    del arguments
    found = {}
    for name, recipes in RECIPES.items():
        built = {kind: build(make()) for kind, make in recipes.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in built}
        for number in range(FLAGS.rounds + 1):
            for kind, (_, call) in built.items():
                begin = time.perf_counter()
                call()
                if number:  # the first compiles
                    seconds[kind].append(time.perf_counter() - begin)
        median = {kind: statistics.median(values) for kind, values in seconds.items()}
        flops = {kind: count for kind, (count, _) in built.items()}
        found[name] = {
            "gflop": {kind: round(count / 1e9, 3) for kind, count in flops.items()},
            "seconds": {kind: round(value, 5) for kind, value in median.items()},
            "plus_over_faithful": {
                "flop": round(flops["plus"] / flops["faithful"], 3),
                "seconds": round(median["plus"] / median["faithful"], 3),
            },
        }
        print(name, found[name], flush=True)
    results = {"command": "python -m bench.speed.inference_cost", **found, **describe_machine()}
    write_json(Path(FLAGS.output), results)


if __name__ == "__main__":
    flags.run(main, define_flags)
