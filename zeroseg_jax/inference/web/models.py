"""Models of the web page: chosen by number, loaded when first asked for, the last few kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zeroseg_jax.inference.cache import LruCache
from zeroseg_jax.inference.model import shorten_name
from zeroseg_jax.inference.predictor import Predictor


class Models:
    """The models that a visitor may choose from; the first is loaded at once.

    One thread at a time may call `get` and `describe`.

    Args:
      names: names of the models, see inference.model.load.
      load: returns the predictor of a name; it must not write visitors' class names to disk
        (cache_names=False).
      kept: number of models in memory.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Predictor], *, kept: int = 2):
        self._names, self._load = tuple(names), load
        self._loaded: LruCache[Predictor] = LruCache(kept)
        self._facts: dict[int, dict[str, Any]] = {}
        self.describe(0)

    @property
    def names(self) -> list[str]:
        """Names to show: of a local directory only the last part, which others may see."""
        return [shorten_name(name) for name in self._names]

    def get(self, number: int) -> Predictor:
        """Return a model; load it, in place of the least recently used one, if it is not kept.

        Raises:
          ValueError: the model cannot be loaded.
        """
        found = self._loaded.get(number)
        if found is None:
            found = self._load(self._names[number])
            self._loaded.put(number, found)
        return found

    def describe(self, number: int) -> dict[str, Any]:
        """Return what the page says of a model, see Model.describe, and "drawn".

        "drawn" is true for a model that knows only the drawn shapes of the Playground.

        Raises:
          ValueError: the model cannot be loaded.
        """
        if number not in self._facts:
            found = self.get(number)
            facts = found.model.describe(found.preset)
            self._facts[number] = {**facts, "drawn": not found.model.knows_photographs}
        return self._facts[number]

    def is_described(self, number: int) -> bool:
        """Return whether `describe` answers at once."""
        return number in self._facts
