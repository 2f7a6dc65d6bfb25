"""Host work of `zeroseg prepare`: milliseconds of one core and bytes sent per image.

    python -m bench.speed.prepare_host --output=docs/results/prepare_host.json

Two kinds of JPEG, of ImageNet's usual size and of a camera's, with the views cut on the host and on
the device, and with reduced decoding (data.draft). Milliseconds are CPU time of all threads, so
other load counts little. The effect of data.draft on the values is printed beside it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from bench import record
from bench.speed.timing import least_seconds
from zeroseg_jax.commands import flags
from zeroseg_jax.data import transforms
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.data.views import grid_windows
from zeroseg_jax.teacher.view_cutting import stack_squares

_SIDE_PX, _WINDOWS = 224, grid_windows((1, 2, 3, 4), False)  # the paper's recipe
_GROUP = 16  # images of a forward pass of ViT-L/14
_SIZES = {"500 x 375": ((500, 375), 32), "4000 x 3000": ((4000, 3000), 4)}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 5, "number of timed calls; the fastest counts", 1)
    record.define_output("prepare_host")


def main(arguments: list[str]) -> None:
    """Measure every kind of image and record the results."""
    del arguments
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (size, count) in _SIZES.items():
            paths = _write_photos(Path(folder) / str(size[0]), size, count)
            found[name] = measure(paths)
            for form, value in found[name].items():
                print(f"{name:12s} {form:44s} {value:10.2f}", flush=True)
    record.write({"views": len(_WINDOWS), "view_px": _SIDE_PX, "images": found})


def measure(paths: list[Path]) -> dict[str, float]:
    """Return milliseconds, megabytes and differences by name, per image."""
    needed = transforms.count_needed_px(_WINDOWS, _SIDE_PX)
    forms = {
        "ms, decode": transforms.read_image,
        "ms, views cut on the host": _read,
        "ms, views cut on the device": _read_square,
        "ms, on the device, data.draft": lambda path: _read_square(path, needed),
    }
    found = {}
    for name, form in forms.items():
        found[name] = _milliseconds(lambda form=form: [form(path) for path in paths], len(paths))
    full, draft = ([_read_square(path, least) for path in paths] for least in (0, needed))
    group = [square for _, square in full[:_GROUP]]
    found["ms, stacking of squares (one thread)"] = _milliseconds(
        lambda: stack_squares(group, _WINDOWS, _SIDE_PX, len(group)), len(group)
    )
    sent = stack_squares(group, _WINDOWS, _SIDE_PX, len(group))
    found["MB sent, views"] = len(_WINDOWS) * _SIDE_PX**2 * 3 / 1e6
    found["MB sent, squares and weights"] = sum(part.nbytes for part in sent) / len(group) / 1e6
    pairs = [(square, reduced) for (_, square), (_, reduced) in zip(full, draft, strict=True)]
    difference = np.abs(np.stack([square.astype(int) - reduced for square, reduced in pairs]))
    found["levels of 255 by data.draft, mean"] = float(difference.mean())
    found["levels of 255 by data.draft, 99 %"] = float(np.quantile(difference, 0.99))
    return {name: round(value, 3) for name, value in found.items()}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training square and the views, as prepare's readers do."""
    image = transforms.read_image(path)
    return transforms.square_crop(image, _SIDE_PX), transforms.cut_views(image, _WINDOWS, _SIDE_PX)


def _read_square(path: Path, least_px: int = 0) -> tuple[np.ndarray | None, np.ndarray]:
    """Return what the host prepares for the device: the training square only if it was resized."""
    image = transforms.read_image(path, least_px=least_px)
    square = transforms.square_for_views(image, _WINDOWS, _SIDE_PX)
    whole = len(square) == min(image.shape[:2])
    return None if whole else transforms.square_crop(image, _SIDE_PX), square


def _milliseconds(run, images: int) -> float:
    return 1e3 * least_seconds(run, FLAGS.rounds)[1] / images


def _write_photos(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write JPEGs: scenes with grain, since photographs are not smooth."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        scene, _ = scenes.render(scenes.build_scene(0, i), 512)
        picture = Image.fromarray(scene[:384]).resize(size, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 8, (size[1], size[0], 1)).astype(np.float32)
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        paths.append(folder / f"{i:03d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


if __name__ == "__main__":
    flags.run(main, define_flags)
