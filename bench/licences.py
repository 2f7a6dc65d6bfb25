"""Table of the licences of all pinned packages, from the metadata of the installed ones.

python -m bench.licences > docs/licences.md
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
_HEAD = """# Licences

Licences that the pinned packages state in their metadata; `python -m bench.licences` writes this
page. The package itself is under Apache-2.0. Extras and accelerators are not listed.

| package | licence |
|---|---|
"""


def list_pinned() -> dict[str, set[str]]:
    """Return the pinned versions of each package of requirements.txt and requirements-dev.txt."""
    pinned: dict[str, set[str]] = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for package, version in _PIN.findall((ROOT / name).read_text(encoding="utf-8")):
            pinned.setdefault(package, set()).add(version)
    return pinned


def read_licence(package: str) -> str:
    """Return the licence in the metadata of an installed package, on one line."""
    metadata = importlib.metadata.metadata(package)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    stated = metadata.get("License-Expression") or "; ".join(classifiers)
    # Some packages put the whole text there; its first line has the name.
    stated = stated or (metadata.get("License") or "").strip().partition("\n")[0]
    for name in metadata.get_all("License-File") or []:
        text = importlib.metadata.distribution(package).read_text(f"licenses/{name}") or ""
        stated = stated or text.strip().partition("\n")[0]
    return stated.replace("|", "/") or "not stated"


def render_table() -> str:
    """Render docs/licences.md."""
    rows = [f"| {package} | {read_licence(package)} |" for package in sorted(list_pinned())]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(render_table(), end="")
