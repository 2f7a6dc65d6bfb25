"""Segmentation benchmarks by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from zeroseg_jax.config import suggest
from zeroseg_jax.data.benchmarks import (
    ade20k,
    ade847,
    cityscapes,
    coco,
    context,
    context459,
    folder,
    imagenet_s,
    mess,
    voc,
)
from zeroseg_jax.data.benchmarks.listing import FileBenchmark, LayoutError
from zeroseg_jax.data.benchmarks.playground import BENCHMARKS, Playground

__all__ = ["BENCHMARKS", "FILES", "Benchmark", "get_benchmark", "open_files"]

Benchmark = Playground | FileBenchmark

# Builders of the benchmarks that are read from a folder.
FILES: dict[str, Callable[[str, Path], FileBenchmark]] = {
    "voc21": voc.build,
    "voc20": voc.build,
    "context60": context.build,
    "context59": context.build,
    "coco_object": coco.build,
    "coco_stuff171": coco.build,
    "coco_stuff27": coco.build,
    "ade150": ade20k.build,
    "ade847": ade847.build,
    "context459": context459.build,
    "cityscapes19": cityscapes.build,
    **{name: imagenet_s.build for name in imagenet_s.SPLITS},
    **{name: mess.build for name in mess.SOURCES},
    "folder": lambda name, root: folder.build(root),
}


def get_benchmark(
    name: str,
    *,
    data_dir: str | Path = "",
    images: int = 0,
    seed: int | None = None,
    ignore: int = folder.IGNORE,
    reduce_zero: bool = False,
) -> Benchmark:
    """Return a benchmark by name.

    Args:
      name: benchmark, for example "playground/things" or "voc21".
      data_dir: folder of the data set, as its archives unpack; unused by the Playground.
      images: number of images from the first on; 0 for all.
      seed: split of the Playground; None for the one that is reported.
      ignore, reduce_zero: options of "folder"; see folder.build.

    Raises:
      ValueError: the name is unknown, the folder does not have the data set, files are missing,
        or an option belongs to another benchmark.
    """
    if name not in BENCHMARKS:
        if seed is not None:
            raise ValueError(f"--scene_seed: {name} has no other splits; leave it out.")
        files = open_files(name, data_dir, ignore=ignore, reduce_zero=reduce_zero)
        _check_complete(files, data_dir)
        return files.keep(images) if images else files
    _refuse_options(name, ignore, reduce_zero)
    scenes = BENCHMARKS[name]
    return dataclasses.replace(
        scenes, images=images or scenes.images, seed=scenes.seed if seed is None else seed
    )


def open_files(
    name: str,
    data_dir: str | Path,
    *,
    ignore: int = folder.IGNORE,
    reduce_zero: bool = False,
) -> FileBenchmark:
    """Open a data set on disk, even if some of its files are missing.

    Args:
      name: one of FILES.
      data_dir: folder of the data set.
      ignore, reduce_zero: options of "folder"; see folder.build.

    Raises:
      LayoutError: the folder does not have the data set.
      ValueError: the name is unknown, the folder is missing, or an option belongs to another
        benchmark.
    """
    if name not in FILES:
        known = suggest(name, [*BENCHMARKS, *FILES])
        raise ValueError(f"--benchmark: {name!r} is not known; {known}")
    if not data_dir:
        raise ValueError(f"--data_dir: empty; name the folder of {name}.")
    root = Path(data_dir)
    if not root.is_dir():
        raise ValueError(f"--data_dir: {root} is not a directory; name the folder of {name}.")
    if name == "folder":
        return folder.build(root, ignore=ignore, reduce_zero=reduce_zero)
    _refuse_options(name, ignore, reduce_zero)
    return FILES[name](name, root)


def _refuse_options(name: str, ignore: int, reduce_zero: bool) -> None:
    if ignore != folder.IGNORE or reduce_zero:
        raise ValueError(f"--ignore, --reduce_zero: only for folder, not for {name}; omit them.")


def _check_complete(benchmark: FileBenchmark, data_dir: str | Path) -> None:
    verify = f"zeroseg verify --benchmark={benchmark.name} --data_dir={data_dir}"
    missing = benchmark.listing.missing
    if missing:
        more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise LayoutError(f"{missing[0]}{more}: missing; see {verify}.")
    if not len(benchmark):
        raise LayoutError(f"{data_dir}: no image of {benchmark.name} is there; see {verify}.")
