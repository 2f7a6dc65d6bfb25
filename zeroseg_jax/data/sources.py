"""Random-access sources of images: len(source) and source[i] -> {"image", "name", "index"}."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from zeroseg_jax.config import Config
from zeroseg_jax.data import packed_sources
from zeroseg_jax.data.folders import find_files
from zeroseg_jax.data.playground.scenes import SCENE_PX, build_scene, render
from zeroseg_jax.data.transforms import SUFFIXES, read_image


class Source(Protocol):
    """Random access to images, as `prepare` and live training read them."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return "image" uint8 (H, W, 3), "name" and "index"; raise ImageError if unreadable."""
        ...


class PlaygroundSource:
    """Scenes of a split of the Playground.

    Args:
      seed: seed of the split.
      count: number of scenes.
      size_px: side of an image.
    """

    def __init__(self, seed: int, count: int, size_px: int = SCENE_PX):
        self.seed, self.count, self.size_px = seed, count, size_px

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, _ = render(build_scene(self.seed, index), self.size_px)
        return {"image": image, "name": f"scene-{self.seed}-{index:06d}", "index": index}


class FolderSource:
    """Images below a folder, sorted by path.

    Args:
      directory: folder, searched recursively for transforms.SUFFIXES in upper or lower case;
        links are followed, hidden files left out.
      limit: largest number of images; 0 for all.
      max_pixels: limit on width times height; see transforms.read_image.
      stems: text file with one stem a line, to take only these images; "" for all.
      least_px: side to which JPEGs may be reduced at decoding; see transforms.read_image.

    Attributes:
      notes: sentences about files that were left out.

    Raises:
      ValueError: the folder is missing or has no image, or a listed stem is missing.
    """

    def __init__(
        self,
        directory: str,
        limit: int = 0,
        max_pixels: int = 50_000_000,
        stems: str = "",
        least_px: int = 0,
    ):
        root = Path(directory)
        if not root.is_dir():
            raise ValueError(f"data.directory: {directory} is not a folder; name one with images.")
        found = find_files(root, SUFFIXES)
        names = sorted(str(path.relative_to(root)) for path in found.paths)
        self.notes = found.notes
        if not names:
            raise ValueError(
                f"data.directory: {directory} has no image ({', '.join(SUFFIXES)}); "
                "put some there or name another folder."
            )
        if stems:
            names = _take_listed(names, Path(stems))
        self.root, self.max_pixels, self.least_px = root, max_pixels, least_px
        self.names = names[:limit] if limit else names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.names[index]
        image = read_image(self.root / name, max_pixels=self.max_pixels, least_px=self.least_px)
        return {"image": image, "name": name, "index": index}

    def count_bytes(self, index: int) -> int:
        """Return the size of an image's file; 0 if it is gone."""
        try:
            return (self.root / self.names[index]).stat().st_size
        except OSError:
            return 0


def _take_listed(names: list[str], path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"data.names: {path} is not a file; name one with one stem a line.")
    wanted = set(path.read_text(encoding="utf-8").split())
    taken = [name for name in names if Path(name).stem in wanted]
    missing = sorted(wanted - {Path(name).stem for name in taken})
    if missing:
        raise ValueError(
            f"data.names: {len(missing)} of {len(wanted)} images in {path} are missing in "
            f"data.directory, the first is {missing[0]}; correct one of the two."
        )
    return taken


def build_source(config: Config, least_px: int = 0) -> Source:
    """Build the image source of a config (data.source).

    Args:
      config: settings of the source.
      least_px: with data.draft, side to which JPEGs may be reduced while they are decoded.

    Raises:
      ValueError: the folder is missing or empty, or a shard is damaged.
    """
    data = config.data
    limits = (data.images, data.max_pixels)
    least_px = least_px if data.draft else 0
    if data.source == "folder":
        return FolderSource(data.directory, *limits, data.names, least_px)
    if data.source == "arrayrecord":
        return packed_sources.ArrayRecordSource(data.directory, *limits, least_px)
    if data.source == "tar":
        return packed_sources.TarSource(data.directory, SUFFIXES, *limits, least_px)
    if data.source == "tfds":
        return packed_sources.TfdsSource(data.directory, data.images)
    return PlaygroundSource(data.scene_seed, data.images)


def check_batch(batch_global: int, images: int) -> None:
    """Raise a ValueError if a source has fewer images than a global batch."""
    if images < batch_global:
        raise ValueError(
            f"optim.batch_global: {batch_global} is more than the {images} images of the "
            "source; use a smaller batch or more images."
        )


def describe_source(config: Config) -> dict[str, Any]:
    """Return the settings of a config's source for a manifest."""
    data = config.data
    if data.source != "playground":
        found = {"kind": data.source, "directory": data.directory, "images": data.images}
        return {**found, "draft": True} if data.draft else found  # older banks have no such entry
    return {"kind": "playground", "seed": data.scene_seed, "images": data.images}


def digest_names(source: Source) -> str:
    """Return the sha256 hex digest of the file names of a source; "" if it has none.

    Adding or removing a file shifts the index of all later files.
    """
    names = getattr(source, "names", [])
    return (
        hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
        if names
        else ""
    )


def digest_sizes(source: Source, indices: range) -> str:
    """Return the sha256 hex digest of the sizes of files; "" if the source has none.

    An image that replaces another under its name nearly always has another size.
    """
    count_bytes = getattr(source, "count_bytes", None)
    if count_bytes is None:
        return ""
    return hashlib.sha256(" ".join(str(count_bytes(i)) for i in indices).encode()).hexdigest()
