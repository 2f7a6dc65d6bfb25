"""Open-vocabulary segmentation without labels; `Predictor` is all that most need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroseg_jax.inference.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    # Importing the package stays instant; jax is imported when somebody predicts.
    if name == "Predictor":
        from zeroseg_jax.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'zeroseg_jax' has no attribute {name!r}")
