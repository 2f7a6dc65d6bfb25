"""Tensors in checkpoints: name, shape and layout of one, and names of common layers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from zeroseg_jax.teacher.towers import TowerConfig


@dataclasses.dataclass(frozen=True)
class TensorName:
    """The tensor of one parameter in a checkpoint.

    Attributes:
      name: name in the file.
      shape: shape in the file.
      layout: "same", "transposed", or "patches" for a convolution's (D, 3, p, p).
      qkv_index: 0, 1 or 2 for the query, key or value rows of a tensor that stacks the three.
      leading: number of leading axes of size 1 that the parameter lacks.
      optional: True where a checkpoint may lack the tensor.
    """

    name: str
    shape: tuple[int, ...]
    layout: str = "same"
    qkv_index: int | None = None
    leading: int = 0
    optional: bool = False

    @property
    def rows(self) -> tuple[int, int]:
        """First row and number of rows of the parameter; a scalar is one row."""
        size = self.shape[0] if self.shape else 1
        if self.qkv_index is None:
            return 0, size
        return self.qkv_index * (size // 3), size // 3

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the parameter; (1,) for a scalar."""
        _, count = self.rows
        if self.layout == "same":
            return (count, *self.shape[1:])
        return math.prod(self.shape[1:]), count


Names = dict[str, TensorName]


def norm(ours: str, theirs: str, width: int) -> Names:
    """Return names of a LayerNorm."""
    return {
        f"{ours}/scale": TensorName(f"{theirs}.weight", (width,)),
        f"{ours}/bias": TensorName(f"{theirs}.bias", (width,)),
    }


def linear(ours: str, theirs: str, inputs: int, outputs: int) -> Names:
    """Return names of a linear layer."""
    return {
        f"{ours}/kernel": TensorName(f"{theirs}.weight", (outputs, inputs), "transposed"),
        f"{ours}/bias": TensorName(f"{theirs}.bias", (outputs,)),
    }


def mlp(
    ours: str, theirs: str, tower: TowerConfig, layers: tuple[str, str] = ("fc1", "fc2")
) -> Names:
    """Return names of the two linear layers of an MLP."""
    first = linear(f"{ours}/fc1", f"{theirs}.{layers[0]}", tower.width, tower.mlp_width)
    return first | linear(f"{ours}/fc2", f"{theirs}.{layers[1]}", tower.mlp_width, tower.width)


def stacked(ours: str, theirs: str, width: int) -> Names:
    """Return names of query, key and value stacked in one "weight" and one "bias".

    `theirs` is the text before these two words, "attn.in_proj_" in torch.nn.MultiheadAttention.
    """
    names = {}
    for i, part in enumerate(("query", "key", "value")):
        kernel = TensorName(f"{theirs}weight", (3 * width, width), "transposed", i)
        names[f"{ours}/{part}/kernel"] = kernel
        names[f"{ours}/{part}/bias"] = TensorName(f"{theirs}bias", (3 * width,), qkv_index=i)
    return names


def to_parameter(tensor: TensorName, value: np.ndarray) -> np.ndarray:
    """Return the parameter of a tensor's rows, as a view in our layout."""
    if tensor.layout == "patches":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T if tensor.layout == "transposed" else value
