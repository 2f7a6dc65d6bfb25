"""Fuzz of settings: hostile overrides on the command line; what is accepted must be trainable.

    python -m bench.endurance.settings --cases=2000

Each case is a recipe with one or two overrides, read by the same code as `zeroseg train`. A refusal
is one line and exit code 2. An accepted config must serialise, count its steps, fit a mesh, open an
input pipeline, cluster regions (CLIP-ZSS), and trace initialisation and one training step. Nothing
is compiled. A case that does neither is a fault. The seed fixes the cases.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import io
import json
import random
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.endurance.exceptions import FAULTS
from zeroseg_jax.commands import flags
from zeroseg_jax.config import (
    ClipZssConfig,
    Config,
    DecoderConfig,
    HeadConfig,
    LossConfig,
    from_mapping,
    to_mapping,
)
from zeroseg_jax.data import pipeline
from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.data.playground.scenes import SCENE_PX
from zeroseg_jax.data.seen_labels import build_label_source
from zeroseg_jax.data.transforms import cut_views, square_crop
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.teacher.clustering import find_regions, free_tokens, fuse_labels
from zeroseg_jax.teacher.region_labels import count_tokens
from zeroseg_jax.training import memory, sharding
from zeroseg_jax.training.methods import set_width
from zeroseg_jax.training.optimizer import build_schedule, count_steps
from zeroseg_jax.training.plan.planner import trace_step

# Recipes of both methods; the short ones are traced fast.
RECIPES = (
    "debug",
    "playground:faithful",
    "clip_zss:playground",
    "clip_zss:playground_local",
    "clip_zss:playground --config.clip_zss.student.encoder=mit_tiny --config.model.image_px=96",
)
SHRUNK = (
    "--config.model.encoder.depth=1",
    "--config.model.decoder.depth=1",
    "--config.model.head.stage_depths=(1,1,1)",
    "--config.clip_zss.student.synthesizer_depth=1",
)
HOSTILE = (
    "nan", "inf", "-inf", "-1", "0", "1", "2", "3", "0.5", "1e30", "-1e30", "1e-30", "1e400",
    "2147483648", "1" + "0" * 20, "9" * 5000, "None", "True", "many", "", " ", "()", "(1,)",
    "(1,2)", "(1,2,3)", "(nan,)", "('a',)", "[[1]]", "{}", "{'a': 1}", "lambda: 1", "1+1",
    "é\u202e", "a\0b", "a\nb", "x" * 5000, "1,2", "(" * 200, "0x10", "1_000", "bfloat16",
)  # fmt: skip
_PATH_ENDS = ("", ".x", "[0]", ".0", "..", ".__class__", ".keys")
_SOURCE_IMAGES = 4096  # images of a source without a number, such as a folder
_PIXELS = np.zeros((40, 30, 3), np.uint8)
_TEACHER_PX, _TEACHER_PATCH_PX = 64, 8


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Result of a case.

    Attributes:
      kind: "refused", "trainable" or "fault".
      text: sentence of the refusal, or the fault.
    """

    kind: str
    text: str = ""


