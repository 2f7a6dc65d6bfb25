"""Open-vocabulary segmentation without labels. `Predictor` segments images by class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroseg_jax.inference.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import zeroseg_jax` does not import JAX.
    if name == "Predictor":
        from zeroseg_jax.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'zeroseg_jax' has no attribute {name!r}")
