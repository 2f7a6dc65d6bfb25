"""The table of `zeroseg models`."""

import subprocess
import sys

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


def test_an_argument_is_refused():
    with pytest.raises(ValueError, match="takes no argument 'all'"):
        models.main(["all"])
