"""Benchmark of a user's own images and masks: DIR/images, DIR/masks, DIR/words.txt."""

from __future__ import annotations

from pathlib import Path

from zeroseg_jax.data.benchmarks.listing import (
    BACKGROUND,
    FileBenchmark,
    LayoutError,
    find_root,
    list_folder,
    match,
    name_classes,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table
from zeroseg_jax.data.benchmarks.word_lists import Rows, read_words
from zeroseg_jax.data.folders import is_hidden
from zeroseg_jax.data.transforms import SUFFIXES

IGNORE = 255
# First lines that label tools write for everything without a class.
_BACKGROUNDS = (BACKGROUND, "_background_", "__background__", "bg", "unlabeled", "unlabelled")


def build(data_dir: Path, *, ignore: int = IGNORE, reduce_zero: bool = False) -> FileBenchmark:
    """Build "folder".

    Masks are palette or grey PNGs of 1 to 16 bits with the stems of the images. Line k of
    words.txt, counted from 0, names id k. With a first line "background" (or _background_,
    __background__, bg, unlabeled), id 0 is everything that no class name covers. Hidden files and
    folders are left out.

    Args:
      data_dir: folder of images, masks and words.txt.
      ignore: raw value of ignored pixels; -1 for none.
      reduce_zero: True ignores raw value 0; line k of words.txt then names raw value k + 1.

    Raises:
      LayoutError: a folder or all images are missing, or two images share a stem.
      ValueError: words.txt is malformed, or contradicts `ignore` or `reduce_zero`.
    """
    root = find_root(
        data_dir,
        ("images", "masks", "words.txt"),
        ("",),
        "provide images/, masks/ with the same stems, and words.txt.",
    )
    rows = read_words(root / "words.txt")
    has_background = rows[0][0].casefold() in _BACKGROUNDS
    _check(rows, has_background, root / "words.txt", ignore, reduce_zero)
    table = build_table(
        {value: value for value in range(len(rows) + reduce_zero)},
        (ignore,) if ignore >= 0 else (),
        reduce_zero=reduce_zero,
    )
    return FileBenchmark(
        "folder",
        name_classes(rows, has_background),
        rows[1:] if has_background else rows,
        has_background,
        listing=match(
            _list_images(root / "images"), list_folder(root / "masks", ".png"), root / "masks"
        ),
        encoding=Encoding(table, hint=f"words.txt has {len(rows)} classes; --ignore is {ignore}."),
        options={"ignore": ignore, "reduce_zero": reduce_zero},
    )


def _check(rows: Rows, has_background: bool, path: Path, ignore: int, reduce_zero: bool) -> None:
    if has_background and len(rows) == 1:
        raise ValueError(f"{path}: only a background is named; add a line for each class.")
    if has_background and reduce_zero:
        raise ValueError(
            f"{path}: its first line is {BACKGROUND!r}, but --reduce_zero ignores label 0; "
            "drop the line or the flag."
        )
    if not -1 <= ignore <= 65_535:
        raise ValueError(f"--ignore: {ignore} is outside -1..65535; give a value in that range.")
    if 0 <= ignore < len(rows) + reduce_zero and (ignore or not reduce_zero):
        word = rows[ignore - reduce_zero][0]
        raise ValueError(
            f"--ignore: {ignore} is also the label of {word!r}; name another value, or -1."
        )


def _list_images(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_hidden(path.name):
            continue
        if path.is_dir():
            raise LayoutError(f"{path}: is a folder; put images directly into {folder}.")
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in images:
            raise LayoutError(
                f"{path}: shares its stem with {images[path.stem].name}; rename one of them."
            )
        images[path.stem] = path
    if not images:
        raise LayoutError(f"{folder}: no image ({', '.join(SUFFIXES)}); put some there.")
    return images
