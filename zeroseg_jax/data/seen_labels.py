"""Training label maps with only the seen classes; unseen labels are removed here (CLIP-ZSS).

Seen classes are renumbered 0 .. N - 1 in the order of the split. Pixels of unseen classes, void
pixels and pixels without an annotation all become -1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data.benchmarks.masks import read_index
from zeroseg_jax.data.playground.scenes import build_scene, encode_scene, render
from zeroseg_jax.data.transforms import ImageError, centre_square, read_orientation, turn_upright

VOID = 255
IGNORE = -1

ReadLabels = Callable[[int, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class SeenLabels:
    """Label map of an image for training.

    Attributes:
      labels: int16 (side, side), -1 or a seen class.
      hidden: int64 (U,), number of full-resolution pixels of each unseen class that became -1.
      truth: int16 (side, side), the map with its unseen classes, for reports only.
    """

    labels: np.ndarray
    hidden: np.ndarray
    truth: np.ndarray


class SeenLabelSource:
    """Label maps of the training squares without the unseen classes.

    Args:
      read: function of (index, name) that returns the label map, integer (H, W), 255 for void.
      classes: number of classes.
      seen, unseen: class ids.
      side: side of the returned label maps, in pixels.
    """

    def __init__(
        self, read: ReadLabels, classes: int, seen: tuple[int, ...], unseen: tuple[int, ...],
        side: int,
    ):  # fmt: skip
        self._read, self._classes, self._unseen, self._side = read, classes, unseen, side
        self._table = np.full(max(classes, VOID) + 1, IGNORE, np.int16)
        self._table[list(seen)] = np.arange(len(seen))

    def load(self, index: int, name: str) -> SeenLabels:
        """Read the label map of an image.

        Args:
          index: position in the image source.
          name: name of the image.

        Raises:
          ImageError: a label is out of range, or the file cannot be read.
        """
        full = centre_square(self._read(index, name))
        known = full != VOID
        if known.any() and not 0 <= full[known].min() <= full[known].max() < self._classes:
            raise ImageError(
                f"{name}: its mask has {full[known].min()}..{full[known].max()}, but classes are "
                f"0..{self._classes - 1} and {VOID} is void; see clip_zss.labels.zero_is_void."
            )
        hidden = np.array([(full == i).sum() for i in self._unseen], np.int64)
        small = _sample(full, self._side)
        return SeenLabels(self._table[small], hidden, np.where(small == VOID, IGNORE, small))


def _sample(labels: np.ndarray, side: int) -> np.ndarray:
    """Return the label at the centre of each of side x side cells."""
    at = ((np.arange(side) + 0.5) * len(labels) / side).astype(np.int64)
    return labels[at[:, None], at].astype(np.int16)


def read_playground(seed: int, size_px: int) -> ReadLabels:
    """Return a reader of the Playground's label maps: shapes 0 .. 11, stuff 12 .. 17.

    Args:
      seed: seed of the split.
      size_px: side at which scenes are drawn.
    """

    def read(index: int, name: str) -> np.ndarray:
        del name
        return encode_scene(render(build_scene(seed, index), size_px)[1])

    return read


def read_folder(directory: str, zero_is_void: bool, images: str = "") -> ReadLabels:
    """Return a reader of index PNGs with the names of the images.

    Args:
      directory: folder of the masks, with the subfolders of the images.
      zero_is_void: True if the files store class k as k + 1, and void as 0.
      images: folder of the images, to compare sizes: a mask drawn on the stored pixels of an image
        with EXIF rotation is rotated like it. Empty: sizes are not compared.

    Raises:
      ValueError: the folder is missing.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ValueError(
            f"clip_zss.labels.directory: {directory} is not a folder; name the folder of masks."
        )

    def read(index: int, name: str) -> np.ndarray:
        del index
        path = (root / name).with_suffix(".png")
        labels = read_index(path)
        if images:
            labels = _fit(labels, path, Path(images) / name)
        if zero_is_void:
            labels = np.where((labels == 0) | (labels == VOID), VOID, labels - 1)
        return labels

    return read


def _fit(labels: np.ndarray, mask: Path, image: Path) -> np.ndarray:
    """Return a mask in the display orientation of its image, found by the sizes."""
    stored, orientation = read_orientation(image)
    upright = stored[::-1] if orientation > 4 else stored
    if labels.shape == upright:
        return labels
    if labels.shape == stored:
        return turn_upright(labels, orientation)
    raise ImageError(
        f"{mask}: {labels.shape[1]} x {labels.shape[0]} px, but {image} is {upright[1]} x "
        f"{upright[0]} px; give the mask the size of its image."
    )


def build_label_source(
    config: Config, classes: int, seen: tuple[int, ...], unseen: tuple[int, ...], scene_px: int
) -> SeenLabelSource:
    """Build the label source of a config's images.

    Args:
      config: settings of the image source and the masks.
      classes: number of classes; 0 leaves every pixel without an annotation.
      seen, unseen: class ids of the split.
      scene_px: side at which the Playground's scenes are drawn.
    """
    settings = config.clip_zss.labels
    side = config.model.image_px // settings.stride_px
    read: ReadLabels
    if not classes:
        void = np.full((side, side), VOID, np.int32)

        def read(index: int, name: str) -> np.ndarray:
            del index, name
            return void

    elif config.data.source == "playground":
        read = read_playground(config.data.scene_seed, scene_px)
    else:
        images = config.data.directory if config.data.source == "folder" else ""
        read = read_folder(settings.directory, settings.zero_is_void, images)
    return SeenLabelSource(read, classes, seen, unseen, side)
