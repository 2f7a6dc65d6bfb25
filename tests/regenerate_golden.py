"""Rewrite tests/golden from configs/: python tests/regenerate_golden.py."""

import importlib
import json
from pathlib import Path

from zeroseg_jax.config import from_mapping, to_mapping

ROOT = Path(__file__).parent.parent


def main():
    """Write one file a recipe and variant."""
    folder = ROOT / "tests" / "golden"
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "configs").glob("*.py")):
        if path.stem in ("__init__", "base"):
            continue
        module = importlib.import_module(f"zeroseg_jax.assets.recipes.{path.stem}")
        for variant in getattr(module, "VARIANTS", ("",)):
            config = module.get_config(variant) if variant else module.get_config()
            content = json.dumps(to_mapping(from_mapping(config.to_dict())), indent=1)
            (folder / f"{path.stem}_{variant or 'only'}.json").write_text(content + "\n")


if __name__ == "__main__":
    main()
