"""The GPU measurement: order, limits and failures of its parts, and each part at tiny sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.speed import accelerator
from bench.speed.accelerator import Part, Wave

ROOT = Path(__file__).parent.parent


def test_waves_run_in_order_until_the_time_is_over():
    now, given, kept = [0.0], [], []

    def run(wave, seconds):
        given.append((len(wave.parts), seconds))
        now[0] += min(sum(part.arguments["takes"] for part in wave.parts), seconds)
        return [{"part": part.title, "result": {}} for part in wave.parts]

    waves = (
        Wave((Part("a", {"takes": 30}), Part("b", {"takes": 20})), 80),
        Wave((Part("c", {"takes": 90}),), 60),
        Wave((Part("d", {"takes": 5}), Part("e", {"takes": 1})), 60),
    )
    rows = accelerator.run_waves(
        waves, 120, run, lambda rows: kept.append(len(rows)), lambda: now[0]
    )
    # c ends at its own limit, and d and e find 10 seconds left, too few to start.
    assert given == [(2, 80), (1, 60)] and kept == [2, 3, 5]
    assert [set(row) for row in rows] == 3 * [{"part", "result"}] + 2 * [{"part", "skipped"}]
    assert rows[-1] == {"part": "e takes=1", "skipped": "10 of 120 seconds were left"}


def test_failed_and_slow_parts_are_recorded_with_the_reason():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATOR_TURNS": "1"}
    wrong = Part("teacher", {"batch": "x"})
    (row,) = accelerator.run_wave((wrong,), 60, environment)
    assert row["part"] == "teacher batch=x"
    assert "exit code 1" in row["error"] and "'x'" in row["error"]
    (row,) = accelerator.run_wave((Part("describe", {}),), 0.01, environment)
    assert row == {"part": "describe", "error": "longer than 0 seconds"}


def test_parts_of_a_wave_wait_for_each_other_and_measure_alone(tmp_path, monkeypatch):
    # A stand-in for the parts' module: "compiles" for some seconds, waits, notes its times.
    (tmp_path / "bench/speed").mkdir(parents=True)
    (tmp_path / "bench/speed/accelerator_parts.py").write_text(
        "import json, sys, time\n"
        "given = dict(word.split('=') for word in sys.argv[2:])\n"
        "time.sleep(float(given['compile']))\n"
        "compiled = time.time(); print('ready', flush=True); sys.stdin.readline()\n"
        "begin = time.time(); time.sleep(0.3)\n"
        "print(json.dumps([compiled, begin, time.time()]))\n"
    )
    parts = tuple(Part("x", {"compile": seconds}) for seconds in (0.6, 0.0, 30))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    monkeypatch.chdir(tmp_path)
    *rows, late = accelerator.run_wave(parts, 6.0, environment)
    assert late["error"] == "longer than 6 seconds"
    assert [row["alone"] for row in rows] == [False, False]  # the third was compiling still
    rows = accelerator.run_wave(parts[:2], 20, environment)
    assert [row["alone"] for row in rows] == [True, True]
    (slow, first, end), (_, second, _) = (row["result"] for row in rows)
    assert first >= slow and second >= end


def test_every_part_exists_and_fits_the_limit():
    from bench.speed import accelerator_parts

    waves = accelerator.WAVES + accelerator.TINY_WAVES
    for part in (part for wave in waves for part in wave.parts):
        function = accelerator_parts.PARTS[part.name]
        assert set(part.arguments) == set(function.__annotations__) - {"return"}
    assert sum(wave.seconds for wave in accelerator.WAVES[:2]) < 540
    names = {part.name for wave in accelerator.TINY_WAVES for part in wave.parts}
    assert names == set(accelerator_parts.PARTS)


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
    assert found["torch_clip"]["images_per_second"] > 0
