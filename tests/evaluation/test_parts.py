"""Parts of an evaluation: resume after a kill, several hosts, other settings, damaged files."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_benchmark import SmallBenchmark, write_predictions

from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.evaluation.measure import measure_image
from zeroseg_jax.evaluation.parts import Parts, pack, unpack
from zeroseg_jax.inference.presets import get_preset

TESTS = Path(__file__).parent.parent
# The benchmark kills its process as a machine does, without any handler, at the fourth image.
KILLED = """
import os, signal, sys
from small_benchmark import SmallBenchmark
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.inference.presets import get_preset

class Deadly(SmallBenchmark):
    def __getitem__(self, index):
        if index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

runner.evaluate(
    PredictionFolder(sys.argv[1]), Deadly(7), get_preset("zeroseg", "playground/things"),
    checkpoint="c", output=sys.argv[2], panels=2, workers=1, save_seconds=0,
)
"""


class Counting(SmallBenchmark):
    """Benchmark that records which images are read."""

    def __init__(self, count):
        super().__init__(count)
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Predictions of seven images, right but for their first rows."""
    folder = tmp_path_factory.mktemp("maps") / "maps"
    benchmark = SmallBenchmark(7)
    for item in benchmark.items:
        item["label"] = item["label"].copy()
        item["label"][:9] = 0
    write_predictions(folder, benchmark)
    return folder


def evaluate(maps, output, benchmark, said=None, **options):
    return runner.evaluate(
        PredictionFolder(maps), benchmark, get_preset("zeroseg", "playground/things"),
        checkpoint="c", output=output, panels=2, log=(said if said is not None else []).append,
        **options,
    )  # fmt: skip


def read(output):
    report = json.loads((output / "report.json").read_text())
    del report["seconds"]
    with np.load(output / "counts.npz") as counts:
        return report, {name: counts[name].tolist() for name in counts.files}


@pytest.fixture(scope="module")
def undisturbed(maps, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    evaluate(maps, output, SmallBenchmark(7))
    assert not (output / "parts").exists()
    return read(output)


def test_a_killed_evaluation_goes_on_and_reports_the_same(maps, undisturbed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, maps, tmp_path], capture_output=True, env=environment
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "report.json").exists()
    measured = sum(1 for _ in (tmp_path / "parts").rglob("*.npz"))
    assert 3 <= measured <= 4
    benchmark, said = Counting(7), []
    evaluate(maps, tmp_path, benchmark, said)
    assert sorted(set(benchmark.read[: 7 - measured])) == list(range(measured, 7))
    assert f"evaluate: {measured} of 7 images are measured already" in said
    assert read(tmp_path) == undisturbed
    assert not (tmp_path / "parts").exists()


def test_hosts_share_the_images_and_one_writes_the_report(maps, undisturbed, tmp_path):
    first = threading.Thread(
        target=evaluate, args=(maps, tmp_path, SmallBenchmark(7)), kwargs={"host_count": 2}
    )
    first.start()
    benchmark, said = Counting(7), []
    assert evaluate(maps, tmp_path, benchmark, said, host_index=1, host_count=2) == {}
    first.join(60)
    assert not first.is_alive() and benchmark.read == [1, 3, 5]
    assert "host 0 writes the report" in said[-1]
    assert read(tmp_path) == undisturbed


def test_parts_of_other_settings_or_other_files_are_not_used(maps, tmp_path):
    evaluate(maps, tmp_path, SmallBenchmark(7), host_index=1, host_count=2)
    before = (maps / "picture-1.png").stat()
    os.utime(maps / "picture-1.png", ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    benchmark = Counting(7)
    evaluate(maps, tmp_path, benchmark)
    assert set(benchmark.read) == set(range(7))


def test_a_damaged_part_is_measured_again(tmp_path):
    benchmark = SmallBenchmark(2)
    parts = Parts(tmp_path, {"a": 1}, 2, save_seconds=0)
    for index, item in enumerate(benchmark.items):
        labels = np.maximum(item["label"], 0)
        parts.add(index, measure_image(benchmark, item, labels, labels))
    path = parts.directory / "0000001.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert parts.list_missing() == [1]
    with pytest.raises(ValueError, match="image 1 is not measured; evaluate again"):
        list(parts.read())
    assert Parts(tmp_path, {"a": 2}, 2).list_missing() == [0, 1]


def test_every_measurement_survives_the_file(tmp_path):
    benchmark = SmallBenchmark(3)
    labels = [np.full(item["label"].shape, i % 3) for i, item in enumerate(benchmark.items)]
    images = [
        measure_image(benchmark, item, one, one)
        for item, one in zip(benchmark.items, labels, strict=True)
    ]
    images[1].stretched, images[2].miou = True, float("nan")
    found = unpack(pack([0, 4, 2], images))
    assert list(found) == [0, 4, 2]
    for before, after in zip(images, found.values(), strict=True):
        for name, value in vars(before).items():
            other = getattr(after, name)
            if name == "boundary":
                value, other = vars(value), vars(other)
                assert value.keys() == other.keys()
                value, other = list(value.values()), list(other.values())
            np.testing.assert_equal(other, value)
            assert type(other) is type(value)
