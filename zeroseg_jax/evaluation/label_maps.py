"""Label maps of another tool: one index PNG per image, DIR/NAME.png, pixels are class ids."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from zeroseg_jax.data.benchmarks.masks import read_index


class PredictionFolder:
    """Folder of predicted label maps, 8 or 16 bits; evaluated in place of a model.

    Raises:
      ValueError: the directory does not exist.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(
                f"--model: {self.directory} is not a directory; predictions:DIR needs one with an "
                "index PNG for each image."
            )

    def find_missing(self, names: list[str]) -> list[str]:
        """Return the names of the images without a file."""
        return [name for name in names if not self._path(name).is_file()]

    def read(self, name: str) -> np.ndarray:
        """Read the label map of an image.

        Args:
          name: name of the image, without the suffix.

        Returns:
          int32 (H, W) class ids; a palette file is read by index.

        Raises:
          ValueError: the file is missing, unreadable or a colour image; names it.
        """
        path = self._path(name)
        if not path.is_file():
            raise ValueError(f"{path}: missing; save a prediction for every image.")
        return read_index(path)

    def checksum(self) -> int:
        """Return a checksum of the files' names, sizes and times."""
        files = ((p.name, p.stat()) for p in sorted(self.directory.glob("*.png")))
        text = "".join(f"{name} {stat.st_size} {stat.st_mtime_ns};" for name, stat in files)
        return zlib.crc32(text.encode())

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"
