"""Commands as child processes, and a folder of images for them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.compiling import QUICK
from zeroseg_jax.data.playground import scenes

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def zeroseg():
    """Return a function that runs `zeroseg ARGUMENTS` and captures its output."""

    def run(*arguments, cwd=ROOT, stdin=None):
        return subprocess.run(
            [sys.executable, "-m", "zeroseg_jax", *map(str, arguments)],
            cwd=cwd, stdin=stdin, capture_output=True, text=True,
            env={**os.environ, "XLA_FLAGS": QUICK, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Write two images of different shapes, an empty file and a note; one name comes twice."""
    folder = tmp_path_factory.mktemp("images")
    image, _ = scenes.render(scenes.build_scene(2, 5), 200)
    (folder / "deep").mkdir()
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(np.ascontiguousarray(image[:90])).save(folder / "deep" / "a.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder
