"""Verification of a data set: every image and mask is decoded, classes are counted."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from zeroseg_jax.data.benchmarks.listing import FileBenchmark, Pair, SizeError, read_like
from zeroseg_jax.data.benchmarks.masks import MaskError
from zeroseg_jax.data.progress import ProgressLog
from zeroseg_jax.data.transforms import ImageError, read_orientation

EXTREME_ASPECT = 8.0
_AHEAD = 64  # files in flight


@dataclasses.dataclass
class Findings:
    """Result of a verification.

    Attributes:
      images: number of good images with good masks.
      histogram: int64 (C + 1,), number of pixels of each class, ignored ones last.
      occurs: int64 (C + 1,), number of images with each class, ignored pixels last.
      problems: sentences about errors that change a score, by kind.
      notes: sentences about unusual but valid files, by kind.
    """

    images: int
    histogram: np.ndarray
    occurs: np.ndarray
    problems: dict[str, list[str]]
    notes: dict[str, list[str]]

    def count_problems(self) -> int:
        """Return the number of problems."""
        return sum(len(sentences) for sentences in self.problems.values())


def check(benchmark: FileBenchmark, log: Callable[[str], None] = print) -> Findings:
    """Decode every image and mask, and count pixels.

    Args:
      benchmark: data set to verify; see open_files.
      log: receiver of progress lines.
    """
    histogram, occurs = np.zeros((2, len(benchmark.class_names) + 1), np.int64)
    findings = Findings(0, histogram, occurs, defaultdict(list), defaultdict(list))
    _check_listing(benchmark, findings)
    pairs = benchmark.listing.pairs
    progress = ProgressLog("verify", len(pairs), "images", log)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, len(pairs), _AHEAD):
            group = pairs[first : first + _AHEAD]
            for pair, found in zip(
                group, pool.map(lambda pair: _check_pair(benchmark, pair), group), strict=True
            ):
                _add(findings, found, pair)
            progress.add(len(group))
    _check_classes(benchmark, findings)
    return findings


def _check_listing(benchmark: FileBenchmark, findings: Findings) -> None:
    listing, official = benchmark.listing, benchmark.official_images
    total = len(listing.pairs)
    if not total:
        findings.problems["count"].append("no pair of image and mask; see docs/benchmarks.md.")
    elif official and total not in official:
        findings.problems["count"].append(
            f"{total} pairs of image and mask, but the split has {_either(official)}; unpack the "
            "archives again, or do not compare the score with others."
        )
    for path in listing.missing:
        twin = path.with_name(path.name.replace("_labelIds.", "_labelTrainIds."))
        beside = f" {twin.name} beside it is another tool's." if twin.is_file() else ""
        findings.problems["missing"].append(f"{path}: missing; unpack its archive again.{beside}")
    for path in listing.spare:
        findings.notes["spare"].append(f"{path}: a mask without an image; it is not used.")


def _check_pair(benchmark: FileBenchmark, pair: Pair) -> dict[str, Any]:
    try:
        label = benchmark.encoding.read(pair.mask)
        height, width = read_like(pair, label).shape[:2]
        stored, orientation = read_orientation(pair.image)
        # EXIF orientations 5 to 8 swap the sides.
        as_stored = orientation > 4 and height != width and stored == (height, width)
    except SizeError as error:
        return {"kind": "size", "problem": str(error)}
    except MaskError as error:
        return {"kind": "label", "problem": str(error)}
    except ImageError as error:
        return {"kind": "unreadable", "problem": str(error)}
    # Label -1 (ignored) comes last in the counts.
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
            f"{pair.mask}: every pixel is ignored; it does not count in a score."
        )
    if max(width, height) > EXTREME_ASPECT * min(width, height):
        findings.notes["aspect"].append(
            f"{pair.image}: {width} x {height} px, one side over {EXTREME_ASPECT:g} times the "
            "other; limits on the long side shrink it strongly."
        )
    if found["as_stored"]:
        findings.notes["exif"].append(
            f"{pair.image}: EXIF rotation is not applied; the mask fits the stored pixels."
        )


def _check_classes(benchmark: FileBenchmark, findings: Findings) -> None:
    shares = zip(benchmark.class_names, findings.histogram[:-1], strict=True)
    absent = [name for name, pixels in shares if not pixels]
    if absent and findings.images:
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        findings.notes["absent"].append(f"absent classes: {', '.join(absent[:10])}{more}.")
    if len(absent) == len(benchmark.class_names) - 1 > 0 and findings.occurs[-1] == findings.images:
        ignore = benchmark.options.get("ignore", "of ignored pixels")
        findings.problems["two values"].append(
            f"every mask has only one class and the ignored {ignore}, so {ignore} seems to be a "
            "class; save class k as value k, or name another --ignore."
        )


def to_record(benchmark: FileBenchmark, findings: Findings) -> dict[str, Any]:
    """Return all findings for a JSON file."""
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


def render_findings(benchmark: FileBenchmark, findings: Findings, most: int = 3) -> list[str]:
    """Return the findings as lines of text: counts, shares of classes, notes, problems.

    Args:
      benchmark: verified data set.
      findings: result of `check`.
      most: number of sentences of a kind that are printed.
    """
    total = max(int(findings.histogram.sum()), 1)
    official = benchmark.official_images
    present = int((findings.histogram[:-1] > 0).sum())
    lines = [
        f"{benchmark.name}: {findings.images} images"
        f"{f' of {_either(official)}' if official else ''}, labels {benchmark.encoding.known()}, "
        f"{present} of {len(benchmark.class_names)} classes occur, "
        f"{100 * findings.histogram[-1] / total:.2f} % of the pixels are ignored"
    ]
    lines += _render_shares(benchmark.class_names, findings.histogram[:-1])
    for word, kinds in (("note", findings.notes), ("problem", findings.problems)):
        for kind, sentences in kinds.items():
            lines += [f"{word}: {sentence}" for sentence in sentences[:most]]
            if len(sentences) > most:
                lines.append(
                    f"{word}: {len(sentences) - most} more of kind {kind!r}; "
                    "--json=FILE lists them all."
                )
    return lines


def _render_shares(
    names: tuple[str, ...], pixels: np.ndarray, most: int = 60, row: int = 6
) -> list[str]:
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
