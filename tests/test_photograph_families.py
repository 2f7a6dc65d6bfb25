"""Each family and each layout by its short name, fetched from a loopback Hub: every command."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import small_families
import small_hub
from PIL import Image

from tests.compiling import QUICK
from zeroseg_jax.teacher import aliases
from zeroseg_jax.teacher.load import load_teacher

ROOT = Path(__file__).parents[1]
# Read-out of each name: that of its family, and of pairs.
NAMES = {
    "tipsv2-b14": "maskclip", "siglip2-b16": "maskclip", "metaclip2-b16": "naclip",
    "laion-b16": "scclip", "clip-l14": "scclip", "dino-b8+clip-b16": "proxy",
    "dinov2+clip-b16": "proxy",
}  # fmt: skip
_TORCH = "their files are written by torch: pip install .[parity]"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Start the Hub of all families and write a photograph; return folder, hub and environment."""
    pytest.importorskip("torch", reason=_TORCH)
    pytest.importorskip("sentencepiece", reason="TIPSv2's tokenizer: pip install .[siglip]")
    root = tmp_path_factory.mktemp("families")
    (root / "published").mkdir()  # a folder here with a model's name would be that model
    folders = {
        name: write(root / "published" / name) for name, write in small_families.WRITERS.items()
    }
    hub, variables = small_hub.start(folders)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize((200, 150), Image.Resampling.BICUBIC).save(root / "photo.jpg")
    environment = {
        **os.environ, **variables, "HF_HUB_CACHE": str(root / "cache"),
        "XLA_FLAGS": QUICK,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }  # fmt: skip
    yield root, hub, environment
    hub.__exit__()


@pytest.fixture
def call(place):
    root, _, environment = place

    def run(*command, code=0, **changes):
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=root, capture_output=True, text=True,
            env={**environment, **changes},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize("name", [name for name in NAMES if "+" not in name])
