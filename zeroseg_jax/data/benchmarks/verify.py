"""Whether a data set on disk is whole and means what it should: every file is decoded."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from zeroseg_jax.data.benchmarks.listing import FileBenchmark, Pair, SizeError, read_like
from zeroseg_jax.data.benchmarks.masks import MaskError
from zeroseg_jax.data.transforms import ImageError, open_image

EXTREME_ASPECT = 8.0
_AHEAD = 64  # files in flight
_ORIENTATION = 0x0112  # of EXIF
_LOG_SECONDS = 5.0


@dataclasses.dataclass
class Findings:
    """What was found.

    Attributes:
      images: pairs that were decoded and are good.
      histogram: int64 (C + 1,), pixels of each class, ignored ones last.
      occurs: int64 (C + 1,), pictures that hold each class.
      problems: by kind, sentences about what makes a score wrong.
      notes: by kind, sentences about what is unusual, though not wrong.
    """

    images: int
    histogram: np.ndarray
    occurs: np.ndarray
    problems: dict[str, list[str]]
    notes: dict[str, list[str]]

    def count_problems(self) -> int:
        """Return how many problems there are."""
        return sum(len(sentences) for sentences in self.problems.values())


def check(benchmark: FileBenchmark, log: Callable[[str], None] = print) -> Findings:
    """Decode every picture and mask, and count.

    Args:
      benchmark: see benchmarks.open_files.
      log: takes progress lines.
    """
    columns = len(benchmark.class_names) + 1
    counts = np.zeros((2, columns), np.int64)
    findings = Findings(0, *counts, defaultdict(list), defaultdict(list))
    _check_listing(benchmark, findings)
    pairs, begin = benchmark.listing.pairs, time.time()
    last = begin
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, len(pairs), _AHEAD):
            group = pairs[first : first + _AHEAD]
            for pair, found in zip(
                group, pool.map(lambda pair: _check_pair(benchmark, pair), group), strict=True
            ):
                _add(findings, found, pair)
            if time.time() - last > _LOG_SECONDS:
                last, done = time.time(), first + len(group)
                rate = done / (last - begin)
                log(
                    f"verify: {done}/{len(pairs)} pictures, {rate:.0f} a second, "
                    f"ETA {(len(pairs) - done) / rate:.0f} s"
                )
    _check_classes(benchmark, findings)
    return findings


def _check_listing(benchmark: FileBenchmark, findings: Findings) -> None:
    listing, official = benchmark.listing, benchmark.official_images
    total = len(listing.pairs)
    if not total:
        findings.problems["count"].append("no pair of picture and mask; see docs/benchmarks.md.")
    elif official and total not in official:
        findings.problems["count"].append(
            f"{total} pairs of picture and mask, but the split has {_either(official)}; unpack "
            "the archives again, or compare the score with no other."
        )
    for path in listing.missing:
        findings.problems["missing"].append(f"{path}: not there; unpack its archive again.")
    for path in listing.spare:
        findings.notes["spare"].append(f"{path}: a mask without a picture; it is not used.")


def _check_pair(benchmark: FileBenchmark, pair: Pair) -> dict[str, Any]:
    try:
        label = benchmark.encoding.read(pair.mask)
        height, width = read_like(pair, label).shape[:2]
        with open_image(pair.image) as stored:
            # EXIF orientations 5 to 8 swap the sides.
            swaps = stored.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            as_stored = swaps and height != width and stored.height == height
    except SizeError as error:
        return {"kind": "size", "problem": str(error)}
    except MaskError as error:
        return {"kind": "label", "problem": str(error)}
    except ImageError as error:
        return {"kind": "unreadable", "problem": str(error)}
    # Labels begin at -1, ignored; in the counts it comes last.
    counts = np.bincount(label.ravel() + 1, minlength=len(benchmark.class_names) + 1)
    return {
        "counts": np.roll(counts, -1),
        "size": (width, height),
        "as_stored": as_stored,
    }


def _add(findings: Findings, found: dict[str, Any], pair: Pair) -> None:
    if "problem" in found:
        findings.problems[found["kind"]].append(found["problem"])
        return
    findings.images += 1
    findings.histogram += found["counts"]
    findings.occurs += found["counts"] > 0
    width, height = found["size"]
    if not found["counts"][:-1].any():
        findings.notes["ignored"].append(
            f"{pair.mask}: every pixel is ignored; it adds nothing to a score."
        )
    if max(width, height) > EXTREME_ASPECT * min(width, height):
        findings.notes["aspect"].append(
            f"{pair.image}: {width} x {height} px, one side over {EXTREME_ASPECT:g} times the "
            "other; rules that limit the long side shrink it far."
        )
    if found["as_stored"]:
        findings.notes["exif"].append(
            f"{pair.image}: not turned as its EXIF says, for its mask fits the pixels as stored."
        )


def _check_classes(benchmark: FileBenchmark, findings: Findings) -> None:
    shares = zip(benchmark.class_names, findings.histogram[:-1], strict=True)
    absent = [name for name, pixels in shares if not pixels]
    if absent and findings.images:
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        findings.notes["absent"].append(
            f"classes that never occur: {', '.join(absent[:10])}{more}."
        )


def summarise(benchmark: FileBenchmark, findings: Findings) -> dict[str, Any]:
    """Return everything that was found, for a JSON file."""
    names = benchmark.class_names
    return {
        "benchmark": benchmark.name,
        "images": findings.images,
        "official_images": list(benchmark.official_images),
        "known_labels": benchmark.encoding.known(),
        "classes": list(names),
        "pixels": findings.histogram[:-1].tolist(),
        "images_with": findings.occurs[:-1].tolist(),
        "ignored_pixels": int(findings.histogram[-1]),
        "problems": findings.problems,
        "notes": findings.notes,
    }


def describe(benchmark: FileBenchmark, findings: Findings, most: int = 3) -> list[str]:
    """Describe what was found in lines: counts, shares of classes, notes, problems."""
    total = max(int(findings.histogram.sum()), 1)
    official = benchmark.official_images
    present = int((findings.histogram[:-1] > 0).sum())
    lines = [
        f"{benchmark.name}: {findings.images} pictures"
        f"{f' of {_either(official)}' if official else ''}, labels {benchmark.encoding.known()}, "
        f"{present} of {len(benchmark.class_names)} classes occur, "
        f"{100 * findings.histogram[-1] / total:.2f} % of the pixels are ignored"
    ]
    lines += _describe_shares(benchmark.class_names, findings.histogram[:-1])
    for word, kinds in (("note", findings.notes), ("problem", findings.problems)):
        for kind, sentences in kinds.items():
            lines += [f"{word}: {sentence}" for sentence in sentences[:most]]
            if len(sentences) > most:
                lines.append(
                    f"{word}: {len(sentences) - most} more of kind {kind!r}; "
                    "--json=FILE lists them all."
                )
    return lines


def _describe_shares(names: tuple[str, ...], pixels: np.ndarray, most: int = 60, row: int = 6):
    total = pixels.sum()
    if not total:
        return []
    order = range(len(names)) if len(names) <= most else np.argsort(-pixels, kind="stable")[:most]
    shares = [f"{names[i]} {100 * pixels[i] / total:.2f}" for i in order if pixels[i]]
    largest = f", the {most} largest" if len(names) > most else ""
    lines = [f"  % of labelled pixels{largest}:"]
    return lines + ["  " + ", ".join(shares[i : i + row]) for i in range(0, len(shares), row)]


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(str(number) for number in numbers)
