"""Pinned packages: listed with a licence, and locked with the hashes of the same versions."""

import re
from pathlib import Path

from bench.licences import list_pinned

ROOT = Path(__file__).parent.parent


def test_every_pinned_package_has_a_licence():
    page = (ROOT / "docs/licences.md").read_text()
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", page, re.MULTILINE))
    del rows["package"]
    assert set(rows) == set(list_pinned()), "run python -m bench.licences > docs/licences.md"
    assert "not stated" not in rows.values()


def test_hashes_are_of_the_pinned_versions():
    text = (ROOT / ".ci/requirements-hashed.txt").read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    hashed = {}
    for entry in entries:
        package, version = re.match(r"([\w.-]+)==([\w.]+)", entry).groups()
        hashed.setdefault(package, set()).add(version)
        assert "--hash=sha256:" in entry, package
    assert hashed == list_pinned(), "run make lock"
