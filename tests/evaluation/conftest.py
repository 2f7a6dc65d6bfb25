"""Two evaluated runs for the tests of comparisons."""

import numpy as np
import pytest
from PIL import Image
from small_benchmark import SmallBenchmark, write_predictions

from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.bootstrap import read_run
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.inference.presets import get_preset


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Return a perfect run, and one whose upper halves are background."""
    benchmark = SmallBenchmark(6)
    root = tmp_path_factory.mktemp("runs")
    for kind in ("good", "bad"):
        folder = root / kind / "maps"
        write_predictions(folder, benchmark)
        if kind == "bad":
            for path in folder.iterdir():
                labels = np.array(Image.open(path))
                labels[: len(labels) // 2] = 0
                Image.fromarray(labels).save(path)
        runner.evaluate(
            PredictionFolder(folder), benchmark, get_preset("zeroseg", "playground/things"),
            checkpoint=kind, output=root / kind, save_predictions=True, panels=0,
            log=lambda line: None,
        )  # fmt: skip
    return [read_run(root / kind) for kind in ("good", "bad")]
