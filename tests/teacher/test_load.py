"""The teacher: normalisation, the digest and the shipped files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small_clips import save

from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.teacher.aliases import ALIASES
from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.hub_errors import HubError
from zeroseg_jax.teacher.load import SHIPPED, Teacher, _round_length, load_teacher, pin_teachers
from zeroseg_jax.teacher.model_names import Located
from zeroseg_jax.teacher.towers import ClipConfig, TextTower, TowerConfig


@pytest.mark.parametrize("odd", [None, 1, "x", [], [1, 2], [1, 1, 0], [1, 1, "x"], {}])
def test_odd_normalisations_are_one_sentence(tensors, tmp_path, odd):
    folder = save(tmp_path / "hf", tensors)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_std": odd}))
    with pytest.raises(CheckpointError, match="image_std is .*; give three numbers"):
        load_teacher(folder)
    path.write_text(json.dumps(odd))
    if not isinstance(odd, dict):
        with pytest.raises(CheckpointError, match="preprocessor_config.json: holds a JSON"):
            load_teacher(folder)


@pytest.mark.parametrize("exponent", [1e38, 500.0, -1e38])
def test_a_logit_scale_that_cannot_be(tensors, tmp_path, exponent):
    odd = {**tensors, "logit_scale": np.array(exponent, np.float32)}
    with pytest.raises(CheckpointError, match="logit_scale is .*fetch the weights again"):
        load_teacher(save(tmp_path / "hf", odd))


def test_the_digest_covers_the_config_and_the_weights():
    content = b"".join(
        (SHIPPED / name).read_bytes() for name in ("config.json", "model.safetensors")
    )
    assert load_teacher("playground").digest == hashlib.sha256(content).hexdigest()


def test_shipped_files_are_small():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 20e6


def test_names_and_downloads_do_not_import_jax():
    code = (
        "import sys; import zeroseg_jax.teacher.hub, zeroseg_jax.teacher.model_names; "
        "sys.exit(bool({'jax', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("family", ["clip", "metaclip_2"])
def test_short_texts_are_cut_without_a_difference(family):
    config = ClipConfig(
        TowerConfig(32, 1, 2, 64, "gelu", 1e-5), TowerConfig(64, 3, 4, 128, "gelu", 1e-5),
        32, 16, 8, family, 100, 77, 2 if family == "metaclip_2" else 99,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 99, (150, 77)).astype(np.int32)
    for i, row in enumerate(ids):
        row[i // 2 :] = config.end_token
    shapes = jax.eval_shape(TextTower(config).init, jax.random.key(0), ids[:1])["params"]
    text = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    teacher = Teacher(Path("nowhere"), config, {"vision": None, "text": text})
    teacher.__dict__["_tokenize"] = lambda texts: ids
    seen = []
    encode = teacher._encode_ids
    teacher._encode_ids = lambda params, part: (seen.append(part.shape), encode(params, part))[1]
    found = teacher.encode_texts(["x"] * len(ids))
    assert {length for _, length in seen} == {32, 77}
    whole = np.asarray(jax.jit(TextTower(config).apply)({"params": text}, ids))
    scale = np.abs(whole).max()
    np.testing.assert_allclose(found / scale, whole / scale, atol=2e-6)


def test_the_longest_text_of_a_batch_sets_its_length():
    assert [_round_length(n, 77) for n in (1, 16, 17, 32, 33, 77)] == [16, 16, 32, 32, 77, 77]
    assert [_round_length(n, 16) for n in (3, 16)] == [16, 16]


def test_teachers_by_name(tensors, tmp_path):
    folder = save(tmp_path / "hf", tensors)
    teacher = load_teacher(folder)
    assert (teacher.name, teacher.pinned) == (str(folder), "")
    assert load_teacher("playground").name == "playground"
    located = Located(folder, "ours", "hf:o/n@" + "0" * 40)
    teacher = load_teacher(located)
    assert (teacher.name, teacher.pinned) == ("ours", located.pinned)
    with pytest.raises(HubError, match="did you mean clip-b16"):
        load_teacher("clip-b17")
    with pytest.raises(HubError, match="^teacher.affinity: 'clip-b17'"):
        load_teacher("clip-b17", field="teacher.affinity")
    with pytest.raises(CheckpointError, match="^teacher.directory: .* names two models"):
        load_teacher(f"{folder}+{folder}")


def test_configs_name_the_commits_of_their_teachers():
    teacher = {"directory": "clip-l14", "affinity": "dinov2", "readout": "proxy"}
    # What reads a second tower.
    reader = {"loss": {"dense": 1.0}, "model": {"head": {"grouping": "clustered"}}}
    found = pin_teachers(from_mapping({"teacher": teacher, **reader})).teacher
    assert found.directory == "hf:openai/clip-vit-large-patch14@" + ALIASES["clip-l14"].revision
    assert found.affinity.endswith("@" + ALIASES["dinov2"].revision)
    assert pin_teachers(Config()) == Config()
