"""Exports: the same numbers, and nothing of this package needed to run them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax import Predictor
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.inference import stablehlo
from zeroseg_jax.inference.model import SHIPPED_STUDENT, load

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    classes = [["star"], ["ring", "hoop"], ["grass"]]
    return directory, stablehlo.export_stablehlo(load("playground"), classes, directory)


@pytest.mark.slow
def test_stablehlo_is_the_model(exported):
    directory, record = exported
    assert record["largest_difference"] <= 1e-4 and record["segments_agree"] >= 0.999
    assert record["platforms"] == ["cpu", "cuda", "tpu"] and record["size_mb"] > 3


def test_an_export_that_differs_is_refused():
    stablehlo.check_difference(1e-5, 1.0)
    for worst, same in ((2e-4, 1.0), (float("nan"), 1.0), (0.0, 0.99)):
        with pytest.raises(ValueError, match="differs from the model"):
            stablehlo.check_difference(worst, same)


@pytest.mark.slow
def test_stablehlo_runs_without_this_package(exported, tmp_path):
    directory, _ = exported
    image = scenes.render(scenes.build_scene(2, 5), 96)[0]
    Image.fromarray(image).save(tmp_path / "scene.png")
    code = f"""
import sys, runpy
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("zeroseg_jax", "flax", "transformers", "orbax"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
sys.argv = ["run.py", "scene.png", "mask.png"]
runpy.run_path({str(directory / "run.py")!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine = Predictor.from_pretrained("playground", settings={"refine": "none"}).segment(
        image, ["star", ["ring", "hoop"], "grass"]
    )
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert (mask == mine.mask).mean() > 0.999
    assert done.stdout.startswith("star: ")


def test_safetensors_come_with_a_card_and_load_again(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "export", "--workdir=playground",
         f"--output={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    shipped = json.loads((SHIPPED_STUDENT / "config.json").read_text())
    again = json.loads((tmp_path / "config.json").read_text())
    assert again["sha256"] == shipped["sha256"] and again["step"] == shipped["step"]
    assert Predictor.from_pretrained(tmp_path).checkpoint.endswith("step 6000")
