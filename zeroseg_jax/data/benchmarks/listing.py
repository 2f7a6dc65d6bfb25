"""Benchmarks that lie on disk as pictures and masks; each data set's module lists its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.benchmarks.masks import Encoding, MaskError
from zeroseg_jax.data.benchmarks.word_lists import Rows, load_words
from zeroseg_jax.data.transforms import read_image

BACKGROUND = "background"


class LayoutError(ValueError):
    """A data set that does not lie as it should; the message says where it must."""


class SizeError(MaskError):
    """A mask of another size than its picture."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture, its mask, and their common name."""

    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a split.

    Attributes:
      pairs: complete ones, in the order of the split.
      missing: files that should be there.
      spare: masks without a picture.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[Path, ...] = ()
    spare: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class FileBenchmark:
    """Pictures and masks on disk.

    Attributes:
      name: of the benchmark.
      class_names: in the order of ids; "background" first where there is one.
      words: for each class but background, its synonyms.
      has_background: whether id 0 is whatever no word names.
      listing: which files.
      encoding: of the masks.
      official_images: how many the full split has; several where several are in use, none
        where any number is right.
      absent_as_zero: the mean is over all classes, and one that never occurs counts as 0.
      options: of get_benchmark, where it was opened with any.
    """

    name: str
    class_names: tuple[str, ...]
    words: Rows
    has_background: bool
    listing: Listing
    encoding: Encoding
    official_images: tuple[int, ...] = ()
    absent_as_zero: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all pictures, known without reading any."""
        return tuple(pair.name for pair in self.listing.pairs)

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return image uint8 (H, W, 3), label int32 (H, W) with -1 ignored, and name.

        Raises:
          ImageError: the picture or the mask is unreadable, they differ in size, or the mask
            holds a value without a meaning; names the file.
        """
        pair = self.listing.pairs[index]
        label = self.encoding.read(pair.mask)
        return {"image": read_like(pair, label), "label": label, "name": pair.name}

    def keep(self, images: int) -> FileBenchmark:
        """Return the benchmark of the first `images` pictures."""
        pairs = self.listing.pairs[:images]
        return dataclasses.replace(self, listing=dataclasses.replace(self.listing, pairs=pairs))


def read_like(pair: Pair, label: np.ndarray) -> np.ndarray:
    """Read the picture of a mask: uint8 (H, W, 3).

    Some annotators drew on the pixels as stored, others on what EXIF makes of them. The size
    of the mask tells; where it cannot (a square), the picture is turned as EXIF says.

    Raises:
      ImageError: unreadable.
      SizeError: of another size than the mask.
    """
    image = read_image(pair.image)
    if image.shape[:2] == label.shape:
        return image
    stored = read_image(pair.image, upright=False)
    if stored.shape[:2] == label.shape:
        return stored
    height, width = image.shape[:2]
    raise SizeError(
        f"{pair.mask}: {label.shape[1]} x {label.shape[0]} px, but {pair.image.name} is "
        f"{width} x {height} px; a mask has the size of its picture."
    )


def name_classes(rows: Rows, has_background: bool) -> tuple[str, ...]:
    """Name each class by its first word, and the background "background"."""
    names = tuple(row[0] for row in rows)
    return (BACKGROUND, *names[1:]) if has_background else names


def build_benchmark(name: str, *, has_background: bool = False, **fields: Any) -> FileBenchmark:
    """Build a benchmark whose words ship with the project; `fields` are FileBenchmark's."""
    rows = load_words(name)
    words = rows[1:] if has_background else rows
    return FileBenchmark(name, name_classes(rows, has_background), words, has_background, **fields)


def find_root(data_dir: Path, needs: Iterable[str], below: Iterable[str], source: str) -> Path:
    """Find the folder of a data set at or below `data_dir`.

    Args:
      data_dir: what the user named.
      needs: folders or files that must be there.
      below: where to look, in this order; "" is data_dir itself.
      source: what to unpack or convert where nothing is found.

    Raises:
      LayoutError: none of the places holds all of `needs`.
    """
    needs, below = list(needs), list(below)
    for place in below:
        if all((data_dir / place / need).exists() for need in needs):
            return data_dir / place
    wanted = data_dir / below[0] / next(n for n in needs if not (data_dir / below[0] / n).exists())
    raise LayoutError(f"{wanted}: not there; {source}")


def read_split(path: Path) -> list[str]:
    """Read the names that a split file lists, one a line.

    Raises:
      LayoutError: none, one twice, or one that is no plain name.
    """
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not names:
        raise LayoutError(f"{path}: lists no picture; unpack the archive again.")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise LayoutError(f"{path}: lists {twice} twice; unpack the archive again.")
    for name in names:
        if name != Path(name).name:
            raise LayoutError(f"{path}: {name!r} is no plain name of a picture.")
    return names


def list_named(names: list[str], images: Path, masks: Path) -> Listing:
    """List the pictures NAME.jpg and masks NAME.png that a split file names."""
    here = {folder: {entry.name for entry in folder.iterdir()} for folder in (images, masks)}
    pairs, missing = [], []
    for name in names:
        pair = Pair(name, images / f"{name}.jpg", masks / f"{name}.png")
        absent = [file for file in (pair.image, pair.mask) if file.name not in here[file.parent]]
        missing += absent
        if not absent:
            pairs.append(pair)
    return Listing(tuple(pairs), tuple(missing))


def match(images: dict[str, Path], masks: dict[str, Path], masks_folder: Path) -> Listing:
    """Pair pictures with masks of the same name, sorted by name."""
    names = sorted(images)
    pairs = tuple(Pair(name, images[name], masks[name]) for name in names if name in masks)
    missing = tuple(masks_folder / f"{name}.png" for name in names if name not in masks)
    spare = tuple(masks[name] for name in sorted(masks) if name not in images)
    return Listing(pairs, missing, spare)


def list_folder(folder: Path, ending: str) -> dict[str, Path]:
    """Map names to the files of a folder that end so, the ending cut off."""
    return {
        path.name.removesuffix(ending): path
        for path in folder.iterdir()
        if path.name.endswith(ending)
    }
