"""Traced programs on disk: a second process skips tracing, as the compilation cache skips XLA.

Tracing a network and lowering it to StableHLO costs a short command about a second. A Program
stores the StableHLO of each signature (jax.export) beside JAX's compiled programs, and the next
process calls that instead of the Python function.

A file's name is the sha256 of everything that the program depends on: the source files of models/,
teacher/ and inference/, the versions of jax, jaxlib and flax, JAX's settings, the text that the
caller gives for its closure, static keywords, and the shapes and dtypes of the arguments. A change
of any of them gives another name, so no stale program is found. A file starts with the sha256 of
its content. One that does not match is ignored and written again. Whoever stores a program removes
those that no process has used for 30 days, most of them of earlier versions.

Programs are stored where jax_compilation_cache_dir is a local directory and JAX's default backend
is the CPU. On accelerators compilation takes most of the time, and their kernels cannot be
exported.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers  # noqa: F401  # jax.export needs it but does not depend on it
import jax
import numpy as np
from jax import export

from zeroseg_jax.data.files import write_bytes

_PACKAGE = Path(__file__).parent.parent
_TRACED = ("models", "teacher", "inference")  # folders with code that is traced
_DIGEST_BYTES = 32
_KEEP_SECONDS = 30 * 24 * 3600.0
_LOG = logging.getLogger(__name__)


class Program:
    """jax.jit of a function, whose traced programs are stored on disk.

    Args:
      function: a pure function of arrays; keywords are static.
      about: text of all that the function depends on besides its arguments and its source, for
        example the settings of a network in its closure.
      static: names of the static keywords.
    """

    def __init__(
        self, function: Callable[..., Any], *, about: str = "", static: tuple[str, ...] = ()
    ):
        functools.update_wrapper(self, function)
        self._function, self._about = function, about
        self._jit: Any = jax.jit(function, static_argnames=static)
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **static: Any) -> Any:
        """Call the function with trees of arrays and its static keywords."""
        directory = find_directory()
        leaves, tree = jax.tree.flatten(args)
        if directory is None or not all(map(_is_array, leaves)):
            return self._jit(*args, **static)
        arrays = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        signature = (directory, tree, arrays, tuple(sorted(static.items())))
        program = self._programs.get(signature)
        if program is None:
            program = self._read_or_trace(directory, leaves, tree, static)
            self._programs[signature] = program
        return program(*leaves)

    def count_signatures(self) -> int:
        """Return the number of signatures that were traced or read in this process."""
        return len(self._programs) + self._jit._cache_size()

    def _read_or_trace(
        self, directory: Path, leaves: list[Any], tree: Any, static: dict[str, Any]
    ) -> Callable[..., Any]:
        function, name = self._function, self._function.__qualname__.rpartition(".")[2]
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        parts = [
            describe_environment(), self._function.__module__, self._function.__qualname__,
            self._about, repr(sorted(static.items())), str(tree), repr(shapes),
        ]  # fmt: skip
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        path = directory / f"traced_{name}-{digest}.stablehlo"
        content = _read(path)
        if content is None:

            def call(*flat: Any) -> Any:
                return function(*jax.tree.unflatten(tree, flat), **static)

            call.__name__ = name
            content = bytes(export.export(jax.jit(call))(*shapes).serialize())
            try:
                write_bytes(path, hashlib.sha256(content).digest() + content)
                _remove_unused(directory)
            except OSError as error:
                _LOG.warning("%s: not stored, the next process traces again: %s", path, error)
        # The process that traced calls the program read back too: every process runs one program.
        stored = export.deserialize(bytearray(content)).call

        def run(*flat: Any) -> Any:
            return stored(*flat)

        run.__name__ = name  # the name of the compiled program
        return jax.jit(run)


def find_directory() -> Path | None:
    """Return the directory of stored programs; None where programs are not stored."""
    directory = jax.config.values["jax_compilation_cache_dir"]
    if not directory or "://" in directory or jax.default_backend() != "cpu":
        return None
    return Path(directory)


def describe_environment() -> str:
    """Return the text of all that every program depends on: source, versions, JAX's settings."""
    settings = [
        f"{name}={value}"
        for name, value in sorted(jax.config.values.items())
        if "cache" not in name and "log" not in name
    ]
    return "\n".join([_describe_source(), *settings])


@functools.cache
def _describe_source() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax")]
    digest = hashlib.sha256()
    for path in _source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE)} {len(content)}\n".encode())
        digest.update(content)
    return "\n".join([*versions, digest.hexdigest()])


def _source_files() -> Iterator[Path]:
    for folder in _TRACED:
        yield from sorted((_PACKAGE / folder).rglob("*.py"))


def _is_array(leaf: Any) -> bool:
    """Return False for tracers, Python numbers and weak types, which only jax.jit can take."""
    if isinstance(leaf, jax.Array):
        return not isinstance(leaf, jax.core.Tracer) and not leaf.aval.weak_type
    return isinstance(leaf, np.ndarray | np.generic)


def _read(path: Path) -> bytes | None:
    """Return the content of a stored program; None if it is missing, unreadable or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with contextlib.suppress(OSError):  # somebody else's file, or a disk that cannot be written
        os.utime(path)
    return content


def _remove_unused(directory: Path) -> None:
    oldest = time.time() - _KEEP_SECONDS
    for path in directory.glob("traced_*.stablehlo"):
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            if path.stat().st_mtime < oldest:
                path.unlink()
