"""Objective of the training loop: initialisation, loss and memory of a method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax

Params = Any
Memory = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class Findings:
    """What a loss computes beside its value, without a gradient.

    Attributes:
      metrics: float32 scalars by name, means over images.
      statistics: next values of parameters that are running statistics, by the name of the leaf
        ("a/b/c"); the loss does not depend on them, and the step replaces them. With pieces of a
        batch the step takes the mean over the pieces.
    """

    metrics: Metrics
    statistics: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Functions of a method that the loop calls; all but diagnose are traced.

    Attributes:
      init_params: function from a key to float32 parameters.
      loss_fn: function (params, batch, key, memory) to the loss, a float32 scalar that is a mean
        over images, and findings. A batch is a dict of arrays with one row per image.
      init_memory: function without arguments that returns the initial memory of past batches.
      update_memory: function (memory, batch) to the memory of the next step.
      diagnose: function from the metrics of an early step to a warning with its remedy, or "";
        not traced.
    """

    init_params: Callable[[jax.Array], Params]
    loss_fn: Callable[[Params, Batch, jax.Array, Memory], tuple[jax.Array, Findings]]
    init_memory: Callable[[], Memory] = lambda: None
    update_memory: Callable[[Memory, Batch], Memory] = lambda memory, batch: memory
    diagnose: Callable[[dict[str, float]], str] = lambda metrics: ""
