"""Documents: links resolve, the tree and the tables name files that exist, how-to pages run."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))
HOW_TO = sorted((ROOT / "docs").glob("how-to-*.md"))
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
FENCE = re.compile(r"^```(\w+)?(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def anchors(path):
    """List the anchors of a page's headings, as the site and GitHub make them."""
    text = FENCE.sub("", path.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_resolve(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        # Pages of the site may link to pages of the site alone.
        assert page.parent == ROOT or path.is_relative_to(ROOT / "docs"), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert named == {page.name for page in PAGES if page.parent != ROOT}


def read_tree():
    """Return the files and folders of the page's tree, as paths."""
    block = next(body for _, _, body in FENCE.findall(ARCHITECTURE) if "zeroseg_jax/" in body)
    paths, folders = [], []
    for line in block.splitlines():
        name, purpose = re.fullmatch(r"( *\S+) +(.+)|(zeroseg_jax/)", line).group(1, 2)
        name = name or "zeroseg_jax/"
        depth = (len(name) - len(name.lstrip())) // 2
        del folders[depth:]
        paths.append("".join(folders) + name.strip())
        folders.append(name.strip())
        assert purpose or name == "zeroseg_jax/"
    return paths


def test_tree_names_every_file():
    named = read_tree()
    assert all((ROOT / path).exists() for path in named), [
        path for path in named if not (ROOT / path).exists()
    ]
    there = [p for folder in ("zeroseg_jax", "configs") for p in (ROOT / folder).rglob("*.py")]
    # assets/recipes is a link to configs/.
    files = {p.relative_to(ROOT).as_posix() for p in there if "assets" not in p.parts}
    missing = {path for path in files if not path.endswith("__init__.py")} - set(named)
    assert not missing, f"add to docs/architecture.md: {sorted(missing)}"
    assert len(named) == len(set(named))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_named_in_tables_and_text_exist(page):
    """Back-ticked paths of the repository; a changelog may name files that are gone."""
    if page.name == "CHANGELOG.md":
        return
    text = FENCE.sub("", page.read_text())
    folders = "zeroseg_jax|configs|tests|bench|launch|docs|data|models|teacher|training|inference"
    for path in re.findall(rf"`((?:{folders}|evaluation|commands|config)/[\w/.-]*)`", text):
        places = (ROOT / path, ROOT / "zeroseg_jax" / path)
        pattern = re.search(r"NAME|FOLDER|SPACE", path)
        assert pattern or any(place.exists() for place in places), f"{page.name}: {path}"


def package_strings():
    """Join the text of every string in the package, one a line; "" for values in f-strings."""
    found = []
    for path in (ROOT / "zeroseg_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "" for v in node.values]
                found.append("".join(parts))
    return "\n".join(found)


def test_messages_of_the_troubleshooting_page_exist():
    rows = re.findall(
        r"^\| (`.+?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
    )
    strings = package_strings()
    messages = [message for row in rows for message in re.findall(r"`(.+?)`", row)]
    assert len(messages) > 20
    for message in messages:
        for part in map(str.strip, message.split("...")):
            assert part in strings, message


def test_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert (
        f"zeroseg_jax-{version}-py3-none-any.whl" in (ROOT / "space/requirements.txt").read_text()
    )
    heading = re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading and heading[1] == version


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_with_outputs(path):
    """Each code cell ran, in order and without an error; Colab's notebook is run there only."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        ast.parse(re.sub(r"^%.*$", "", source, flags=re.MULTILINE))
        assert cell["execution_count"] == (None if path.stem == "colab" else number)
        assert not any(output["output_type"] == "error" for output in cell["outputs"])
    pictures = [o for c in cells for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert path.stem == "colab" or len(pictures) >= 2


def test_the_space_is_small():
    assert len((ROOT / "space/app.py").read_text().splitlines()) <= 60


def test_tables_of_the_reproduction_are_those_of_its_runs(monkeypatch, tmp_path):
    from bench.experiments import reproduction

    page = tmp_path / "reproduction.md"
    shutil.copy(ROOT / "docs/reproduction.md", page)
    monkeypatch.setattr(reproduction, "PAGE", page)
    names = ("reproduction", "paper_tables")
    files = [ROOT / f"docs/results/{name}.json" for name in names]
    reproduction.write_page(*(json.loads(f.read_text()) if f.is_file() else {} for f in files))
    assert page.read_text() == (ROOT / "docs/reproduction.md").read_text()


def test_floors_are_those_of_the_import_test():
    from test_architecture import FLOORS

    assert "```text\n" + "\n".join(FLOORS) + "\n```" in ARCHITECTURE


@pytest.mark.parametrize("page", HOW_TO, ids=lambda path: path.stem)
def test_how_to_pages_run(page, tmp_path):
    """The page's diffs apply to the package, and its tests pass there."""
    copy = tmp_path / "clone"
    shutil.copytree(
        ROOT / "zeroseg_jax", copy / "zeroseg_jax",
        ignore=shutil.ignore_patterns("__pycache__", "recipes"),
    )  # fmt: skip
    tests = []
    for language, title, body in FENCE.findall(page.read_text()):
        if language == "diff":
            # Hunks have one line of context and no line numbers, so that they last.
            numbered = re.sub(r"^@@ .*$", "@@ -2,0 +2,0 @@", body, flags=re.MULTILINE)
            done = subprocess.run(
                ["git", "apply", "--recount", "-C1", "-"],
                cwd=copy, input=numbered, capture_output=True, text=True,
                env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)},
            )  # fmt: skip
            assert not done.returncode, f"{page.name}: {done.stderr}{body}"
        elif title:
            path = copy / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body)
            tests += [title] if title.startswith("tests/") else []
    assert tests, page
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
         "--rootdir", copy, *tests],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    for title in (title for language, title, _ in FENCE.findall(page.read_text()) if title):
        if title.endswith(".py"):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", title],
                cwd=copy, capture_output=True, text=True,
            )  # fmt: skip
            assert not done.returncode, done.stdout
