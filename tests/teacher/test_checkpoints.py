"""Other layouts, types and cuts of the same weights; and files that are not what they should be."""

import json
import os
import struct
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from zeroseg_jax import teacher
from zeroseg_jax.teacher.checkpoints.config import write_config
from zeroseg_jax.teacher.checkpoints.names import build_slots, to_hf
from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig
from zeroseg_jax.teacher.playground.clip import init_params

CONFIG = ClipConfig(
    vision=TowerConfig(64, 2, 1, 128, "quick_gelu", 1e-5),
    text=TowerConfig(64, 2, 1, 128, "quick_gelu", 1e-5),
    embed_dim=20, image_px=32, patch_px=8, vocabulary=60, context_tokens=12, end_token=59,
)  # fmt: skip


@pytest.fixture(scope="module")
def tensors():
    return to_hf(init_params(CONFIG, jax.random.key(0)), CONFIG)


def save(directory, tensors, config=None, name="model.safetensors"):
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / name)
    (directory / "config.json").write_text(json.dumps(config or write_config(CONFIG)))
    return directory


def pixels():
    return np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)


def to_open_clip(tensors):
    """Rename by hand, apart from the project's own table."""
    out = {}
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        for i in range(2):
            left, right = f"{tower}.encoder.layers.{i}", f"{prefix}.resblocks.{i}"
            for kind in ("weight", "bias"):
                parts = [tensors[f"{left}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                out[f"{right}.attn.in_proj_{kind}"] = np.concatenate(parts)
                out[f"{right}.attn.out_proj.{kind}"] = tensors[f"{left}.self_attn.out_proj.{kind}"]
                out[f"{right}.ln_1.{kind}"] = tensors[f"{left}.layer_norm1.{kind}"]
                out[f"{right}.ln_2.{kind}"] = tensors[f"{left}.layer_norm2.{kind}"]
                out[f"{right}.mlp.c_fc.{kind}"] = tensors[f"{left}.mlp.fc1.{kind}"]
                out[f"{right}.mlp.c_proj.{kind}"] = tensors[f"{left}.mlp.fc2.{kind}"]
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = tensors[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = tensors[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = tensors[f"text_model.final_layer_norm.{kind}"]
    out |= {
        "visual.conv1.weight": tensors["vision_model.embeddings.patch_embedding.weight"],
        "visual.class_embedding": tensors["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": tensors["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": tensors["visual_projection.weight"].T,
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T,
        "logit_scale": tensors["logit_scale"],
    }
    return {name: np.array(value, order="C") for name, value in out.items()}


OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 20, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8,
                       "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 64, "heads": 1, "layers": 2,
                     "mlp_ratio": 2.0},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
}  # fmt: skip


def save_open_clip(directory, tensors, config=OPEN_CLIP_CONFIG):
    directory.mkdir(exist_ok=True)
    save_file(to_open_clip(tensors), directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found.vision_params, expected.vision_params)
    jax.tree.map(np.testing.assert_array_equal, found.text_params, expected.text_params)


def test_open_clips_own_layout_is_the_same_model(tensors, tmp_path):
    expected = teacher.load(save(tmp_path / "hf", tensors))
    found = teacher.load(save_open_clip(tmp_path / "open", tensors))
    same(found, expected)
    assert found.config == expected.config and found.logit_scale == expected.logit_scale
    assert found.mean == (0.5, 0.4, 0.3) and found.std == (0.2, 0.3, 0.25)
    assert found.digest != expected.digest
    np.testing.assert_array_equal(found.encode_images(pixels()), expected.encode_images(pixels()))


def test_sharded_files_are_the_same_model(tensors, tmp_path):
    expected = teacher.load(save(tmp_path / "one", tensors))
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(write_config(CONFIG)))
    names = sorted(tensors)
    weight_map = {}
    for i, part in enumerate((names[:20], names[20:40], names[40:])):
        shard = f"model-{i + 1:05d}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    same(teacher.load(folder), expected)

    save_file({names[0]: tensors[names[0]]}, folder / "model-00004-of-00004.safetensors")
    doubled = {**weight_map, "extra": "model-00004-of-00004.safetensors"}
    index.write_text(json.dumps({"weight_map": doubled}))
    with pytest.raises(teacher.CheckpointError, match="stands in two files"):
        teacher.load(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../one/model.safetensors"}}))
    with pytest.raises(teacher.CheckpointError, match="which is not there"):
        teacher.load(folder)
    for odd in ([], {}, {"weight_map": 3}, {"weight_map": {"a": []}}):
        index.write_text(json.dumps(odd))
        with pytest.raises(teacher.CheckpointError, match="not an index of shards"):
            teacher.load(folder)
    index.write_text(json.dumps({"weight_map": {"a": 3}}))
    with pytest.raises(teacher.CheckpointError, match="which is not there"):
        teacher.load(folder)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files(tensors, tmp_path, dtype):
    half = {name: value.astype(dtype) for name, value in tensors.items()}
    found = teacher.load(save(tmp_path / "half", half))
    rounded = {name: value.astype(np.float32) for name, value in half.items()}
    same(found, teacher.load(save(tmp_path / "full", rounded)))


def test_tensors_larger_than_a_piece_are_put_together(tensors, tmp_path, monkeypatch):
    folder, open_folder = save(tmp_path / "hf", tensors), save_open_clip(tmp_path / "open", tensors)
    whole = teacher.load(folder)
    monkeypatch.setattr("zeroseg_jax.teacher.checkpoints.tensors._PIECE_BYTES", 1000)
    same(teacher.load(folder), whole)
    same(teacher.load(open_folder), whole)


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
    with pytest.raises(teacher.CheckpointError) as caught:
        teacher.load(save(tmp_path / "broken", broken))
    for part in (
        "missing logit_scale", "unused extra.weight", "visual_projection.weight is (20, 63)",
        "text_model.final_layer_norm.bias holds values that are not finite",
        "vision_model.embeddings.class_embedding is of type I32",
    ):  # fmt: skip
        assert part in str(caught.value)


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def _lying(path):
    """A header that says the data lie where the file has none."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    begin, end = header["logit_scale"]["data_offsets"]
    header["logit_scale"]["data_offsets"] = [begin + 10_000_000, end + 10_000_000]
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])


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
        (_lying, "model.safetensors: not a whole"),
        (_huge_header, "model.safetensors: not a whole"),
        (_empty, "model.safetensors: not a whole"),
        (_doubled, "logit_scale stands twice in model.safetensors"),
    ],
)
def test_damaged_files_are_one_sentence(tensors, tmp_path, damage, sentence):
    folder = save(tmp_path / "damaged", tensors)
    damage(folder / "model.safetensors")
    with pytest.raises(teacher.CheckpointError, match=sentence):
        teacher.load(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(model_type="bert"), "model_type is 'bert'"),
        (lambda c: c.update(model_type="siglip2"), "NaFlex is not read"),
        (lambda c: c["vision_config"].update(hidden_act="relu"), "hidden_act is 'relu'"),
        (lambda c: c["vision_config"].update(num_attention_heads=7), "not a multiple of its 7"),
        (lambda c: c["vision_config"].update(patch_size=0), "patch_size is 0"),
        (lambda c: c["text_config"].update(hidden_size="64"), "text width is '64'"),
        (lambda c: c["vision_config"].update(image_size=4), "does not fit an image of 4"),
    ],
)
def test_configs_that_cannot_be(tensors, tmp_path, change, sentence):
    config = write_config(CONFIG)
    change(config)
    with pytest.raises(teacher.CheckpointError, match=sentence):
        teacher.load(save(tmp_path / "odd", tensors, config))


def test_directories_that_are_none(tmp_path):
    with pytest.raises(teacher.CheckpointError, match="no config.json or open_clip_config.json"):
        teacher.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"')
    with pytest.raises(teacher.CheckpointError, match="not valid JSON"):
        teacher.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(teacher.CheckpointError, match="holds a list"):
        teacher.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(write_config(CONFIG)))
    with pytest.raises(teacher.CheckpointError, match="teacher.convert"):
        teacher.load(tmp_path)


def test_open_clip_needs_its_fields(tensors, tmp_path):
    config = json.loads(json.dumps(OPEN_CLIP_CONFIG))
    del config["model_cfg"]["embed_dim"]
    with pytest.raises(teacher.CheckpointError, match="'embed_dim' is missing"):
        teacher.load(save_open_clip(tmp_path / "b", tensors, config))


@pytest.mark.parametrize("odd", [None, 1, "x", [], [1, 2], [1, 1, 0], [1, 1, "x"], {}])
def test_odd_normalisations_are_one_sentence(tensors, tmp_path, odd):
    folder = save(tmp_path / "hf", tensors)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_std": odd}))
    with pytest.raises(teacher.CheckpointError, match="image_std is .*, not three numbers"):
        teacher.load(folder)
    path.write_text(json.dumps(odd))
    if not isinstance(odd, dict):
        with pytest.raises(teacher.CheckpointError, match="preprocessor_config.json: holds a"):
            teacher.load(folder)


MEMORY = """
import json, sys
import jax
from zeroseg_jax import teacher

def read(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024

teacher.load("playground")  # what jax itself takes the first time
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
begin = read("VmRSS")
clip = teacher.load(sys.argv[1])
size = sum(x.nbytes for x in jax.tree.leaves((clip.vision_params, clip.text_params)))
print(json.dumps([size, read("VmHWM") - begin]))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_loading_holds_little_more_than_the_parameters(tmp_path, dtype):
    """All memory of the process, file pages too, where one tensor is more than half of it."""
    config = ClipConfig(
        vision=TowerConfig(512, 4, 8, 2048, "gelu", 1e-5),
        text=TowerConfig(512, 4, 8, 2048, "gelu", 1e-5),
        embed_dim=256, image_px=64, patch_px=8, vocabulary=80_000, context_tokens=77,
        end_token=79_999,
    )  # fmt: skip
    zeros = {slot.name: np.zeros(slot.shape, dtype) for slot in build_slots(config).values()}
    folder = save(tmp_path / "big", zeros, write_config(config))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder)], capture_output=True, text=True, check=True
    )
    (folder / "model.safetensors").unlink()
    size, used = json.loads(done.stdout)
    assert size > 200e6  # so that the few MB that any first load takes do not count
    assert used < 1.3 * size, f"{used / size:.2f} times the parameters"
