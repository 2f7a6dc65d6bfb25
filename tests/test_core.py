"""The core install: what runs without the packages of the extras, and what is said of the rest."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zeroseg_jax.commands.extras import EXTRAS, explain_missing

ROOT = Path(__file__).parent.parent
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "array_record": "array_record", "av": "av", "orbax": "orbax-checkpoint",
    "tensorflow_datasets": "tensorflow-datasets",
}  # fmt: skip
SCRIPT = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Missing())
from zeroseg_jax.commands import main

def run(*arguments):
    sys.argv = ["zeroseg", *arguments]
    try:
        return main.main()
    except SystemExit as exit_:
        return exit_.code

from zeroseg_jax import Predictor
student = Predictor.from_pretrained("playground")
image, words = "docs/images/scene.png", "moon, cross, sky, grass"
found = student.segment(image, words)
folder = sys.argv[2]
student.save_pretrained(folder)
again = Predictor.from_pretrained(folder).segment(image, words)
assert (again.mask == found.mask).all()
found.save(folder + "/out")
from zeroseg_jax.inference import stablehlo
stablehlo.export_stablehlo(student.model, [["moon"]], folder + "/x")
from zeroseg_jax.inference.web import server  # needs the extra serve alone
assert run("train", "--help") == 2
assert run("prepare", "--config=photos") == 2
assert run("completion", "bash") == 0
loaded = BLOCKED & {name.split(".")[0] for name in sys.modules}
assert not loaded, loaded
"""


def test_segment_predictor_and_page_run_without_the_packages_of_other_extras(tmp_path):
    pytest.importorskip("starlette")
    blocked = [module for module, extra in EXTRAS.items() if extra != "serve"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(blocked), str(tmp_path / "student")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        'error: zeroseg train: ml_collections is missing; pip install "zeroseg_jax[train]".',
        'error: zeroseg prepare: ml_collections is missing; pip install "zeroseg_jax[train]".',
    ]
    assert "segment--refine" in done.stdout and "prepare) flags=" in done.stdout


def test_extras_bring_the_packages_that_messages_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.match(r"[\w-]+", text)[0].lower() for text in requirements}

    core = names(project["dependencies"])
    for module, extra in EXTRAS.items():
        distribution = DISTRIBUTIONS.get(module, module).lower()
        assert distribution in names(project["optional-dependencies"][extra]), module
        assert distribution not in core
    page = (ROOT / "docs/install.md").read_text()
    assert all(f"`{extra}`" in page for extra in set(EXTRAS.values()))


def test_other_missing_modules_keep_their_traceback():
    assert explain_missing(ModuleNotFoundError("x", name="zeroseg_jax.nowhere"), "zeroseg") == ""
    assert explain_missing(ImportError("x"), "zeroseg") == ""
