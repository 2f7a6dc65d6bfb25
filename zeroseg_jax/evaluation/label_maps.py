"""Label maps made by any other tool: DIR/NAME.png, pixels are ids of the benchmark's classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

MODES = ("P", "L", "I;16", "I", "1")


class PredictionFolder:
    """Index PNGs, of 8 or 16 bits, one an image; there is nothing to run.

    Raises:
      ValueError: no such directory.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(
                f"--model: {self.directory} is no directory; predictions:DIR wants one with an "
                "index PNG for each image."
            )

    def find_missing(self, names: list[str]) -> list[str]:
        """List the images without a file."""
        return [name for name in names if not self._path(name).is_file()]

    def read(self, name: str) -> np.ndarray:
        """Read one: int32 (H, W), palette files by index.

        Raises:
          ValueError: missing, unreadable, or in colours; names the file.
        """
        path = self._path(name)
        if not path.is_file():
            raise ValueError(f"{path}: missing; every image of the benchmark needs its prediction.")
        try:
            with Image.open(path) as image:
                if image.mode not in MODES:
                    raise ValueError(
                        f"{path}: its pixels are {image.mode}, not indices; save class ids as a "
                        "grey or palette PNG of 8 or 16 bits."
                    )
                return np.asarray(image).astype(np.int32)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"{path}: not a PNG that can be read ({error}).") from error

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"
