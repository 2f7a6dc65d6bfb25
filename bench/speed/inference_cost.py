"""Inference cost of zeroseg_plus and the shipped student against the paper's architecture.

python -m bench.speed.inference_cost

FLOP and seconds of one window at batch 1, float32, random weights; the students alternate.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import median_seconds, time_in_turns
from zeroseg_jax.assets.recipes import imagenet, playground, zeroseg_plus
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.training.plan.costs import count_flops

RECIPES = {
    "playground": {
        "faithful": lambda: playground.get_config("faithful"),
        "plus": lambda: zeroseg_plus.get_config("playground"),
        "shipped": lambda: playground.get_config("long"),
    },
    "imagenet": {
        "faithful": lambda: imagenet.get_config("vit_b16"),
        "plus": lambda: zeroseg_plus.get_config("imagenet"),
    },
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 15, "number of timed calls; the median counts", 3)
    record.define_output("inference_cost")


def build(raw: Any) -> tuple[int, Any]:
    """Return the FLOP of one window, and a call that segments one."""
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
        rounds = time_in_turns({kind: call for kind, (_, call) in built.items()}, FLAGS.rounds)
        median = {kind: median_seconds(rounds, kind) for kind in built}
        flops = {kind: count for kind, (count, _) in built.items()}
        found[name] = {
            "gflop": {kind: round(count / 1e9, 3) for kind, count in flops.items()},
            "seconds": {kind: round(value, 5) for kind, value in median.items()},
            "over_faithful": {
                kind: {
                    "flop": round(flops[kind] / flops["faithful"], 3),
                    "seconds": round(median[kind] / median["faithful"], 3),
                }
                for kind in built
                if kind != "faithful"
            },
        }
        print(name, found[name], flush=True)
    record.write(found)


if __name__ == "__main__":
    flags.run(main, define_flags)
