"""Which classes count as unseen, by benchmark, for seen, unseen and harmonic means.

Generalised zero-shot segmentation: the usual splits, of ZegCLIP and CLIP-ZSS among others.
"""

from __future__ import annotations

import difflib

# Ids of label spaces without background.
UNSEEN: dict[str, tuple[int, ...]] = {
    # potted plant, sheep, sofa, train, monitor
    "voc20": (15, 16, 17, 18, 19),
    # cow, giraffe, suitcase, frisbee, skateboard, carrot, scissors, cardboard, clouds, grass,
    # playing field, river, road, tree, concrete wall
    "coco_stuff171": (19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160),
}


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
        if benchmark not in UNSEEN:
            raise ValueError(
                f"--unseen: there is no usual split of {benchmark!r} (only of "
                f"{', '.join(UNSEEN)}); name the classes, with ';' between."
            )
        return list(UNSEEN[benchmark])
    ids = []
    for name in (part.strip() for part in text.split(";")):
        if name not in class_names:
            near = difflib.get_close_matches(name, class_names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(class_names)}."
            raise ValueError(f"--unseen: {name!r} is no class of {benchmark}; {hint}")
        ids.append(class_names.index(name))
    return sorted(set(ids))