def test_a_name_brings_weights_and_tokenizer(place, monkeypatch, tmp_path, name):
    root, hub, environment = place
    monkeypatch.setenv("HF_ENDPOINT", environment["HF_ENDPOINT"])
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(aliases.ALIASES, name, small_hub.with_sums(name, root / "published" / name))
    teacher = load_teacher(name)
    rows = teacher.encode_texts(["a dog", "a DOG", "a sofa"])
    assert np.isfinite(rows).all() and np.abs(rows[0] - rows[2]).max() > 1e-4
    alias = aliases.ALIASES[name]
    assert teacher.pinned == f"hf:{alias.repository}@{hub.commit(alias.repository, alias.revision)}"
    local = load_teacher(root / "published" / name)
    np.testing.assert_array_equal(local.encode_texts(["a dog"]), rows[:1])
    before = len(hub.requests)
    load_teacher(name)
    assert len(hub.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_command_answers(place, call, tmp_path, name):
    root, hub, environment = place
    zeroseg = ("-m", "small_hub")
    out = tmp_path / "out"
    done = call(*zeroseg, "segment", "photo.jpg", "--words=dog, sofa", f"--model={name}",
                f"--output={out}", "--cutout", "--polygons=coco")  # fmt: skip
    alias = aliases.ALIASES[name.rpartition("+")[2]]
    assert alias.licence in done.stderr or "+" in name  # clip-b16 is in the cache already
    record = json.loads((out / "photo.json").read_text())
    assert record["model"]["name"] == f"{NAMES[name]} of {name}"
    assert alias.licence in record["model"]["licence"] and not record["note"]
    assert {"background", "dog", "sofa"} == {c["word"] for c in record["classes"]}
    pinned = record["model"]["revision"].split(" + ")
    assert len(pinned) == name.count("+") + 1

    # From here on nothing is asked of the Hub.
    before = len(hub.requests)
    listed = call(*zeroseg, "models").stdout
    for part in name.split("+"):
        assert re.search(rf"^{part}\*? +\d+  yes", listed, re.MULTILINE), listed
    # The tokens of the small CLIPs are not those that are recorded for the published ones.
    recorded = name in ("clip-l14", "laion-b16") or name.endswith("clip-b16")
    checked = call(*zeroseg, "check-model", name, code=int(recorded)).stdout
    verdicts = [line.split()[:2] for line in checked.splitlines()[1:]]
    assert ["checksums", "good"] in verdicts and ["tensors", "good"] in verdicts
    assert ["tokens", "FAILED" if recorded else "unrecorded"] in verdicts

    offline = {"HF_HUB_OFFLINE": "1"}
    call(*zeroseg, "export", f"--model={name}", f"--output={tmp_path / 'named'}", **offline)
    exported = json.loads((tmp_path / "named" / "config.json").read_text())
    assert [exported[role]["name"] for role in ("teacher", "affinity")[: len(pinned)]] == pinned
    call(*zeroseg, "export", f"--model={name}", "--format=stablehlo", "--words=dog, sofa",
         f"--output={tmp_path / 'shlo'}", **offline)  # fmt: skip
    program = ("run.py", root / "photo.jpg", "mask.png")
    ran = subprocess.run([sys.executable, *program], cwd=tmp_path / "shlo", capture_output=True,
                         text=True, env={**environment, "PYTHONPATH": ""})  # fmt: skip
    assert ran.returncode == 0, ran.stderr

    code = f"""
import small_hub, numpy as np, PIL.Image
small_hub.record_small_sums()
from zeroseg_jax import Predictor
for name in ({name!r}, {str(tmp_path / "named")!r}):
    result = Predictor.from_pretrained(name).segment("photo.jpg", "dog, sofa")
    np.testing.assert_array_equal(result.mask, PIL.Image.open({str(out / "photo_mask.png")!r}))
"""
    call("-c", code, **offline)
    assert len(hub.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "teacher", "affinity", "readout", "sizes"),
    [("clip_zss:playground", "clip-b16", "dino-b8", "proxy", (64, 96)),
     ("zeroseg_regions", "laion-b16", "", "scclip", (64, 96)),
     ("clip_zss:playground", "tipsv2-b14", "", "maskclip", (32, 84))],
)  # fmt: skip
def test_students_are_trained_from_a_name_and_fetch_it_again(
    place, call, tmp_path, recipe, teacher, affinity, readout, sizes
):
    root, hub, _ = place
    shared = (
        f"--config={recipe}", f"--workdir={tmp_path / 'run'}",
        f"--config.teacher.directory={teacher}", f"--config.teacher.affinity={affinity}",
        f"--config.clip_zss.regions.readout={readout}", f"--config.model.embed_dim={sizes[0]}",
        f"--config.clip_zss.regions.teacher_px={sizes[1]}", "--config.model.encoder.init=scratch",
        "--config.data.images=16", "--config.optim.batch_global=4", "--config.optim.steps=2",
    )  # fmt: skip
    call("-m", "small_hub", "prepare", *shared)
    call("-m", "small_hub", "train", *shared)
    wanted = {}
    for field, name in (("directory", teacher), ("affinity", affinity)):
        alias = aliases.ALIASES.get(name)
        commit = alias and hub.commit(alias.repository, alias.revision)
        wanted[field] = f"hf:{alias.repository}@{commit}" if alias else ""
    call("-m", "small_hub", "export", f"--model={tmp_path / 'run'}",
         f"--output={tmp_path / 'student'}", "--noinclude_teacher")  # fmt: skip
    for record in ("run/manifest.json", "student/config.json"):
        found = json.loads((tmp_path / record).read_text())["config"]["teacher"]
        assert {field: found[field] for field in wanted} == wanted
    assert not (tmp_path / "student" / "teacher").exists()
    # A machine that has the student alone: its teacher comes by its commit, the other tower not.
    before = len(hub.requests)
    code = f"""
import small_hub
small_hub.record_small_sums()
from zeroseg_jax import Predictor
predictor = Predictor.from_pretrained({str(tmp_path / "student")!r}, cache_names=False)
assert predictor.model.teacher.pinned == {wanted["directory"]!r}
print(predictor.segment({str(root / "photo.jpg")!r}, "dog, sofa").class_names)
"""
    done = call("-c", code, HF_HUB_CACHE=str(tmp_path / "other"))
    assert "('dog', 'sofa')" in done.stdout
    asked = " ".join(path for _, path, *_ in hub.requests[before:])
    assert aliases.ALIASES[teacher].repository in asked
    assert not affinity or aliases.ALIASES[affinity].repository not in asked


@pytest.mark.slow
def test_serve_answers_with_each_family(place):
    root, _, environment = place
    pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
    with subprocess.Popen(
        [sys.executable, "-m", "small_hub", "serve", f"--models={','.join(NAMES)}", "--port=0"],
        cwd=root, env=environment, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                break
        answers = []
        for index in range(len(NAMES)):
            photo = urllib.request.Request(
                f"{found[0]}pictures?model={index}", data=(root / "photo.jpg").read_bytes(),
                method="POST",
            )  # fmt: skip
            token = json.load(urllib.request.urlopen(photo))["picture"]
            body = json.dumps({"picture": token, "words": "dog, sofa"}).encode()
            segment = urllib.request.Request(
                f"{found[0]}record", data=body,
                headers={"Content-Type": "application/json"}, method="POST",
            )  # fmt: skip
            answers.append(json.load(urllib.request.urlopen(segment)))
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130, -2)
    for name, answer in zip(NAMES, answers, strict=True):
        assert answer["model"]["name"] == f"{NAMES[name]} of {name}"
        assert {"background", "dog", "sofa"} == {c["word"] for c in answer["classes"]}
