"""Weights of a checkpoint: formats, shards, dtypes, damaged files and memory."""

import json
import os
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from small_clips import (
    CONFIG,
    pixels,
    same,
    save,
    save_open_clip,
    to_open_clip,
)

from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.checkpoints.hugging_face import to_config
from zeroseg_jax.teacher.checkpoints.names import list_tensors
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig


def test_open_clips_own_layout_is_the_same_model(tensors, tmp_path):
    expected = load_teacher(save(tmp_path / "hf", tensors))
    found = load_teacher(save_open_clip(tmp_path / "open", tensors))
    same(found, expected)
    assert found.config == expected.config and found.logit_scale == expected.logit_scale
    assert found.mean == (0.5, 0.4, 0.3) and found.std == (0.2, 0.3, 0.25)
    assert found.digest != expected.digest
    np.testing.assert_array_equal(found.encode_images(pixels()), expected.encode_images(pixels()))


def test_sharded_files_are_the_same_model(tensors, tmp_path):
    expected = load_teacher(save(tmp_path / "one", tensors))
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_config(CONFIG)))
    names = sorted(tensors)
    weight_map = {}
    for i, part in enumerate((names[:20], names[20:40], names[40:])):
        shard = f"model-{i + 1:05d}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    same(load_teacher(folder), expected)

    save_file({names[0]: tensors[names[0]]}, folder / "model-00004-of-00004.safetensors")
    doubled = {**weight_map, "extra": "model-00004-of-00004.safetensors"}
    index.write_text(json.dumps({"weight_map": doubled}))
    with pytest.raises(CheckpointError, match="00003.safetensors and in model-00004"):
        load_teacher(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../one/model.safetensors"}}))
    with pytest.raises(CheckpointError, match="is missing; fetch it too"):
        load_teacher(folder)
    for odd in ([], {}, {"weight_map": 3}, {"weight_map": {}}):
        index.write_text(json.dumps(odd))
        with pytest.raises(CheckpointError, match="fetch the file again"):
            load_teacher(folder)
    for odd in (3, []):
        index.write_text(json.dumps({"weight_map": {"a": odd}}))
        with pytest.raises(CheckpointError, match="is missing; fetch it too"):
            load_teacher(folder)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files(tensors, tmp_path, dtype):
    half = {name: value.astype(dtype) for name, value in tensors.items()}
    found = load_teacher(save(tmp_path / "half", half))
    rounded = {name: value.astype(np.float32) for name, value in half.items()}
    same(found, load_teacher(save(tmp_path / "full", rounded)))


def test_tensors_larger_than_a_piece_are_put_together(tensors, tmp_path, monkeypatch):
    folder, open_folder = save(tmp_path / "hf", tensors), save_open_clip(tmp_path / "open", tensors)
    whole = load_teacher(folder)
    monkeypatch.setattr("zeroseg_jax.teacher.checkpoints.tensors._PIECE_VALUES", 250)
    same(load_teacher(folder), whole)
    same(load_teacher(open_folder), whole)


def test_everything_wrong_is_told_at_once(tensors, tmp_path):
    broken = dict(tensors)
    del broken["logit_scale"]
    broken["extra.weight"] = np.zeros(3, np.float32)
    broken["visual_projection.weight"] = broken["visual_projection.weight"][:, :-1].copy()
    norm = broken["text_model.final_layer_norm.bias"].copy()
    norm[3] = np.nan
    broken["text_model.final_layer_norm.bias"] = norm
    integers = broken["vision_model.embeddings.class_embedding"].astype(np.int32)
    broken["vision_model.embeddings.class_embedding"] = integers
    with pytest.raises(CheckpointError) as caught:
        load_teacher(save(tmp_path / "broken", broken))
    for part in (
        "missing logit_scale", "unused extra.weight", "visual_projection.weight is (20, 63)",
        "text_model.final_layer_norm.bias holds values that are not finite",
        "vision_model.embeddings.class_embedding is of type I32",
    ):  # fmt: skip
        assert part in str(caught.value)


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def _change_header(path, change):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])


def _outside(path):
    def change(header):
        begin, end = header["logit_scale"]["data_offsets"]
        header["logit_scale"]["data_offsets"] = [begin + 10_000_000, end + 10_000_000]

    _change_header(path, change)


def _overlapping(path):
    bias, weight = (f"text_model.final_layer_norm.{kind}" for kind in ("bias", "weight"))
    _change_header(
        path, lambda header: header[bias].update(data_offsets=header[weight]["data_offsets"])
    )


def _hole(path):
    _change_header(path, lambda header: header.pop("text_model.final_layer_norm.bias"))


def _wrong_dtype(path):
    _change_header(path, lambda header: header["logit_scale"].update(dtype="F16"))


