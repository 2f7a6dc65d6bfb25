"""Conversion of torch files (OpenAI, OpenCLIP, Hugging Face) to config.json and safetensors.

Reads TorchScript such as OpenAI's ViT-B-32.pt, and state dicts (.pt, .pth, .bin) with the names of
OpenAI, OpenCLIP or Hugging Face. Needs torch: pip install .[convert].

State dicts are read by torch's restricted unpickler only (weights_only). Opening a TorchScript
archive can run code, so its sha256 must be one of OpenAI's or be given by the user.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.teacher.checkpoints import hugging_face
from zeroseg_jax.teacher.checkpoints.config import (
    HUGGING_FACE,
    OPEN_CLIP,
    WEIGHTS,
    CheckpointError,
    read_config,
    read_object,
)
from zeroseg_jax.teacher.checkpoints.layouts import to_parameter
from zeroseg_jax.teacher.checkpoints.names import UNUSED, list_tensors
from zeroseg_jax.teacher.checkpoints.tensors import place
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

# sha256 of the ViTs that OpenAI released as TorchScript; it is part of each file's address.
OPENAI = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B/32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B/16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L/14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L/14@336px",
}
# A state dict does not contain the number of heads. Heads of text towers and of vision towers up to
# ViT-L are 64 wide; OpenCLIP's H, g and bigG (1280, 1408, 1664 wide) have 16 heads.
_HEAD_WIDTH, _LARGE_WIDTH, _LARGE_HEADS = 64, 1024, 16


def check_digest(path: Path, expected: str) -> str:
    """Return the sha256 hex digest of a file.

    Raises:
      ValueError: the file is missing, or its digest is not `expected` where one is given.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and digest != expected.strip().lower():
        raise ValueError(f"{path}: sha256 is {digest}, not {expected}; fetch the file again.")
    return digest


def read_torch(path: Path, *, trusted: bool = False) -> tuple[dict[str, np.ndarray], bool]:
    """Read the tensors of a torch file.

    Args:
      path: file to read.
      trusted: True if the digest is known to be the publisher's; required for TorchScript.

    Returns:
      float32 tensors by name, and whether the file is TorchScript.

    Raises:
      ValueError: torch is missing, the TorchScript is not trusted, or the file holds no tensors
        or more than tensors.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError("torch: not installed; run pip install .[convert].") from error
    import pickle

    scripted = _is_torchscript(path)
    if scripted and not trusted:
        raise ValueError(
            f"{path}: opening TorchScript can run code, and its sha256 is not one of OpenAI's; "
            "give the digest from the publisher as --sha256."
        )
    try:
        if scripted:
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: torch's restricted unpickler refuses it ({reason}); give a file that holds "
            "tensors only."
        ) from error
    # Trainers wrap the tensors in one or two layers, and prefix their names.
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(torch.is_tensor(v) for v in state.values()):
        raise ValueError(f"{path}: holds no tensors by name; give a state dict.")
    return {
        _WRAPPERS.sub("", name): value.detach().to(torch.float32).numpy()
        for name, value in state.items()
        if torch.is_tensor(value)
    }, scripted


# Prefixes of DistributedDataParallel and torch.compile, in either order.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def convert(
    state: dict[str, np.ndarray], *, activation: str, heads: int, config: str, origin: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Convert a state dict to Hugging Face's config and tensors.

    Args:
      state: float32 tensors with the names of OpenAI, OpenCLIP or Hugging Face.
      activation: "gelu" or "quick_gelu"; unused where `config` is given.
      heads: attention heads of the vision tower; 0 for width / 64, or 16 above a width of 1024.
      config: path of config.json for Hugging Face's names, else "".
      origin: path of the file, for error messages.

    Raises:
      ValueError: the names are unknown, tensors are missing or of other shapes, or a setting that
        a state dict does not contain is not given.
    """
    if "visual.conv1.weight" in state:
        if not activation:
            raise ValueError(
                f"{origin}: a state dict does not contain its activation; give "
                "--activation=quick_gelu for OpenAI's weights and OpenCLIP's models named "
                "-quickgelu, else --activation=gelu."
            )
        # Settings, not parameters, in OpenAI's archives.
        extra = ("input_resolution", "context_length", "vocab_size", *UNUSED)
        state = {name: value for name, value in state.items() if name not in extra}
        sizes = _infer_sizes(state, activation, heads, origin)
        params = _place_all(state, sizes, origin)
        return hugging_face.to_config(sizes), hugging_face.to_tensors(params, sizes)
    if "vision_model.embeddings.patch_embedding.weight" not in state:
        raise ValueError(
            f"{origin}: no tensor is called visual.conv1.weight or "
            "vision_model.embeddings.patch_embedding.weight, so this is not a CLIP with a ViT."
        )
    if not config:
        raise ValueError(f"{origin}: has Hugging Face's names; give its config.json as --config.")
    path = Path(config)
    if path.name != HUGGING_FACE:
        raise ValueError(f"--config: {config} must be named {HUGGING_FACE}.")
    tensors = list_tensors(read_config(path.parent, HUGGING_FACE)).values()
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    known = {k: v for k, v in state.items() if k.rpartition(".")[2] not in UNUSED}
    _check_shapes(known, shapes, origin)
    return read_object(path), {name: np.array(state[name], order="C") for name in shapes}


