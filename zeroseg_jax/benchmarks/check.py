"""Whether a data set on disk is whole and means what it should: every file is decoded."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from zeroseg_jax.benchmarks.files import FileBenchmark, Pair, read_like
from zeroseg_jax.data.transforms import ImageError, open_image

EXTREME_ASPECT = 8.0
_AHEAD = 256  # files in flight
_LOG_SECONDS = 5.0


@dataclasses.dataclass
class Findings:
    """What was found.

    Attributes:
      images: pairs that were decoded.
      histogram: int64 (C + 1,), pixels of each class, ignored ones last.
      occurs: int64 (C + 1,), pictures that hold each class.
      problems: sentences about what makes a score wrong.
      notes: sentences about what is unusual, though not wrong.
    """

    images: int
    histogram: np.ndarray
    occurs: np.ndarray
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def check(benchmark: FileBenchmark, log: Callable[[str], None] = print) -> Findings:
    """Decode every picture and mask, and count.

    Args:
      benchmark: see benchmarks.open_files.
      log: takes progress lines.
    """
    classes = len(benchmark.class_names)
    findings = Findings(0, np.zeros(classes + 1, np.int64), np.zeros(classes + 1, np.int64))
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
                    last = time.time()
                    _report_progress(findings, len(pairs), last - begin, log)
    _check_classes(benchmark, findings)
    return findings


def _report_progress(findings, total: int, seconds: float, log) -> None:
    done = findings.images + len(findings.problems)
    left = (total - done) * seconds / max(done, 1)
    log(f"verify: {done}/{total} pictures, {done / seconds:.0f} a second, ETA {left:.0f} s")


def _check_listing(benchmark: FileBenchmark, findings: Findings) -> None:
    listing, official = benchmark.listing, benchmark.official_images
    total = len(listing.pairs)
    if official and total not in official:
        right = " or ".join(str(number) for number in official)
        findings.problems.append(
            f"{total} complete pairs of picture and mask, but the split has {right}; unpack the "
            "archives again, or expect a score that compares with no other."
        )
    findings.problems += [
        f"{path}: not there; unpack its archive again or add it." for path in listing.missing
    ]
    if not total:
        findings.problems.append("no pair of picture and mask at all; see docs/benchmarks.md.")
    findings.notes += [
        f"{path}: a mask without a picture; it is not used." for path in listing.spare
    ]


def _check_pair(benchmark: FileBenchmark, pair: Pair) -> dict[str, Any]:
    try:
        label = benchmark.encoding.read(pair.mask)
        image = read_like(pair, label)
    except ImageError as error:
        return {"problem": str(error)}
    counts = np.bincount(label.ravel() + 1, minlength=len(benchmark.class_names) + 1)
    with open_image(pair.image) as stored:
        # EXIF orientations 5 to 8 swap the sides.
        turned = stored.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        as_stored = turned and image.shape[:2] == (stored.height, stored.width)
    return {
        "counts": np.roll(counts, -1),
        "aspect": max(image.shape[:2]) / min(image.shape[:2]),
        "size": f"{image.shape[1]} x {image.shape[0]}",
        "as_stored": as_stored and stored.height != stored.width,
    }


def _add(findings: Findings, found: dict[str, Any], pair: Pair) -> None:
    if "problem" in found:
        findings.problems.append(found["problem"])
        return
    findings.images += 1
    findings.histogram += found["counts"]
    findings.occurs += found["counts"] > 0
    if not found["counts"][:-1].any():
        findings.notes.append(f"{pair.mask}: every pixel is ignored; it adds nothing to a score.")
    if found["aspect"] > EXTREME_ASPECT:
        findings.notes.append(
            f"{pair.image}: {found['size']} px, one side over {EXTREME_ASPECT:g} times the "
            "other; rules that limit the long side shrink it far."
        )
    if found["as_stored"]:
        findings.notes.append(
            f"{pair.image}: not turned as its EXIF says, for its mask fits the pixels as stored."
        )


def _check_classes(benchmark: FileBenchmark, findings: Findings) -> None:
    absent = [
        name
        for name, pixels in zip(benchmark.class_names, findings.histogram[:-1], strict=True)
        if not pixels
    ]
    if absent and findings.images:
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        findings.notes.append(f"classes that never occur: {', '.join(absent[:10])}{more}.")


def summarise(benchmark: FileBenchmark, findings: Findings) -> dict[str, Any]:
    """Return everything that was found, for a JSON file."""
    return {
        "benchmark": benchmark.name,
        "images": findings.images,
        "official_images": list(benchmark.official_images),
        "known_labels": benchmark.encoding.known(),
        "classes": len(benchmark.class_names),
        "pixels": dict(zip(benchmark.class_names, findings.histogram[:-1].tolist(), strict=True)),
        "images_with": dict(zip(benchmark.class_names, findings.occurs[:-1].tolist(), strict=True)),
        "ignored_pixels": int(findings.histogram[-1]),
        "problems": findings.problems,
        "notes": findings.notes,
    }


def describe(benchmark: FileBenchmark, findings: Findings, most: int = 5) -> list[str]:
    """Describe what was found in lines: counts, shares of classes, notes, problems."""
    total = max(int(findings.histogram.sum()), 1)
    official = " or ".join(str(number) for number in benchmark.official_images)
    present = int((findings.histogram[:-1] > 0).sum())
    lines = [
        f"{benchmark.name}: {findings.images} pictures{f' of {official}' if official else ''}, "
        f"labels {benchmark.encoding.known()}, {present} of {len(benchmark.class_names)} classes "
        f"occur, {100 * findings.histogram[-1] / total:.2f} % of the pixels are ignored"
    ]
    lines += _describe_shares(benchmark.class_names, findings.histogram[:-1])
    for kind, sentences in (("note", findings.notes), ("problem", findings.problems)):
        lines += [f"{kind}: {sentence}" for sentence in sentences[:most]]
        if len(sentences) > most:
            lines.append(f"{kind}: {len(sentences) - most} more; --json=FILE lists them all.")
    return lines


def _describe_shares(names: tuple[str, ...], pixels: np.ndarray, most: int = 60, row: int = 5):
    total = pixels.sum()
    if not total:
        return []
    order = range(len(names)) if len(names) <= most else np.argsort(-pixels, kind="stable")[:most]
    shares = [f"{names[i]} {100 * pixels[i] / total:.2f}" for i in order if pixels[i]]
    largest = f", the {most} largest" if len(names) > most else ""
    lines = [f"  % of labelled pixels{largest}:"]
    lines += ["  " + ", ".join(shares[i : i + row]) for i in range(0, len(shares), row)]
    return lines