def _unknown_dtype(path):
    _change_header(path, lambda header: header["logit_scale"].update(dtype="F31"))


def _huge_shape(path):
    _change_header(path, lambda header: header["logit_scale"].update(shape=[2**62, 4]))


def _not_json(path):
    path.write_bytes(struct.pack("<Q", 10) + b"{" * 10)


def _pickle(path):
    path.write_bytes(b"\x80\x04K\x01." + bytes(100))


def _huge_header(path):
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def _doubled(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = raw[8 : 8 + size].decode().rstrip()
    entry = json.dumps(json.loads(header)["logit_scale"])
    new = (header[:-1] + f',"logit_scale":{entry}}}').encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_truncated, "model.safetensors: not a whole"),
        (_outside, "model.safetensors: not a whole"),
        (_overlapping, "model.safetensors: not a whole"),
        (_hole, "model.safetensors: not a whole"),
        (_wrong_dtype, "model.safetensors: not a whole"),
        (_unknown_dtype, "model.safetensors: not a whole"),
        (_huge_shape, "model.safetensors: not a whole"),
        (_not_json, "model.safetensors: not a whole"),
        (_pickle, "model.safetensors: not a whole"),
        (_huge_header, "model.safetensors: not a whole"),
        (_empty, "model.safetensors: not a whole"),
        (_doubled, "logit_scale is twice in model.safetensors"),
    ],
)
def test_damaged_files_are_one_sentence(tensors, tmp_path, damage, sentence):
    folder = save(tmp_path / "damaged", tensors)
    damage(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=sentence):
        load_teacher(folder)


def test_directories_that_are_none(tmp_path):
    with pytest.raises(CheckpointError, match="no config.json or open_clip_config.json"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"')
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a JSON list"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_config(CONFIG)))
    with pytest.raises(CheckpointError, match="zeroseg convert_teacher"):
        load_teacher(tmp_path)


@pytest.mark.parametrize("name", ["open_clip_model", "open_clip_pytorch_model"])
def test_open_clip_as_timm_and_laion_publish_it(tensors, tmp_path, name):
    """timm's config.json has no model_type and its model.safetensors is a vision tower."""
    expected = load_teacher(save(tmp_path / "hf", tensors))
    folder = save_open_clip(tmp_path / "open", tensors)
    (folder / "open_clip_model.safetensors").rename(folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224"}))
    save_file({"blocks.0.attn.qkv.weight": np.zeros((3, 3))}, folder / "model.safetensors")
    same(load_teacher(folder), expected)
    # The same in two shards.
    parts = list(to_open_clip(tensors).items())
    (folder / f"{name}.safetensors").unlink()
    shards = {f"{name}-00001-of-00002.safetensors": dict(parts[::2])}
    shards[f"{name}-00002-of-00002.safetensors"] = dict(parts[1::2])
    for shard, content in shards.items():
        save_file(content, folder / shard)
    weight_map = {tensor: shard for shard, content in shards.items() for tensor in content}
    index = folder / f"{name}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    same(load_teacher(folder), expected)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page and not the weights"),
    ],
)
def test_what_stands_in_place_of_weights_is_named(tensors, tmp_path, content, sentence):
    folder = save(tmp_path / "hf", tensors)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_teacher(folder)


MEMORY = """
import resource, sys
from zeroseg_jax.teacher.checkpoints.config import CheckpointError
from zeroseg_jax.teacher.load import load_teacher

def private_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmData")) * 1024

load_teacher("playground")  # what JAX itself takes the first time
limit = private_bytes() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
load_teacher(sys.argv[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_loading_holds_little_more_than_the_parameters(tmp_path, dtype):
    """Private memory is limited; the file is mapped and its pages can be dropped at any time.

    One tensor is more than half of the parameters, so a second copy of it breaks the limit.
    """
    config = ClipConfig(
        vision=TowerConfig(512, 4, 8, 2048, "gelu", 1e-5),
        text=TowerConfig(512, 4, 8, 2048, "gelu", 1e-5),
        embed_dim=256, image_px=64, patch_px=8, vocabulary=80_000, context_tokens=77,
        end_token=79_999,
    )  # fmt: skip
    zeros = {t.name: np.zeros(t.shape, dtype) for t in list_tensors(config).values()}
    folder = save(tmp_path / "big", zeros, to_config(config))
    size = 4 * sum(tensor.size for tensor in zeros.values())
    assert size > 200e6  # so that the few MB that any first load takes do not count
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder), str(int(1.15 * size))],
        capture_output=True, text=True,
    )  # fmt: skip
    (folder / "model.safetensors").unlink()
    assert done.returncode == 0, done.stderr[-500:]