def list_fields(kind: type = Config, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """List (path, type, limits) of every field below a dataclass."""
    found = []
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        wanted, path = types[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(wanted):
            found += list_fields(wanted, f"{path}.")
        else:
            found.append((path, wanted, field.metadata))
    return found


def list_cases(count: int, seed: int = 0) -> list[list[str]]:
    """List command lines without a verb: single overrides of every field first, then pairs.

    Args:
      count: number of cases.
      seed: random seed.
    """
    rng = random.Random(seed)
    fields = list_fields()

    def choose(path: str, wanted: Any, limits: Any) -> str:
        default = functools.reduce(getattr, path.split("."), Config())
        bounds = [str(value) for value in limits.values()]
        if type(default) in (int, float):
            near = (default * 2, default + 1, default / 2)
            bounds += [str(type(default)(value)) for value in near]
        kind = rng.random()
        if kind < 0.03:
            return f"--config.{path}{rng.choice(_PATH_ENDS)}=1"
        if typing.get_origin(wanted) is tuple:
            length = rng.randint(1, 4)
            bounds = [f"({','.join(rng.choice(bounds) for _ in range(length))},)"]
        choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
        right = [*bounds, *map(str, choices), *(("True", "False") if wanted is bool else ())]
        value = rng.choice(right if right and kind < 0.4 else HOSTILE)
        return f"--config.{path}={value}"

    cases = []
    for number in range(count):
        recipe = rng.choice(RECIPES)
        single = number < 2 * count // 3
        picked = [fields[number % len(fields)]] if single else rng.sample(fields, 2)
        cases.append(
            [*f"--config={recipe}".split(), *SHRUNK, *(choose(*field) for field in picked)]
        )
    return cases


def read_arguments(arguments: list[str]) -> tuple[Verdict, Config | None]:
    """Read a command line as the commands do; return the verdict, and the config if accepted."""
    before, accepted = set(FLAGS), []
    argv, sys.argv = sys.argv, ["zeroseg train", *arguments]
    errors = io.StringIO()

    def main(rest: list[str]) -> None:
        config, overrides = flags.read_config()
        # The manifest of a run holds both.
        assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config
        json.dumps(overrides, allow_nan=False)
        assert not rest, rest
        accepted.append(config)

    try:
        with contextlib.redirect_stderr(errors):
            flags.run(main, flags.define_recipe)
    except SystemExit as error:
        lines = errors.getvalue().splitlines()
        if error.code == 0 and accepted and not lines:
            return Verdict("trainable"), accepted[0]
        said = len(lines) == 1 and lines[0].startswith("error: ") and lines[0][-1:] in ".?"
        if error.code == 2 and said and len(lines[0]) < 500 and "Traceback" not in lines[0]:
            return Verdict("refused", lines[0]), None
        return Verdict("fault", f"exit {error.code}: {errors.getvalue()[-600:]}"), None
    except FAULTS as error:
        return Verdict("fault", f"{type(error).__name__}: {error}"[:600]), None
    finally:
        sys.argv = argv
        for name in set(FLAGS) - before:
            delattr(FLAGS, name)
    raise AssertionError("flags.run returned")


def check_training(config: Config, traced: set[Any]) -> Verdict:
    """Return whether an accepted config can train; see the module.

    Args:
      config: accepted settings.
      traced: keys of the programs that were traced before, extended here.
    """
    try:
        config = set_width(config, 512)
        mesh = sharding.build_mesh(config, jax.devices()[:1])
        images = config.data.images or _SOURCE_IMAGES
        steps = count_steps(config, images)
        rates = [float(build_schedule(config, steps)(step)) for step in (0, steps // 2, steps)]
        assert np.isfinite(rates).all() and min(rates) >= 0, f"learning rates {rates}"
        _check_input(config, images)
        if config.objective == "clip_zss":
            _check_regions(config)
        if (key := _program_key(config)) not in traced:
            step, state, batch = trace_step(config, mesh, steps)
            memory.check_state(state, mesh)
            new_state, metrics = jax.eval_shape(step, state, batch)
            assert jax.tree.map(lambda leaf: leaf.shape, new_state) == jax.tree.map(
                lambda leaf: leaf.shape, state
            )
            assert metrics["loss"].shape == ()
            traced.add(key)
    except ValueError as error:
        lines = str(error).splitlines()
        named = any(str(error).startswith(f"{group.name}") for group in dataclasses.fields(Config))
        if len(lines) == 1 and named and lines[0][-1:] in ".?":
            return Verdict("refused", f"error: {lines[0]}")
        return Verdict("fault", f"ValueError: {error}"[:600])
    except FAULTS as error:
        return Verdict("fault", f"{type(error).__name__}: {error}"[:600])
    return Verdict("trainable")


def _program_key(config: Config) -> Any:
    """Return the settings that initialisation and step are traced from."""
    optim = dataclasses.replace(
        config.optim, base_rate=0.0, steps=0, epochs=0.0, warmup_fraction=0.0, weight_decay=0.0
    )
    run = (config.run.dtype, config.run.remat, config.run.scan_blocks)
    views = (config.teacher.grids, config.teacher.overlap, config.teacher.dtype)
    # The groups that the method does not read.
    unread = (
        {"clip_zss": ClipZssConfig()}
        if config.objective == "zeroseg"
        else {
            "loss": LossConfig(),
            "model": dataclasses.replace(config.model, decoder=DecoderConfig(), head=HeadConfig()),
        }
    )
    read = dataclasses.replace(config, **unread)
    return (config.objective, read.model, read.loss, read.clip_zss, views, optim, run,
            config.data.mean, config.data.std)  # fmt: skip


def _check_input(config: Config, images: int) -> None:
    """Cut the views of an image, and read a batch from a source that has them."""
    side = config.model.image_px
    record = {
        "image": square_crop(_PIXELS, side),
        "views": cut_views(_PIXELS, list_windows(config), _TEACHER_PX),
        "index": 0,
    }
    memory.check_batches(config, record)

    class Source:
        def __len__(self) -> int:
            return images

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {**record, "index": index}

    iterator = pipeline.build_train_iterator(
        Source(),
        batch_per_host=config.optim.batch_global,
        seed=config.run.seed,
        prefetch_batches=2,
    )
    if config.optim.batch_global * side**2 < 2**22:
        batch = next(iterator)
        assert batch["image"].shape == (config.optim.batch_global, side, side, 3)


def _check_regions(config: Config) -> None:
    """Cluster the tokens of an image, and fuse them with an empty label map."""
    regions, grid = config.clip_zss.regions, count_tokens(config, _TEACHER_PATCH_PX)
    get_split(config.clip_zss.labels.split)
    source = build_label_source(config, 0, (), (), SCENE_PX)
    seen = source.load(0, "image")
    tokens = np.random.default_rng(0).normal(size=(grid, grid, 8)).astype(np.float32)
    found = find_regions(tokens, free_tokens(seen.labels, grid, grid), regions)
    assert found.count <= regions.max_regions
    assert fuse_labels(seen.labels, found.ids, 0).max() < regions.max_regions


def run_case(arguments: list[str], traced: set[Any]) -> Verdict:
    """Read a command line and check what it accepts."""
    verdict, config = read_arguments(arguments)
    return verdict if config is None else check_training(config, traced)


def measure(count: int, seed: int, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the cases; return counts, seconds and every fault with its command line."""
    begin, traced = time.time(), set()
    counts: collections.Counter[str] = collections.Counter()
    faults = []
    for number, arguments in enumerate(list_cases(count, seed), 1):
        verdict = run_case(arguments, traced)
        counts[verdict.kind] += 1
        if verdict.kind == "fault":
            faults.append({"arguments": [a[:200] for a in arguments], "fault": verdict.text})
            log(f"{arguments}: {verdict.text}"[:1000])
        if number % 200 == 0:
            log(f"settings: {number} of {count}, {dict(counts)}")
    return {
        "cases": count,
        "seed": seed,
        **{kind: counts[kind] for kind in ("refused", "trainable", "fault")},
        "programs_traced": len(traced),
        "faults": faults,
        "seconds": round(time.time() - begin, 1),
    }


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("cases", 2000, "number of command lines", lower_bound=1)
    absl_flags.DEFINE_integer("seed", 0, "random seed of the cases")
    record.define_output("settings_fuzz")


def main(arguments: list[str]) -> int:
    """Run all cases; exit 1 if any is a fault."""
    del arguments
    results = measure(FLAGS.cases, FLAGS.seed)
    record.write(results)
    print(
        f"settings: {results['cases']} command lines, {results['refused']} refused in a sentence, "
        f"{results['trainable']} can train, {results['fault']} faults"
    )
    return 1 if results["fault"] else 0


if __name__ == "__main__":
    flags.run(main, define_flags)
