"""What the segmentation data sets are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zeroseg_jax.config import suggest
from zeroseg_jax.data.benchmarks import ade20k, cityscapes, coco, context, folder, imagenet_s, voc
from zeroseg_jax.data.benchmarks.listing import FileBenchmark, LayoutError
from zeroseg_jax.data.benchmarks.playground import BENCHMARKS, Playground

__all__ = ["FILES", "Benchmark", "get_benchmark", "open_files"]

Benchmark = Playground | FileBenchmark

# Benchmarks that are read from a directory.
FILES = {
    "voc21": voc.build,
    "voc20": voc.build,
    "context60": context.build,
    "context59": context.build,
    "coco_object": coco.build,
    "coco_stuff171": coco.build,
    "ade150": ade20k.build,
    "cityscapes19": cityscapes.build,
    **{name: imagenet_s.build for name in imagenet_s.SPLITS},
    "folder": folder.build,
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
      name: for example "playground/things" or "voc21".
      data_dir: where a data set lies, as its archives unpack; the Playground needs none.
      images: only the first so many; 0 for all.
      seed: another split of the Playground, for choosing a preset's numbers.
      ignore, reduce_zero: of "folder", see benchmarks.folder.

    Raises:
      ValueError: an unknown name (suggests the nearest), a directory that does not hold the
        data set, files that miss, or an option of another benchmark.
    """
    if name not in BENCHMARKS:
        if seed is not None:
            raise ValueError(f"--scene_seed: only the Playground has other splits, not {name}.")
        files = open_files(name, data_dir, ignore=ignore, reduce_zero=reduce_zero)
        _check_complete(files, data_dir)
        return files.keep(images) if images else files
    _refuse_options(name, ignore, reduce_zero)
    changes = {"images": images} if images else {}
    if seed is not None:
        changes["seed"] = seed
    return dataclasses.replace(BENCHMARKS[name], **changes)


def open_files(
    name: str,
    data_dir: str | Path,
    *,
    ignore: int = folder.IGNORE,
    reduce_zero: bool = False,
) -> FileBenchmark:
    """Open a data set on disk whether or not files miss; `verify` tells which.

    Raises:
      LayoutError: the directory does not hold the data set at all.
      ValueError: an unknown name, no such directory, or an option of another benchmark.
    """
    if name not in FILES:
        known = suggest(name, [*BENCHMARKS, *FILES])
        raise ValueError(f"--benchmark: {name!r} is not known; {known}")
    if not data_dir:
        raise ValueError(f"--data_dir: {name} is read from disk; name the directory it lies in.")
    root = Path(data_dir)
    if not root.is_dir():
        raise ValueError(f"--data_dir: {root} is not a directory; name the one {name} lies in.")
    if name == "folder":
        return folder.build(root, ignore=ignore, reduce_zero=reduce_zero)
    _refuse_options(name, ignore, reduce_zero)
    return FILES[name](name, root)


def _refuse_options(name: str, ignore: int, reduce_zero: bool) -> None:
    if ignore != folder.IGNORE or reduce_zero:
        raise ValueError(f"--ignore, --reduce_zero: are of the benchmark folder, not of {name}.")


def _check_complete(benchmark: FileBenchmark, data_dir: str | Path) -> None:
    verify = f"python -m zeroseg_jax verify --benchmark={benchmark.name} --data_dir={data_dir}"
    missing = benchmark.listing.missing
    if missing:
        more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise LayoutError(f"{missing[0]}{more}: not there; see {verify}.")
    if not len(benchmark):
        raise LayoutError(f"{data_dir}: holds no picture of {benchmark.name}; see {verify}.")
