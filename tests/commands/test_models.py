"""The table of `zeroseg models`."""

import subprocess
import sys
from pathlib import Path

import pytest

from zeroseg_jax.commands import models
from zeroseg_jax.teacher.aliases import ALIASES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_each_alias_has_a_line_with_its_licence():
    lines = models.render_table().splitlines()
    for name, alias in ALIASES.items():
        (line,) = [line for line in lines if line.split()[0].rstrip("*") == name]
        assert str(alias.megabytes) in line and alias.licence in line
        assert ("unpinned" in line) == (alias.revision == "main")
    assert "CC-BY-NC-4.0 (non-commercial)" in next(x for x in lines if x.startswith("metaclip2"))


def test_the_table_appears_without_jax():
    code = (
        "import sys; from zeroseg_jax.commands import models; models.main([]); "
        "sys.exit(any(m in sys.modules for m in ('jax', 'flax', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clip-b16*" in done.stdout


def test_the_page_of_teachers_has_the_same_table():
    page = (Path(__file__).parents[2] / "docs/teachers.md").read_text()
    for name, alias in ALIASES.items():
        commit = "not recorded" if alias.revision == "main" else f"`{alias.revision[:12]}`"
        scores = ", ".join(f"{bench} {score:.1f}" for bench, score in alias.published.items())
        cells = [
            f"`{name}`", alias.repository, commit, str(alias.megabytes), alias.licence,
            alias.readout or "affinities", scores or "none",
        ]  # fmt: skip
        assert f"| {' | '.join(cells)} |" in page, name


def test_an_argument_is_refused():
    with pytest.raises(ValueError, match="takes no argument 'all'"):
        models.main(["all"])
