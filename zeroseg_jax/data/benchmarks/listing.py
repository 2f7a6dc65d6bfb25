"""Benchmarks of image and mask files, and the listing of their files.

Each data set has a module that builds its FileBenchmark.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.benchmarks.masks import Encoding, MaskError
from zeroseg_jax.data.benchmarks.word_lists import Rows, load_words
from zeroseg_jax.data.folders import is_hidden
from zeroseg_jax.data.transforms import read_image

BACKGROUND = "background"


class LayoutError(ValueError):
    """A data set whose files are not where they should be; the message is one sentence."""


class SizeError(MaskError):
    """A mask of another size than its image."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
      name: name of both.
      image: image file.
      mask: mask file.
    """

    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a split.

    Attributes:
      pairs: images with their masks, in the order of the split.
      missing: files that should be there.
      spare: masks without an image.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[Path, ...] = ()
    spare: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class FileBenchmark:
    """Images and masks on disk.

    Attributes:
      name: name of the benchmark.
      class_names: class names in the order of ids, "background" first if there is one.
      words: synonyms of each class but background.
      has_background: True if id 0 is everything that no class name covers.
      listing: files of the split.
      encoding: meaning of the masks' values.
      official_images: number of images of the full split, all numbers in use; empty if any
        number is right.
      absent_as_zero: True if the mean IoU is over all classes and absent ones count as 0.
      options: options of get_benchmark that it was opened with.
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
        """Names of all images, known without reading them."""
        return tuple(pair.name for pair in self.listing.pairs)

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "image" uint8 (H, W, 3), "label" int32 (H, W) with -1 ignored, and "name".

        Raises:
          ImageError: the image or the mask is unreadable, their sizes differ, or the mask has a
            value without a meaning.
        """
        pair = self.listing.pairs[index]
        label = self.encoding.read(pair.mask)
        return {"image": read_like(pair, label), "label": label, "name": pair.name}

    def checksum(self) -> int:
        """Return a checksum of the names and sizes of all files."""
        total = 0
        for pair in self.listing.pairs:
            sizes = (pair.image.stat().st_size, pair.mask.stat().st_size)
            total = zlib.crc32(f"{pair.name} {sizes}".encode(), total)
        return total

    def keep(self, images: int) -> FileBenchmark:
        """Return the benchmark with only its first `images` images."""
        pairs = self.listing.pairs[:images]
        return dataclasses.replace(self, listing=dataclasses.replace(self.listing, pairs=pairs))


def read_like(pair: Pair, label: np.ndarray) -> np.ndarray:
    """Read an image in the orientation of its mask.

    Some masks were drawn on the stored pixels, others on the pixels rotated by EXIF. The size of
    the mask decides. If both fit (a square), EXIF is applied.

    Args:
      pair: image and mask.
      label: int (H, W), the mask.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ImageError: the image is unreadable.
      SizeError: image and mask differ in size.
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
        f"{width} x {height} px; give the mask the size of its image."
    )


def name_classes(rows: Rows, has_background: bool) -> tuple[str, ...]:
    """Return the first name of each class, and "background" for the background."""
    names = tuple(row[0] for row in rows)
    return (BACKGROUND, *names[1:]) if has_background else names


def build_benchmark(name: str, *, has_background: bool = False, **fields: Any) -> FileBenchmark:
    """Build a benchmark whose word list ships with the project.

    Args:
      name: name of the benchmark and of its word list.
      has_background: True if line 1 of the word list is the background.
      **fields: other fields of FileBenchmark.
    """
    rows = load_words(name)
    words = rows[1:] if has_background else rows
    return FileBenchmark(name, name_classes(rows, has_background), words, has_background, **fields)


def find_root(data_dir: Path, needs: Iterable[str], below: Iterable[str], source: str) -> Path:
    """Find the folder of a data set at or below `data_dir`.

    Args:
      data_dir: folder that the user named.
      needs: folders or files that must be in it.
      below: subfolders to search, in this order; "" is data_dir itself.
      source: instruction for the error message.

    Raises:
      LayoutError: no subfolder has all of `needs`.
    """
    needs, below = list(needs), list(below)
    for place in below:
        if all((data_dir / place / need).exists() for need in needs):
            return data_dir / place
    wanted = data_dir / below[0] / next(n for n in needs if not (data_dir / below[0] / n).exists())
    raise LayoutError(f"{wanted}: missing; {source}")


def read_split(path: Path) -> list[str]:
    """Read the names in a split file, one a line.

    Raises:
      LayoutError: the file has no name, a name twice, or a name with a folder in it.
    """
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not names:
        raise LayoutError(f"{path}: no image is listed; unpack the archive again.")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise LayoutError(f"{path}: {twice} is listed twice; unpack the archive again.")
    for name in names:
        if name != Path(name).name:
            raise LayoutError(
                f"{path}: {name!r} is not a plain file name; unpack the archive again."
            )
    return names


def list_named(names: list[str], images: Path, masks: Path, ending: str = ".png") -> Listing:
    """List the files of a split by name.

    Args:
      names: names of the split.
      images: folder of NAME.jpg.
      masks: folder of NAME and `ending`.
      ending: end of a mask's file name.
    """
    here = {folder: {entry.name for entry in folder.iterdir()} for folder in (images, masks)}
    pairs: list[Pair] = []
    missing: list[Path] = []
    for name in names:
        pair = Pair(name, images / f"{name}.jpg", masks / f"{name}{ending}")
        absent = [file for file in (pair.image, pair.mask) if file.name not in here[file.parent]]
        missing += absent
        if not absent:
            pairs.append(pair)
    return Listing(tuple(pairs), tuple(missing))


def match(
    images: dict[str, Path],
    masks: dict[str, Path],
    masks_folder: Path,
    *,
    ending: str = ".png",
    in_subfolders: bool = False,
) -> Listing:
    """Pair images with masks of the same name, sorted by name.

    Args:
      images, masks: files by name.
      masks_folder: folder of the masks, to name missing ones.
      ending: end of a mask's file name.
      in_subfolders: True if masks are in subfolders with the names of those of the images.
    """
    names = sorted(images)
    pairs = tuple(Pair(name, images[name], masks[name]) for name in names if name in masks)
    missing = tuple(
        masks_folder / (images[name].parent.name if in_subfolders else "") / f"{name}{ending}"
        for name in names
        if name not in masks
    )
    spare = tuple(masks[name] for name in sorted(masks) if name not in images)
    return Listing(pairs, missing, spare)


def list_folder(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of a folder with this ending in any case, by name without it.

    Hidden files are left out, for example macOS's "._a.png" beside "a.png".
    """
    return {
        path.name[: -len(ending)]: path
        for path in folder.iterdir()
        if path.name.lower().endswith(ending.lower()) and not is_hidden(path.name)
    }
