"""Which classes count as unseen, by benchmark, for seen, unseen and harmonic means.

Generalised zero-shot segmentation: the usual splits, of ZegCLIP and CLIP-ZSS among others.
"""

from __future__ import annotations

from zeroseg_jax.config import suggest
from zeroseg_jax.data.benchmarks.splits import BENCHMARKS, usual_unseen


def find_unseen(text: str, benchmark: str, class_names: tuple[str, ...]) -> list[int]:
    """Read --unseen.

    Args:
      text: "" for no split, "usual" for the field's, or names of classes with ";" between.
      benchmark: its name.
      class_names: in the order of ids.

    Returns:
      Ids, ascending.

    Raises:
      ValueError: no usual split of this benchmark, or a name it does not have.
    """
    if not text:
        return []
    if text == "usual":
        usual = usual_unseen(benchmark, class_names)
        if usual is None:
            raise ValueError(
                f"--unseen: there is no usual split of {benchmark!r} (only of "
                f"{', '.join(BENCHMARKS)}); name the classes, with ';' between."
            )
        return list(usual)
    ids = []
    for name in (part.strip() for part in text.split(";")):
        if name not in class_names:
            raise ValueError(
                f"--unseen: {name!r} is no class of {benchmark}; {suggest(name, class_names)}"
            )
        ids.append(class_names.index(name))
    return sorted(set(ids))
