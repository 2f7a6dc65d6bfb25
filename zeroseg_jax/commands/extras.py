"""Installed version, and the extra of each package that is not installed."""

from __future__ import annotations

from importlib import metadata

# Top-level module -> extra of pyproject.toml. Modules of the core are not listed.
EXTRAS = {
    "aiohttp": "gcs",
    "array_record": "train",
    "chex": "train",
    "etils": "train",
    "gcsfs": "gcs",
    "grain": "train",
    "ml_collections": "train",
    "optax": "train",
    "orbax": "train",
    "threadpoolctl": "train",
    "tensorflow_datasets": "tfds",
    "libtpu": "plan",
    "h11": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "av": "video",
    "contourpy": "polygons",
    "sentencepiece": "siglip",
    "transformers": "siglip",
    "matplotlib": "watch",
    "tensorboardX": "watch",
    "torch": "convert",
}


def explain_missing(error: ImportError, command: str) -> str:
    """Return one sentence for a package that is not installed, or "" for any other module.

    Args:
      error: exception of the import.
      command: command line that needs the package, for example "zeroseg train".
    """
    module = (error.name or "").split(".")[0]
    if module not in EXTRAS:
        return ""
    return f'{command}: {module} is missing; pip install "zeroseg_jax[{EXTRAS[module]}]".'


def find_version() -> str:
    """Return the version of the installed package, or "(not installed)"."""
    try:
        return metadata.version("zeroseg_jax")
    except metadata.PackageNotFoundError:
        return "(not installed)"
