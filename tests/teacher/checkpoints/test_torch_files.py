"""Torch files to safetensors: the same model, and files that are refused."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
from small_clips import pixels, same, save, to_open_clip

from zeroseg_jax.teacher.checkpoints import torch_files
from zeroseg_jax.teacher.load import load_teacher

torch = pytest.importorskip("torch", reason="converting needs torch: pip install .[convert]")


class Loaded(torch.nn.Module):
    """A module whose parameters are called as OpenAI's are."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            module = self
            *parents, leaf = name.split(".")
            for part in parents:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_parameter(leaf, torch.nn.Parameter(torch.from_numpy(value.copy())))

    def forward(self, x):
        return x


def run(path, output, **settings):
    options = {"activation": "quick_gelu", "heads": 0, "config": "", **settings}
    state, scripted = torch_files.read_torch(path, trusted=True)
    torch_files.write_new(output, *torch_files.convert(state, origin=path, **options))
    return scripted


def test_torchscript_becomes_the_same_model(tensors, tmp_path):
    path = tmp_path / "ViT-tiny.pt"
    torch.jit.script(Loaded(to_open_clip(tensors))).save(str(path))
    with pytest.raises(ValueError, match="TorchScript can run code, and its sha256 is not"):
        torch_files.read_torch(path)
    assert run(path, tmp_path / "out")
    expected = load_teacher(save(tmp_path / "hf", tensors))
    found = load_teacher(tmp_path / "out")
    same(found, expected)
    assert found.config == expected.config
    np.testing.assert_array_equal(found.encode_images(pixels()), expected.encode_images(pixels()))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", ""])
def test_state_dicts_of_either_names(tensors, tmp_path, prefix):
    expected = load_teacher(save(tmp_path / "hf", tensors))
    state = {f"{prefix}{k}": torch.from_numpy(v) for k, v in to_open_clip(tensors).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "open_clip.pt")
    assert not run(tmp_path / "open_clip.pt", tmp_path / "a")
    same(load_teacher(tmp_path / "a"), expected)
    torch.save({k: torch.from_numpy(v).half() for k, v in tensors.items()}, tmp_path / "hf.bin")
    run(tmp_path / "hf.bin", tmp_path / "b", config=str(tmp_path / "hf" / "config.json"))
    rounded = {k: v.astype(np.float16).astype(np.float32) for k, v in tensors.items()}
    same(load_teacher(tmp_path / "b"), load_teacher(save(tmp_path / "hf16", rounded)))


def test_pickles_that_would_run_code_are_refused(tmp_path):
    path = tmp_path / "evil.pt"
    marker = tmp_path / "ran"

    class Touch:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"state_dict": {"visual.conv1.weight": torch.zeros(1)}, "x": Touch()}, path)
    with pytest.raises(ValueError, match="restricted unpickler refuses"):
        torch_files.read_torch(path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Touch()))
    with pytest.raises(ValueError, match="restricted unpickler refuses"):
        torch_files.read_torch(plain)
    assert not marker.exists()


def test_files_that_cannot_be_converted(tensors, tmp_path):
    path = tmp_path / "a.pt"
    options = {"activation": "gelu", "heads": 0, "config": "", "origin": path}
    for content, sentence in (([1, 2], "no tensors by name"), ({"a": 1}, "no tensors by name")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=sentence):
            torch_files.read_torch(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="restricted unpickler refuses"):
        torch_files.read_torch(path)
    with pytest.raises(ValueError, match="this is not a CLIP with a ViT"):
        torch_files.convert({"conv1.weight": np.zeros(3)}, **options)
    with pytest.raises(ValueError, match="does not contain its activation"):
        torch_files.convert(to_open_clip(tensors), **{**options, "activation": ""})
    with pytest.raises(ValueError, match="give its config.json"):
        torch_files.convert(tensors, **options)
    broken = to_open_clip(tensors)
    del broken["ln_final.bias"]
    broken["more"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="missing ln_final.bias; unused more"):
        torch_files.convert(broken, **options)
    with pytest.raises(ValueError, match="--heads: 7 does not divide .* width 64"):
        torch_files.convert(to_open_clip(tensors), **{**options, "heads": 7})
    folder = save(tmp_path / "hf", tensors)
    options["config"] = str(folder / "config.json")
    with pytest.raises(ValueError, match="unused more"):
        torch_files.convert({**tensors, "more": np.zeros(3, np.float32)}, **options)


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16), (1664, 16)])
def test_heads_that_no_state_dict_tells(width, heads):
    """B and L have heads of 64; H and bigG sixteen, of 80 and of 104."""
    state = {
        "visual.conv1.weight": np.zeros((width, 3, 2, 2), np.float32),
        "visual.positional_embedding": np.zeros((5, width), np.float32),
        "positional_embedding": np.zeros((7, 512), np.float32),
        "token_embedding.weight": np.zeros((9, 512), np.float32),
        "text_projection": np.zeros((512, 4), np.float32),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": np.zeros((8, width), np.float32),
        "transformer.resblocks.0.mlp.c_fc.weight": np.zeros((8, 512), np.float32),
    }
    sizes = torch_files._infer_sizes(state, "gelu", 0, "x.pt")
    assert (sizes.vision.heads, sizes.text.heads) == (heads, 8)


def test_siglip_in_torch_files(tmp_path):
    """Hugging Face's names without a class token are read with their config."""
    torch.manual_seed(0)
    import transformers

    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = transformers.SiglipConfig(
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        text_config={**tower, "vocab_size": 20, "projection_size": 16},
    )
    model = transformers.SiglipModel(config)
    model.save_pretrained(tmp_path / "hf")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    run(tmp_path / "pytorch_model.bin", tmp_path / "out", config=str(tmp_path / "hf/config.json"))
    same(load_teacher(tmp_path / "out"), load_teacher(tmp_path / "hf"))


def test_digest_and_output_are_checked(tensors, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    assert (
        torch_files.check_digest(path, right.upper()) == torch_files.check_digest(path, "") == right
    )
    with pytest.raises(ValueError, match="sha256 is ba7816"):
        torch_files.check_digest(path, "0" * 64)
    with pytest.raises(ValueError, match="no such file"):
        torch_files.check_digest(tmp_path / "b.pt", "")
    folder = save(tmp_path / "hf", tensors)
    before = json.loads((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="exists; give another"):
        torch_files.write_new(folder, {}, tensors)
    assert json.loads((folder / "config.json").read_text()) == before
