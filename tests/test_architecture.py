"""Layout rules of docs/architecture.md: floors, circles, names, homes of outside packages."""

import ast
import collections
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.main import VERBS, load_verb

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zeroseg_jax"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES
}

# A file may import from its own folder and from floors before its own. Folders that share a floor
# may not import each other.
FLOORS = (
    "config",
    "models | data",
    "teacher | assets",
    "training",
    "inference",
    "evaluation",
    "commands",
)

# Outside packages and the only places that import them.
HOMES = {
    "orbax": {"training/checkpoint.py"},
    "grain": {"data/pipeline.py", "data/bank.py", "data/packed_sources.py"},
    "array_record": {"data/packed_sources.py", "data/bank.py", "data/bank_checks.py"},
    "tensorflow_datasets": {"data/packed_sources.py"},
    "transformers": {"teacher/tokenizer.py", "teacher/playground/clip.py"},
    "tokenizers": {"teacher/tokenizer.py", "teacher/playground/clip.py"},
    "torch": {"teacher/checkpoints/torch_files.py"},
    "starlette": {"inference/web/"},
    "uvicorn": {"inference/web/"},
    "absl": {"commands/"},
    "ml_collections": {"commands/"},
    "PIL": {"data/", "inference/", "evaluation/", "commands/"},
    "pickle": {"teacher/checkpoints/torch_files.py"},  # the error that torch.load raises
    "dill": set(),
}
# Files that share a name because they are the same part of two things that stand side by side.
# A command has the name of the part that does its work, and is not listed.
PARALLEL = {
    ("models/clip_zss/losses.py", "models/zeroseg/losses.py"): "losses of each method",
    ("models/clip_zss/student.py", "models/zeroseg/student.py"): "student of each method",
    ("data/views.py", "teacher/views.py"): "geometry of the views; their encoding",
    (
        "teacher/towers.py",
        "teacher/playground/clip.py",
    ): "towers; training of the Playground's CLIP",
}
# Words that other words of the field replace: resume, flipped, temporary file, in flight, ...
REPLACED = re.compile(
    r"\b(goes? on|gone on|turned\b(?! (?:on|off|into))|born|aside|tells?|told|stands? for nothing|"
    r"nobody|as it is|at hand|spelled out|lies?|behind it|under way|now and then|anew)\b",
    re.IGNORECASE,
)
# Packages imported without being declared.
UNDECLARED = {"wandb": "--wandb_project says how to install it"}
# First words that leave the reader to fetch the noun from the name.
HEADLESS = ("of", "where", "what", "which", "how", "whether", "likewise", "also", "only", "to")
# Tests of several files of a folder, and entries of tests/ that are no folder of the package.
TESTS_OF_SEVERAL_FILES = {
    "inference/test_page.py": "the static page in a browser",
    "inference/test_photographs.py": "crumbs of labels on sample photographs",
    "teacher/test_parity.py": "towers and weights against torch",
}
TESTS_OF_THE_WHOLE = {
    "golden": "recorded values",
    "launch": "scripts of launch/",
    "test_architecture.py": "layout of the package",
    "test_buckets.py": "every command on gs://",
    "test_core.py": "the package without the modules of its extras",
    "test_docs.py": "links, tree and code of the pages",
    "test_photograph_families.py": "every family of teachers through every command",
    "test_photographs.py": "models by name through every command",
    "test_guards.py": "recorded values of the whole package",
    "test_readme.py": "commands of the documents",
    "test_licences.py": "licences and hashes of the pinned packages",
    "test_properties.py": "generated input for parsers and readers",
    "test_endurance.py": "kills and tables of bench/endurance/",
    "test_record.py": "bench/record.py",
    "test_short_runs.py": "runs of bench/experiments",
    "test_accelerator.py": "bench/speed/accelerator.py",
    "test_plans.py": "bench/speed/plans.py",
}
MOST_LINES, MOST_COMMAND_LINES, MOST_METHOD_LINES, MOST_ROOT_ENTRIES = 350, 180, 1260, 9


