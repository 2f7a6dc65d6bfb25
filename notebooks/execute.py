"""Run the notebooks and store their outputs in them: make notebooks.

    python notebooks/execute.py [--check] [NOTEBOOK ...]

--check runs them and stores nothing. Timing and names of temporary folders are left out of what is
stored. colab.ipynb needs Colab and is run there only.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent
LOCAL = [path for path in sorted(HERE.glob("*.ipynb")) if path.stem != "colab"]
_TIMEOUT_SECONDS = 1800
_FOLDER = re.compile(r"/tmp/tmp\w+")


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from the root of the clone; return it with its outputs."""
    book = nbformat.read(path, 4)
    resources = {"metadata": {"path": HERE.parent}}
    client = nbclient.NotebookClient(
        book, timeout=_TIMEOUT_SECONDS, kernel_name="python3", resources=resources,
        record_timing=False,
    )  # fmt: skip
    client.execute()
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if "text" in output:
                output["text"] = _FOLDER.sub("/tmp/work", output["text"])
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)  # Pillow gives both
            if "text/plain" in data:
                data["text/plain"] = _FOLDER.sub("/tmp/work", data["text/plain"])
    book.metadata["language_info"] = {"name": "python"}
    return book


def main() -> None:
    """Run the notebooks given, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=LOCAL)
    parser.add_argument("--check", action="store_true", help="store nothing")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        book = execute(path)
        if not arguments.check:
            nbformat.write(book, path)
        print(f"notebooks: {path.name} ran", flush=True)


if __name__ == "__main__":
    main()
