"""Captions of Playground scenes in varied English. Source: own."""

from __future__ import annotations

import numpy as np

from zeroseg_jax.data.playground.scenes import Scene, Thing, pick

_SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("big", "large", "huge")}
_OPENINGS = ("", "", "", "a photo of ", "a picture of ", "an image of ", "there is ", "we see ")
_JOINTS = {
    "grass": ("on grass", "on the grass", "over grass"),
    "sky": ("in the sky", "against the sky", "in front of the sky"),
    "water": ("on water", "on the water", "over the water"),
    "sand": ("on sand", "on the sand", "over sand"),
    "brick": ("on brick", "on a brick wall", "in front of brick"),
    "night": ("at night", "in the night", "against the night sky"),
}
_ALONE = ("{}", "only {}", "a photo of {}", "nothing but {}", "a view of {}", "empty {}")


def describe_thing(
    thing: Thing, rng: np.random.Generator, keep: float = 0.75, vague: float = 0.07
) -> str:
    """Describe one thing, for example "a small red star".

    Args:
      thing: thing to describe.
      rng: source of the choices.
      keep: probability of each attribute.
      vague: probability of "thing" or "shape" instead of the shape, if the colour is given. With
        it a CLIP learns colours by themselves.
    """
    words = []
    if rng.random() < 0.25 * keep:
        kind = "small" if thing.radius < 0.17 else "large" if thing.radius > 0.22 else ""
        if kind:
            words.append(pick(rng, _SIZE_WORDS[kind]))
    if thing.fill != "plain" and rng.random() < keep:
        words.append(thing.fill)
    if rng.random() < keep:
        words.append(thing.colour)
    unnamed = thing.colour in words and rng.random() < vague
    words.append(pick(rng, ("thing", "shape")) if unnamed else thing.shape)
    article = "an" if words[0][0] in "aeiou" or words[0] == "hourglass" else "a"
    return f"{article} {' '.join(words)}"


def describe(
    scene: Scene,
    rng: np.random.Generator,
    *,
    things: tuple[Thing, ...] | None = None,
    stuff: tuple[str, ...] | None = None,
    keep: float = 0.75,
    vague: float = 0.07,
) -> str:
    """Describe a scene in one sentence.

    Args:
      scene: scene to describe.
      rng: source of the choices; the same state gives the same sentence.
      things: visible things; all of the scene's by default.
      stuff: visible stuff; all of the scene's by default.
      keep: probability of each attribute and of the stuff.
      vague: probability of leaving out a thing's shape; see describe_thing.

    Returns:
      Lower-case English, for example "a red striped star and a small blue ring on grass".
    """
    things = scene.things if things is None else things
    stuff = scene.stuff if stuff is None else stuff
    if not things:
        return pick(rng, _ALONE).format(" and ".join(stuff))
    order = rng.permutation(len(things))
    names = [describe_thing(things[i], rng, keep, vague) for i in order]
    text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    text = pick(rng, _OPENINGS) + text
    if stuff and rng.random() < max(keep, 0.6):
        place = pick(rng, _JOINTS[stuff[-1]])
        if len(stuff) == 2 and rng.random() < 0.7:
            place = f"{place} under {stuff[0]}" if rng.random() < 0.5 else f"{place} and {stuff[0]}"
        text = f"{text} {place}"
    return text
