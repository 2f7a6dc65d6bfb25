"""The optimizer's update with its norms, compiled for a TPU chip that is not there.

    pip install "zeroseg_jax[plan]"
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1 \\
        python -m bench.speed.compiled_update

The parameters are those of configs/imagenet.py, on one chip, float32. Times are the compiler's
estimated cycles. "as trained" is training/step.py; the other rows change what is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags as absl_flags
from absl.flags import FLAGS
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bench import record
from zeroseg_jax.assets.recipes import imagenet
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.models.zeroseg.student import build_student, init_params
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.plan.planner import describe_devices
from zeroseg_jax.training.plan.program import Program
from zeroseg_jax.training.step import update

_STEPS = 25_022  # of the recipe; the schedule's length does not change the program


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("topology", "v5e:2x2", "slice; one chip of it is used")
    record.define_output("compiled_update")


def main(arguments: list[str]) -> None:
    """Compile every form of the update, print a table and write it."""
    del arguments
    forms: dict[str, Callable[..., Any]] = {
        "as trained": update,
        "norm of optax's updates": _with_separate_norm,
        "no norms": lambda *args: update(*args)[:2],
    }
    rows = {name: _compile(form) for name, form in forms.items()}
    record.write({"topology": FLAGS.topology, "rows": rows})
    print("| update | ms | GB moved |\n|---|---:|---:|")
    for name, row in rows.items():
        print(f"| {name} | {row['milliseconds']:.2f} | {row['moved_gb']:.2f} |")


def _with_separate_norm(
    optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> Any:
    *updated, norms = update(optimizer, grads, opt_state, params)
    updates, _ = optimizer.update(grads, opt_state, params)
    return *updated, norms | {"update_norm": optax.global_norm(updates)}


def _compile(form: Callable[..., Any]) -> dict[str, float]:
    config = from_mapping(imagenet.get_config("vit_b16").to_dict())
    optimizer = build_optimizer(config, _STEPS)
    student = build_student(config.model, jnp.bfloat16)
    chip, _, devices = describe_devices(FLAGS.topology)
    sharding = NamedSharding(Mesh(np.array(devices[:1]), ("chip",)), P())

    def place(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    params = jax.eval_shape(lambda key: init_params(student, key), jax.random.key(0))
    state = jax.eval_shape(optimizer.init, params)

    def run(grads: Any, opt_state: Any, params: Any) -> Any:
        return form(optimizer, grads, opt_state, params)

    step = jax.jit(run, donate_argnums=(1, 2))
    compiled = step.lower(place(params), place(state), place(params)).compile()
    program = Program(compiled.as_text(), 1)
    return {
        "milliseconds": 1e3 * program.count_cycles() / chip.clock,
        "moved_gb": program.count_traffic() / 1e9,
    }


if __name__ == "__main__":
    flags.run(main, define_flags)
