"""The teacher: normalisation, the digest and the shipped files."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from small_clips import save

from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import SHIPPED, load_teacher


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
