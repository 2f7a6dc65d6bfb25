"""Every command with models by name, in child processes, against a loopback Hub."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import layouts
import numpy as np
import pytest
import small_hub
from PIL import Image

from tests.compiling import QUICK
from zeroseg_jax.teacher.aliases import ALIASES

ROOT = Path(__file__).parents[1]
REVISION = ALIASES["clip-b16"].revision


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Start the Hub and write a photograph; return folder, hub and environment."""
    root = tmp_path_factory.mktemp("names")
    hub, variables = small_hub.start({
        "clip-b16": small_hub.write_timm(root / "timm"),
        "clip-l14": small_hub.write_clip(root / "sharded", shards=True),
        "o/n": small_hub.write_clip(root / "single"),
    })  # fmt: skip
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC).save(root / "photo.jpg")
    environment = {
        **os.environ, **variables, "HF_HUB_CACHE": str(root / "cache"),
        "XLA_FLAGS": QUICK,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }  # fmt: skip
    yield root, hub, environment
    hub.__exit__()


@pytest.fixture(scope="module")
def run(place):
    root, _, environment = place

    def call(*arguments, code=0, **changes):
        done = subprocess.run(
            [sys.executable, "-m", "small_hub", *map(str, arguments)],
            cwd=root, capture_output=True, text=True, env={**environment, **changes},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def test_segment_without_a_model_fetches_the_default_once(place, run):
    root, hub, _ = place
    done = run("segment", "photo.jpg", "--words=dog, sofa", "--output=first")
    assert f"from {hub.url[7:]}/{ALIASES['clip-b16'].repository} (Apache-2.0)" in done.stderr
    assert "drawn shapes" not in done.stderr and "Traceback" not in done.stderr
    record = json.loads((root / "first" / "photo.json").read_text())
    assert {"dog", "sofa"} <= {c["word"] for c in record["classes"]}
    before = len(hub.requests)
    again = run("segment", "photo.jpg", "--words=dog, sofa", "--output=second")
    assert len(hub.requests) == before and "MB from" not in again.stderr
    masks = [Image.open(root / name / "photo_mask.png") for name in ("first", "second")]
    np.testing.assert_array_equal(*map(np.asarray, masks))


@pytest.mark.slow
def test_a_pair_segments_one_word(place, run):
    pytest.importorskip(
        "torch", reason="DINOv2's folder is written by torch: pip install .[parity]"
    )
    root, hub, _ = place
    alias = ALIASES["dinov2"]
    hub.repos[alias.repository] = {alias.revision: small_hub.write_dinov2(root / "vision")}
    done = run("segment", "photo.jpg", "--model=dinov2+clip-b16", "--words=dog", "--output=pair")
    assert alias.repository in done.stderr
    record = json.loads((root / "pair" / "photo.json").read_text())
    assert "proxy of dinov2+clip-b16" in record["checkpoint"]
    assert "dog" in [c["word"] for c in record["classes"]]


@pytest.mark.parametrize("name", ["clip-l14", "hf:o/n", "clip-b16"])
def test_check_model_names_what_is_unrecorded(place, run, name):
    # The tokens of the small models are not those of the published ones.
    done = run("check-model", name, code=0 if name == "hf:o/n" else 1)
    verdicts = dict(line.split()[:2] for line in done.stdout.splitlines()[1:])
    assert verdicts["checksums"] == verdicts["tensors"] == "good", done.stdout
    assert verdicts["embeddings"] == "unrecorded"
    assert verdicts["tokens"] == ("unrecorded" if name == "hf:o/n" else "FAILED")


def test_check_model_scores_a_data_set_beside_the_published_score(place, run):
    root, _, _ = place
    layouts.write_voc(root / "voc", names=("2007_000033", "2008_000002"))
    done = run(
        "check-model", "clip-b16", "--data_dir=voc", "--output=check", code=1,
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert re.search(r"voc21 +FAILED +published 64\.6, measured \d+\.\d", done.stdout), done.stdout
    report = json.loads((root / "check" / "report.json").read_text())
    assert report["preset"]["name"] == ALIASES["clip-b16"].preset


def test_models_lists_what_is_cached(run):
    run("check-model", "clip-b16", code=1)
    lines = {line.split()[0]: line.split() for line in run("models").stdout.splitlines()}
    assert lines["clip-b16*"][2] == "yes" and lines["dinov2"][2] == "no"


def test_an_unreachable_hub_names_what_ships(place, run):
    root, _, _ = place
    done = run(
        "segment", "photo.jpg", "--words=dog", code=2, HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(root / "empty"),
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert "--model=playground" in line and "only drawn shapes" in line


@pytest.mark.slow
def test_predictor_and_export_by_name(place, run):
    root, hub, environment = place
    code = f"""
import small_hub, numpy as np
small_hub.record_small_sums()
from zeroseg_jax import Predictor
one = Predictor.from_pretrained("hf:o/n@{hub.commit("o/n")}", cache_names=False)
one.segment("photo.jpg", "dog, sofa").save("saved")
one.save_pretrained("exported", include_teacher=False)
again = Predictor.from_pretrained("exported", cache_names=False)
masks = [model.segment("photo.jpg", "dog, sofa").mask for model in (one, again)]
np.testing.assert_array_equal(*masks)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (root / "saved" / "segmentation_mask.png").is_file()
    assert not (root / "exported" / "teacher").exists()
    run("export", "--model=clip-b16", "--output=named")
    record = json.loads((root / "named" / "config.json").read_text())
    assert record["teacher"]["name"] == f"hf:{ALIASES['clip-b16'].repository}@{REVISION}"
    run("segment", "photo.jpg", "--model=named", "--words=dog, sofa", "--output=third")
    run("export", "--model=clip-b16", "--output=whole", "--include_teacher")
    run("segment", "photo.jpg", "--model=whole", "--words=dog, sofa", "--output=fourth",
        HF_HUB_CACHE=str(root / "none"), HF_HUB_OFFLINE="1")  # fmt: skip
    masks = [np.asarray(Image.open(root / n / "photo_mask.png")) for n in ("third", "fourth")]
    np.testing.assert_array_equal(*masks)


@pytest.mark.slow
def test_the_program_of_a_named_model_runs_without_the_package(place, run):
    root, _, environment = place
    run("export", "--model=clip-b16", "--format=stablehlo", "--words=dog, sofa", "--output=shlo")
    done = subprocess.run(
        [sys.executable, "run.py", "../photo.jpg", "mask.png"], cwd=root / "shlo",
        env={**environment, "PYTHONPATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Image.open(root / "shlo" / "mask.png").size == (200, 150)


def test_serve_answers_with_named_models(place, run):
    root, _, environment = place
    pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
    with subprocess.Popen(
        [sys.executable, "-m", "small_hub", "serve", "--models=clip-b16,playground", "--port=0"],
        cwd=root, env=environment, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                break
        about = json.load(urllib.request.urlopen(f"{found[0]}about"))
        other = json.load(urllib.request.urlopen(f"{found[0]}about?model=1"))
        request = urllib.request.Request(
            f"{found[0]}pictures", data=(root / "photo.jpg").read_bytes(), method="POST"
        )
        answer = json.load(urllib.request.urlopen(request))
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130, -2)
    assert about["models"] == ["clip-b16", "playground"] and answer["width"] == 200
    assert "clip-b16" in about["model"]["name"] and not about["examples"]
    assert "playground" in other["model"]["name"] and len(other["examples"]) == 3
    # Wrong names end the command before the page.
    for flags, sentence in (
        (["--models=clip-b16,clip-b99"], "clip-b99"),
        (["--models=clip-b16,clip-b16"], "given twice"),
        (["--models=clip-b16", "--model=playground"], "beside --model"),
    ):
        done = run("serve", *flags, "--port=0", code=2)
        assert sentence in done.stderr and "Traceback" not in done.stderr
