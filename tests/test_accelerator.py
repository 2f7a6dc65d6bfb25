"""The GPU measurement: order, limits and failures of its parts, and each part at tiny sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.speed import accelerator
from bench.speed.accelerator import Part

ROOT = Path(__file__).parent.parent


def test_parts_run_in_order_until_the_time_is_over():
    now, given, kept = [0.0], [], []

    def run(part, seconds):
        given.append((part.name, seconds))
        now[0] += min(part.arguments["takes"], seconds)
        return {"result": {}} if part.arguments["takes"] <= seconds else {"error": "longer"}

    parts = tuple(
        Part(name, {"takes": takes}, limit)
        for name, takes, limit in (("a", 30, 60), ("b", 90, 60), ("c", 5, 60), ("d", 1, 60))
    )
    rows = accelerator.run_parts(
        parts, 105, run, lambda rows: kept.append(len(rows)), lambda: now[0]
    )
    # b ends at its own limit, c at what is left of the whole, and d finds nothing left.
    assert given == [("a", 60), ("b", 60), ("c", 15)]
    kinds = [next(k for k in ("result", "error", "skipped") if k in row) for row in rows]
    assert kinds == ["result", "error", "result", "skipped"] and kept == [1, 2, 3, 4]
    assert rows[0] == {"part": "a takes=30", "result": {}, "seconds": 30.0}


def test_failed_and_slow_parts_are_recorded_with_the_reason():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    wrong = accelerator.run_process(Part("teacher", {"batch": "x"}, 60), 60, environment)
    assert "exit code 1" in wrong["error"] and "'x'" in wrong["error"]
    slow = accelerator.run_process(Part("describe", {}, 1), 0.01, environment)
    assert slow == {"error": "longer than 0 seconds"}


def test_every_part_exists_and_fits_the_limit():
    from bench.speed import accelerator_parts

    for part in accelerator.PARTS + accelerator.TINY_PARTS:
        function = accelerator_parts.PARTS[part.name]
        assert set(part.arguments) == set(function.__annotations__) - {"return"}
        assert 0 < part.seconds <= 540
    assert {part.name for part in accelerator.TINY_PARTS} == set(accelerator_parts.PARTS)


@pytest.mark.slow
def test_every_part_runs_at_tiny_sizes(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "found.json"
    subprocess.run(
        [sys.executable, "-m", "bench.speed.accelerator", "--tiny", "--limit=3000",
         f"--output={output}"],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    rows = json.loads(output.read_text())["parts"]
    assert not [row for row in rows if "result" not in row]
    found = {row["part"].split()[0]: row["result"] for row in rows}
    assert found["train_step"]["loss"] > 0 and found["train_step"]["images_per_second"] > 0
    assert found["teacher"]["gflop_per_image"] == pytest.approx(35.1, abs=0.1)
    assert found["torch_clip"]["eager"]["images_per_second"] > 0