def _infer_sizes(
    state: dict[str, np.ndarray], activation: str, heads: int, origin: Path
) -> ClipConfig:
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        tokens = state["visual.positional_embedding"].shape[0]
        context, text_width = state["positional_embedding"].shape
        vocabulary = state["token_embedding.weight"].shape[0]
        embed_dim = state["text_projection"].shape[1]
        vision_mlp = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        text_mlp = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{origin}: not a CLIP with a ViT ({error} is missing or of another shape)."
        ) from error
    if not heads:
        heads = _LARGE_HEADS if width > _LARGE_WIDTH else max(1, width // _HEAD_WIDTH)
    if width % heads:
        raise ValueError(f"--heads: {heads} does not divide the vision tower's width {width}.")
    side = int(round((tokens - 1) ** 0.5))

    def depth(prefix: str) -> int:
        pattern = re.compile(re.escape(prefix) + r"\.resblocks\.(\d+)\.")
        return 1 + max(int(m.group(1)) for name in state if (m := pattern.match(name)))

    vision = TowerConfig(width, depth("visual.transformer"), heads, vision_mlp, activation, 1e-5)
    text_heads = max(1, text_width // _HEAD_WIDTH)
    text = TowerConfig(text_width, depth("transformer"), text_heads, text_mlp, activation, 1e-5)
    return ClipConfig(
        vision=vision,
        text=text,
        embed_dim=embed_dim,
        image_px=side * patch,
        patch_px=patch,
        vocabulary=vocabulary,
        context_tokens=context,
        end_token=vocabulary - 1,
    )


def _place_all(state: dict[str, np.ndarray], sizes: ClipConfig, origin: Path) -> dict[str, Any]:
    names = list_tensors(sizes, OPEN_CLIP)
    _check_shapes(state, {tensor.name: tensor.shape for tensor in names.values()}, origin)
    params: dict[str, Any] = {}
    for ours, tensor in names.items():
        value, (first, count) = state[tensor.name], tensor.rows
        rows = value[first : first + count] if tensor.shape else value
        place(params, ours, to_parameter(tensor, rows))
    return params


def _check_shapes(
    state: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], origin: Path
) -> None:
    problems = [f"missing {name}" for name in sorted(shapes.keys() - state.keys())]
    problems += [f"unused {name}" for name in sorted(state.keys() - shapes.keys())]
    for name in sorted(shapes.keys() & state.keys()):
        if state[name].shape != shapes[name]:
            problems.append(f"{name} is {state[name].shape}, not {shapes[name]}")
        elif not np.isfinite(state[name].sum(dtype=np.float64)):
            problems.append(f"{name} holds values that are not finite")
    if problems:
        raise CheckpointError(
            f"{origin}: the tensors do not fit the config: " + "; ".join(problems) + "."
        )


def write_new(directory: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write config.json and model.safetensors to a directory that holds neither.

    Raises:
      ValueError: one of them exists.
    """
    for name in (WEIGHTS[HUGGING_FACE][0], HUGGING_FACE):
        if (directory / name).exists():
            raise ValueError(f"--output: {directory / name} exists; give another directory.")
    hugging_face.write_checkpoint(directory, config, tensors)
