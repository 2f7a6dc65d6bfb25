"""Exceptions that are a finding of a fuzz, whichever case raises them."""

from __future__ import annotations

import struct

import flax
import jax
from absl import flags as absl_flags

# All standard kinds that code raises by mistake, and those of the libraries that derive from
# Exception alone. Any other kind ends the fuzz with its traceback.
FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError,
    LookupError, MemoryError, NameError, OSError, RuntimeError, StopIteration, SyntaxError,
    TypeError, ValueError, absl_flags.Error, flax.errors.FlaxError,
    jax.errors.InconclusiveDimensionOperation, struct.error,
)  # fmt: skip