def imports(path):
    """List the modules that a file imports, those under TYPE_CHECKING too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name in MODULES else node.module)
    return found


IMPORTS = {path: imports(path) for path in FILES}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def floor_of(room):
    return next((i for i, rooms in enumerate(FLOORS) if room in rooms.split(" | ")), None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    own = Path(name_of(path)).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for module in IMPORTS[path]:
        if module.split(".")[0] != "zeroseg_jax" or room_of(module) in (None, own):
            continue
        room = room_of(module)
        assert floor_of(own) is not None, f"{name_of(path)} is on no floor"
        assert floor_of(room) < floor_of(own), f"{name_of(path)} imports {module}"


def test_no_circles():
    graph = {
        name: {module for module in IMPORTS[path] if module in MODULES and module != name}
        for name, path in MODULES.items()
    }
    for start in graph:
        seen, waiting = set(), list(graph[start])
        while waiting:
            module = waiting.pop()
            assert module != start, f"{start} imports itself by way of others"
            if module not in seen:
                seen.add(module)
                waiting += graph[module]


@pytest.mark.parametrize("package", HOMES)
def test_outside_packages_have_homes(package):
    for path in FILES:
        if package in {module.split(".")[0] for module in IMPORTS[path]}:
            homes = HOMES[package]
            assert any(name_of(path).startswith(home) for home in homes), name_of(path)


def test_data_does_not_import_jax():
    for path in FILES:
        if name_of(path).startswith("data/"):
            assert not {"jax", "flax", "optax"} & {m.split(".")[0] for m in IMPORTS[path]}, path


def test_root_has_few_entries():
    ours = ("__init__.py", "__main__.py", "__pycache__", "py.typed")
    entries = sorted(p.name for p in PACKAGE.iterdir() if p.name not in ours)
    assert len(entries) <= MOST_ROOT_ENTRIES, entries


def test_no_file_name_stands_twice():
    paths = collections.defaultdict(list)
    for path in FILES:
        if path.name != "__init__.py" and not name_of(path).startswith("commands/"):
            paths[path.name].append(name_of(path))
    twice = {tuple(sorted(places)) for places in paths.values() if len(places) > 1}
    assert twice <= set(PARALLEL), twice - set(PARALLEL)


def test_files_are_named_by_their_subject():
    for path in FILES:
        assert path.stem not in {"util", "utils", "common", "misc", "helper", "helpers"}, path


def test_write_functions_write_to_disk():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("write_"):
                returned = ast.unparse(node.returns) if node.returns else ""
                assert returned.split("[")[0] not in ("str", "list", "dict", "bytes"), (
                    f"{name_of(path)}: {node.name} returns {returned}; name it render_*"
                )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_short(path):
    most = MOST_COMMAND_LINES if name_of(path).startswith("commands/") else MOST_LINES
    assert len(path.read_text().splitlines()) <= most


def test_the_method_stays_short():
    own = ("own_terms.py", "upsampling.py", "weight_blend.py")
    files = [p for p in (PACKAGE / "models/zeroseg").glob("*.py") if p.name not in own]
    files += [PACKAGE / "models/encoder.py", PACKAGE / "models/layers.py"]
    files += [PACKAGE / "data/views.py"]
    assert sum(len(p.read_text().splitlines()) for p in files) <= MOST_METHOD_LINES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_module_docstrings_are_noun_phrases(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    riddles = ("what", "where", "which", "how", "whether", "who", "why")
    assert not text or text.split()[0].lower() not in riddles, f"{name_of(path)}: {text[:60]}"


def test_method_imports_without_the_data_stack():
    """A machine with jax, flax, optax, chex and numpy alone can run and time the method."""
    blocked = ("grain", "array_record", "ml_collections", "tensorflow_datasets", "orbax")
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import zeroseg_jax.models.zeroseg.student, zeroseg_jax.models.zeroseg.losses
import zeroseg_jax.models.clip_zss.student, zeroseg_jax.models.clip_zss.losses
import zeroseg_jax.training.step, zeroseg_jax.training.sharding
import zeroseg_jax.inference.scoring
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def docstrings(path):
    """List (name, docstring) of a module and its classes and functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((getattr(node, "name", path.name), ast.get_docstring(node) or ""))
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_docstrings_use_the_words_of_the_field(path):
    found = [(name, hit[0]) for name, text in docstrings(path) for hit in REPLACED.finditer(text)]
    assert not found, found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arguments_are_described_noun_first(path):
    """Entries of Args and Attributes, "name: text", begin with the thing itself."""
    for name, text in docstrings(path):
        for section in re.findall(r"^(?:Args|Attributes):\n((?:  .*\n?|\n)*)", text, re.MULTILINE):
            for entry, first in re.findall(r"^  (\w[\w, ]*): (\w+)", section, re.MULTILINE):
                assert first.lower() not in HEADLESS, f"{name}: {entry}: {first} ..."


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_described_noun_first(verb):
    for name, flag in define_alone(load_verb(verb)[1]).items():
        text = flag.help.rpartition(">: ")[2]  # absl puts the choices before it
        assert text.split()[0].strip(",:").lower() not in HEADLESS, f"--{name}: {text}"


def test_only_the_entry_point_imports_commands():
    for path in FILES:
        if not name_of(path).startswith(("commands/", "__main__.py")):
            assert not [m for m in IMPORTS[path] if m.startswith("zeroseg_jax.commands")], path


@pytest.mark.parametrize("folder", sorted({p.relative_to(PACKAGE).parts[0] for p in FILES
                                           if p.parent != PACKAGE}))  # fmt: skip
def test_tests_mirror_files(folder):
    """tests/FOLDER/test_NAME.py is beside FOLDER/**/NAME.py."""
    stems = {path.stem for path in (PACKAGE / folder).rglob("*.py")}
    tests = sorted((ROOT / "tests" / folder).rglob("test_*.py"))
    assert tests, f"tests/{folder} is empty"
    odd = [p.name for p in tests if p.stem.removeprefix("test_") not in stems]
    assert not [name for name in odd if f"{folder}/{name}" not in TESTS_OF_SEVERAL_FILES], odd


def test_tests_have_the_folders_of_the_package():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    entries = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() or p.match("test_*.py")}
    odd = entries - folders - set(TESTS_OF_THE_WHOLE) - {"__pycache__"}
    assert not odd, odd


def test_imports_are_declared_dependencies():
    """Of pyproject.toml; and what is declared is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [name for name in extras if name not in ("dev", "docs", "parity")]
    needed = {normalise(r) for r in project["dependencies"]}
    declared = needed | {normalise(r) for name in users for r in extras[name]}
    distributions = importlib.metadata.packages_distributions()
    modules = {module.split(".")[0] for path in FILES for module in IMPORTS[path]}
    modules -= {"zeroseg_jax", *sys.stdlib_module_names, *UNDECLARED}
    # A package of an extra that is not installed has the name of its distribution.
    used = {normalise(d) for module in modules for d in distributions.get(module, [module])}
    assert used <= declared, used - declared
    assert needed <= used, needed - used


def normalise(requirement):
    return re.match(r"[\w.-]+", requirement)[0].replace("_", "-").lower()
