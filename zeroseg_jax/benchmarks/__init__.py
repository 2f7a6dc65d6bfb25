"""What the segmentation data sets are."""

from __future__ import annotations

import dataclasses
import difflib

from zeroseg_jax.benchmarks.playground import BENCHMARKS, Playground

__all__ = ["get_benchmark"]


def get_benchmark(name: str, *, images: int = 0, seed: int | None = None) -> Playground:
    """Return a benchmark by name.

    Args:
      name: for example "playground/things".
      images: only the first so many; 0 for all.
      seed: another split of the Playground, for choosing a preset's numbers.

    Raises:
      ValueError: an unknown name; suggests the nearest.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(BENCHMARKS)}."
        raise ValueError(f"--benchmark: {name!r} is not known; {hint}")
    changes = {"images": images} if images else {}
    if seed is not None:
        changes["seed"] = seed
    return dataclasses.replace(BENCHMARKS[name], **changes)
