"""Who may import whom, names of files, docstrings: the rules of docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zeroseg_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# folder or file -> (project parts it may import, outside packages it may not)
RULES = {
    "config.py": (set(), {"jax", "flax", "numpy"}),
    "paths.py": (set(), {"flax", "grain"}),
    "losses.py": ({"config", "models"}, {"grain", "orbax", "absl"}),
    "losses_zss.py": ({"config"}, {"grain", "orbax", "absl", "optax"}),
    "models": ({"config", "models"}, {"grain", "orbax", "absl", "transformers", "PIL"}),
    # An entry point, and the one place where torch files are opened.
    "teacher/convert.py": ({"teacher", "flags"}, {"grain", "orbax", "PIL", "flax"}),
    # Host work beside the device: numpy alone.
    "teacher/regions.py": (set(), {"jax", "flax", "grain", "orbax", "absl", "PIL"}),
    "teacher": ({"teacher", "models", "paths"}, {"grain", "orbax", "absl", "PIL"}),
    "data": ({"config", "data", "playground"}, {"jax", "flax", "optax", "orbax"}),
    "benchmarks": ({"config", "data", "benchmarks", "playground"}, {"jax", "flax", "orbax"}),
    "training/step.py": ({"config", "losses", "models", "training"}, {"grain", "orbax", "absl"}),
    "training": (
        {"config", "paths", "losses", "losses_zss", "models", "teacher", "data", "training"},
        {"transformers", "ml_collections"},
    ),
    # What people touch stands on what is measured; jax is left to those below.
    "words.py": (set(), {"jax", "numpy", "absl"}),
    "segmentation.py": ({"evaluation"}, {"jax", "flax", "absl"}),
    "painting.py": ({"evaluation"}, {"jax", "flax", "absl"}),
    "cutting.py": ({"evaluation", "models", "painting"}, {"flax", "orbax", "absl"}),
    "pretrained.py": ({"config", "training"}, {"jax", "flax", "orbax", "absl"}),
    "predictor.py": (
        {
            "cutting",
            "data",
            "evaluation",
            "painting",
            "pretrained",
            "segmentation",
            "teacher",
            "words",
        },
        {"jax", "flax", "orbax", "absl"},
    ),
    "serving": (
        {"cutting", "data", "predictor", "segmentation", "serving", "words"},
        {"jax", "flax", "orbax", "absl"},
    ),
    "evaluation": (
        {"config", "models", "teacher", "data", "benchmarks", "evaluation", "training"},
        {"grain", "orbax", "optax", "absl"},
    ),
}


def imports(path):
    """Yield the imported modules of a file, those for type checking left out."""
    tree = ast.parse(path.read_text())
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            hidden |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "zeroseg_jax":
                yield from (f"zeroseg_jax.{alias.name}" for alias in node.names)


def rule_for(path):
    name = path.relative_to(PACKAGE).as_posix()
    return RULES.get(name) or RULES.get(name.split("/")[0])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path):
    rule = rule_for(path)
    if rule is None:
        return  # entry points and the Playground may import anything
    allowed, forbidden = rule
    for module in imports(path):
        top, _, rest = module.partition(".")
        if top == "zeroseg_jax":
            part = rest.split(".")[0]
            assert not part or part in allowed, f"{path} imports {module}"
        else:
            assert top not in forbidden, f"{path} imports {module}"


def test_orbax_is_imported_in_one_file():
    users = [path.name for path in FILES if any(m.startswith("orbax") for m in imports(path))]
    assert users == ["checkpoint.py"]


def test_no_pickle_and_no_torch():
    for path in FILES:
        if path.relative_to(PACKAGE).as_posix() == "teacher/convert.py":
            continue  # names pickle's error, and torch's restricted reader
        assert not {m.split(".")[0] for m in imports(path)} & {"pickle", "torch", "dill"}, path


def test_files_are_named_by_their_subject():
    for path in FILES:
        assert path.stem not in {"util", "utils", "common", "misc", "helper", "helpers"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_public_names_have_docstrings(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_method_imports_without_the_data_stack():
    """A machine with jax, flax, optax, chex and numpy alone can run and time the method."""
    blocked = ("grain", "array_record", "ml_collections", "tensorflow_datasets", "orbax", "absl")
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked[:-1]!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import zeroseg_jax.models.student, zeroseg_jax.losses, zeroseg_jax.training.step
import zeroseg_jax.models.dense_student, zeroseg_jax.losses_zss
import zeroseg_jax.training.sharding, zeroseg_jax.training.costs
import zeroseg_jax.evaluation.assign
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
