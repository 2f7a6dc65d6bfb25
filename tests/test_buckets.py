"""Commands on gs://, each on a machine of its own: prepare, train, evaluate, export, segment."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bucket_server import MISSING, REASON, running_bucket
from tests.training.tiny import losses_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=REASON)]
ROOT = Path(__file__).parent.parent
RUN = "gs://bucket/runs/a"
RECIPE = [
    "--config=debug", "--config.data.features=bank", "--config.optim.steps=8",
    "--config.run.checkpoint_every_steps=2",
]  # fmt: skip
READ = "import sys; from etils import epath; print(epath.Path(sys.argv[1]).read_text(), end='')"
LIST = "import sys, gcsfs; print('\\n'.join(gcsfs.GCSFileSystem().find(sys.argv[1])))"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with running_bucket(tmp_path_factory.mktemp("server")) as environment:
        yield environment


@pytest.fixture
def on(bucket, tmp_path):
    """Return a function that starts Python on a machine by name; its cache of gs:// is its own."""

    def start(machine, *arguments):
        environment = {
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
            **os.environ,
            **bucket,
            "XDG_CACHE_HOME": str(tmp_path / machine),
            "JAX_PLATFORMS": "cpu",
        }
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def finish(process):
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


def test_a_run_in_a_bucket_moves_from_machine_to_machine(on, tmp_path):
    zeroseg = ("-m", "zeroseg_jax")
    local = tmp_path / "local"
    for verb in ("prepare", "train"):
        finish(on("a", *zeroseg, verb, *RECIPE, f"--workdir={local}"))
    assert "64 records" in finish(on("b", *zeroseg, "prepare", *RECIPE, f"--workdir={RUN}"))
    assert " 0 of 64 images" in finish(on("c", *zeroseg, "prepare", *RECIPE, f"--workdir={RUN}"))

    training = on("d", *zeroseg, "train", *RECIPE, f"--workdir={RUN}")
    deadline = time.monotonic() + 300
    while f"{RUN}/checkpoints/2/commit_success.txt"[5:] not in finish(on("e", "-c", LIST, RUN)):
        assert training.poll() is None and time.monotonic() < deadline
    training.kill()
    training.communicate()
    out = finish(on("f", *zeroseg, "train", *RECIPE, f"--workdir={RUN}"))
    assert "train: resuming from step" in out and "step 8/8" in out

    (tmp_path / "metrics.jsonl").write_text(finish(on("e", "-c", READ, f"{RUN}/metrics.jsonl")))
    undisturbed = losses_of(local)
    assert len(undisturbed) == 8 and losses_of(tmp_path) == undisturbed
    found = finish(on("e", "-c", LIST, RUN)).split()
    assert {Path(name).parts[4] for name in found if "/checkpoints/" in name} >= {"8"}

    report = tmp_path / "report"
    arguments = ("--images=2", "--pictures=0")
    finish(on("g", *zeroseg, "evaluate", f"--workdir={RUN}", *arguments, f"--output={report}"))
    below = tmp_path / "below"
    finish(on("a", *zeroseg, "evaluate", f"--workdir={local}", *arguments, f"--output={below}"))
    scores = [json.loads((path / "report.json").read_text())["miou"] for path in (report, below)]
    assert scores[0] == scores[1]
    finish(on("g", *zeroseg, "export", f"--workdir={RUN}", "--output=gs://bucket/student"))
    finish(on("a", *zeroseg, "export", f"--workdir={local}", f"--output={tmp_path / 'student'}"))
    masks = []
    for machine, model in (("h", "gs://bucket/student"), ("a", tmp_path / "student")):
        output = tmp_path / f"masks-{machine}"
        finish(
            on(machine, *zeroseg, "segment", "docs/images/scene.png", f"--model={model}",
               "--words=star, grass", f"--output={output}")
        )  # fmt: skip
        masks.append((output / "scene_mask.png").read_bytes())
    assert masks[0] == masks[1]


def test_an_empty_bucket_is_one_sentence(on):
    zeroseg = ("-m", "zeroseg_jax")
    process = on("a", *zeroseg, "train", *RECIPE, "--workdir=gs://bucket/empty")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2 and "no finished bank there" in err
    scene = ("docs/images/scene.png", "--words=star, grass")
    process = on("a", *zeroseg, "segment", *scene, "--model=gs://bucket/empty")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2 and "neither a work directory" in err
