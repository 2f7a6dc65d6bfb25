"""Table of the models that are known by a short name: zeroseg models.

Any of them is fetched once by `zeroseg segment photo.jpg --words "dog, sofa" --model NAME`. Another
public model is written hf:owner/name@REVISION; A+B is a vision tower A with a CLIP B. Published
scores are mIoU in percent, printed by others and not measured by this project.
"""

from __future__ import annotations

from zeroseg_jax.teacher.aliases import ALIASES, DEFAULT

_HEAD = ("name", "MB", "cached", "read-out", "published", "revision", "licence", "note")
_RIGHT = (False, True, False, False, False, False, False, False)


def define_flags() -> None:
    """Define the command line, which has no flags."""


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments:
        raise ValueError(f"models: takes no argument {arguments[0]!r}; leave it out.")
    print(render_table())


def render_table() -> str:
    """Render one line for each alias, and one for the model that ships."""
    from zeroseg_jax.teacher import hub

    rows = [_HEAD]
    for name, alias in ALIASES.items():
        scores = [f"{bench} {score:.1f}" for bench, score in alias.published.items()]
        rows.append((
            f"{name}*" if name == DEFAULT else name,
            str(alias.megabytes),
            "yes" if hub.is_cached(alias) else "no",
            alias.readout or "-",
            scores[0] if scores else "-",
            "unpinned" if alias.revision == "main" else alias.revision[:7],
            alias.licence,
            alias.note,
        ))  # fmt: skip
    rows.append(("playground", "5", "ships", "student", "-", "-", "Apache-2.0",
                 "knows only drawn shapes"))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, _RIGHT, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.append(f"* default of segment, serve and Predictor.from_pretrained() ({DEFAULT})")
    return "\n".join(lines)
