import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.teacher import programs
from zeroseg_jax.teacher.programs import Program

X = np.arange(6, dtype=np.float32)
IMAGE = Path(__file__).parents[2] / "docs" / "images" / "scene.png"
# A process whose student's network cannot be traced if TRACE is "no".
SEGMENT = """
import os, sys
from zeroseg_jax.inference import segmenters
if os.environ["TRACE"] == "no":
    segmenters.apply_segment = None
from zeroseg_jax.commands import main
words = "--words=moon, cross, sky"
sys.argv = ["zeroseg", "segment", "--model=playground", words, *sys.argv[1:]]
main.main()
"""


@pytest.fixture
def directory(tmp_path):
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def build(factor, *, about=None):
    """Return a Program that multiplies, and the list that grows when it is traced."""
    traced = []

    def multiply(tree, *, add=0.0):
        traced.append(factor)
        return tree["x"] * factor + add

    return Program(multiply, about=str(factor) if about is None else about, static=("add",)), traced


def stored(directory):
    return sorted(path.name for path in directory.glob("traced_multiply-*.stablehlo"))


def test_a_stored_program_is_not_traced_again(directory):
    first, traced = build(2.0)
    np.testing.assert_array_equal(first({"x": X}), 2 * X)
    np.testing.assert_array_equal(first({"x": X + 1}), 2 * X + 2)
    assert len(traced) == 1 and len(stored(directory)) == 1
    again, traced = build(2.0)
    np.testing.assert_array_equal(again({"x": X}), 2 * X)
    assert not traced and again.count_signatures() == 1


def test_a_program_that_nobody_used_for_a_month_is_removed(directory):
    for factor in (2.0, 3.0):
        build(factor)[0]({"x": X})
    (directory / "other-cache").write_bytes(b"of JAX")
    month_ago = time.time() - 31 * 24 * 3600
    for path in directory.iterdir():
        os.utime(path, (month_ago, month_ago))
    build(3.0)[0]({"x": X})  # used again
    assert len(stored(directory)) == 2
    build(4.0)[0]({"x": X})
    assert len(stored(directory)) == 2 and (directory / "other-cache").exists()
    for factor, wanted in ((3.0, 0), (4.0, 0), (2.0, 1)):
        program, traced = build(factor)
        program({"x": X})
        assert len(traced) == wanted, factor


def test_without_a_directory_nothing_is_stored(directory):
    jax.config.update("jax_compilation_cache_dir", None)
    program, traced = build(2.0)
    np.testing.assert_array_equal(program({"x": X}), 2 * X)
    assert len(traced) == 1 and program.count_signatures() == 1 and not stored(directory)


def test_another_closure_keyword_shape_dtype_or_tree_is_another_program(directory):
    build(2.0)[0]({"x": X})
    calls = (
        (3.0, {"x": X}, {}),
        (2.0, {"x": X}, {"add": 1.0}),
        (2.0, {"x": X[:4]}, {}),
        (2.0, {"x": X.astype(np.int32)}, {}),
        (2.0, {"x": X, "y": X}, {}),
    )
    for number, (factor, tree, static) in enumerate(calls, 2):
        program, traced = build(factor)
        wanted = tree["x"] * np.float32(factor) + static.get("add", 0.0)
        np.testing.assert_array_equal(program(tree, **static), wanted)
        assert len(traced) == 1 and len(stored(directory)) == number


def test_changed_source_versions_or_settings_are_another_program(directory, monkeypatch, tmp_path):
    build(2.0)[0]({"x": X})
    before = programs.describe_environment()
    jax.config.update("jax_default_matmul_precision", "float32")
    assert programs.describe_environment() != before
    jax.config.update("jax_default_matmul_precision", None)
    assert programs.describe_environment() == before
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "models" / "net.py").write_text("a = 1\n")
    monkeypatch.setattr(programs, "_PACKAGE", package)
    found = set()
    for text in ("a = 1\n", "a = 2\n"):
        (package / "models" / "net.py").write_text(text)
        programs._describe_source.cache_clear()
        found.add(programs.describe_environment())
        build(2.0)[0]({"x": X})
    programs._describe_source.cache_clear()
    assert len(found) == 2 and before not in found and len(stored(directory)) == 3


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_written_again(directory, damage):
    build(2.0)[0]({"x": X})
    (path,) = directory.glob("traced_multiply-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes(9) if damage is None else damage)
    program, traced = build(2.0)
    np.testing.assert_array_equal(program({"x": X}), 2 * X)
    assert len(traced) == 1
    last, traced = build(2.0)
    np.testing.assert_array_equal(last({"x": X}), 2 * X)
    assert not traced


def test_a_directory_that_cannot_be_written_only_costs_time(directory, tmp_path):
    (tmp_path / "file").write_text("")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file"))
    program, traced = build(2.0)
    np.testing.assert_array_equal(program({"x": X}), 2 * X)
    assert len(traced) == 1


def test_traced_callers_and_weak_types_are_as_with_jit(directory):
    program, _ = build(2.0)
    np.testing.assert_array_equal(jax.jit(lambda x: program({"x": x}))(X), 2 * X)
    assert program({"x": 3}) == 6 and program({"x": jnp.asarray(3.0)}).weak_type
    assert not stored(directory)


def test_a_second_process_segments_without_tracing_the_student(tmp_path):
    found = []
    for number, trace in enumerate(("yes", "no")):
        output = tmp_path / str(number)
        env = {
            **os.environ, "TRACE": trace, "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"), "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        subprocess.run(
            [sys.executable, "-c", SEGMENT, IMAGE, f"--output={output}"], env=env, check=True
        )
        found.append((output / "scene_mask.png").read_bytes())
    assert found[0] == found[1]
