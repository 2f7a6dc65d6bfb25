"""Torch files to safetensors: zeroseg convert_teacher FILE --output=DIR.

Reads OpenAI's ViT-B-32.pt and its kin (TorchScript), and state dicts saved by torch (.pt, .pth,
.bin) with OpenAI's, OpenCLIP's or Hugging Face's names, and writes a directory in Hugging Face's
layout. Needs torch: pip install .[convert]. The only file of the core that imports it.

Pickles are opened by torch's restricted reader only (weights_only); a file that needs more is
refused. A TorchScript archive is a program, and reading one may run it: it is opened only where
its sha256 is one of OpenAI's, or is given as --sha256 by whoever has it from the publisher.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from safetensors.numpy import save_file

from zeroseg_jax.commands import flags
from zeroseg_jax.teacher.checkpoints.config import (
    HUGGING_FACE,
    OPEN_CLIP,
    CheckpointError,
    read_config,
    write_config,
)
from zeroseg_jax.teacher.checkpoints.names import build_slots, from_disk, to_hf
from zeroseg_jax.teacher.checkpoints.tensors import BUFFERS, place
from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig

# The ViTs that OpenAI released as TorchScript; each digest is part of the file's address.
OPENAI = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B/32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B/16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L/14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L/14@336px",
}
# A state dict does not tell its heads. Those of text towers and of vision towers up to ViT-L are
# 64 wide; OpenCLIP's H, g and bigG (1280, 1408, 1664 wide) have 16.
_HEAD_WIDTH, _LARGE_WIDTH, _LARGE_HEADS = 64, 1024, 16


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", None, "directory to write: config.json, model.safetensors")
    absl_flags.DEFINE_string(
        "sha256", "", "what the file must have, in hex; TorchScript that is not OpenAI's needs it"
    )
    absl_flags.DEFINE_enum(
        "activation", "", ["", "gelu", "quick_gelu"],
        "empty: quick_gelu for TorchScript, which is OpenAI's; must be given for a state dict",
    )  # fmt: skip
    absl_flags.DEFINE_string("config", "", "config.json of a file with Hugging Face's names")
    absl_flags.DEFINE_integer(
        "heads", 0, "of the vision tower; 0: width / 64, above 1024 16", lower_bound=0
    )
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Convert one file."""
    if len(arguments) != 1:
        raise ValueError(f"give one file to convert, not {len(arguments)}.")
    path = Path(arguments[0])
    digest = check_digest(path, FLAGS.sha256)
    print(f"sha256 {digest}  {path}{_tell_openai(digest)}", flush=True)
    state, scripted = read_torch(path, trusted=bool(FLAGS.sha256) or digest in OPENAI)
    activation = FLAGS.activation or ("quick_gelu" if scripted else "")
    config, tensors = convert(
        state, activation=activation, heads=FLAGS.heads, config=FLAGS.config, origin=path
    )
    write(Path(FLAGS.output), config, tensors)
    print(f"wrote {FLAGS.output}: {len(tensors)} tensors; add the tokenizer files of this CLIP")


def _tell_openai(digest: str) -> str:
    return f" (OpenAI's {OPENAI[digest]})" if digest in OPENAI else ""


def check_digest(path: Path, wanted: str) -> str:
    """Return the sha256 hex digest of a file.

    Raises:
      ValueError: no such file, or another digest than `wanted` where one is given.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and found != wanted.strip().lower():
        raise ValueError(f"{path}: sha256 is {found}, not {wanted}; fetch the file again.")
    return found


def read_torch(path: Path, *, trusted: bool = False) -> tuple[dict[str, np.ndarray], bool]:
    """Read the tensors of a torch file as float32, and whether it was TorchScript.

    Args:
      path: of the file.
      trusted: whether its digest is known to be the publisher's; TorchScript needs it.

    Raises:
      ValueError: torch is missing, TorchScript that is not trusted, or a file that holds more
        than tensors or none.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "torch is not installed; converting needs pip install .[convert]."
        ) from error
    import pickle

    scripted = _is_torchscript(path)
    if scripted and not trusted:
        raise ValueError(
            f"{path}: TorchScript is a program and its sha256 is none of OpenAI's; if you have "
            "its digest from the publisher, give it as --sha256."
        )
    try:
        if scripted:
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: torch's restricted reader refuses it ({reason}).") from error
    # Trainers wrap the tensors in one or two layers, and prefix their names.
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(torch.is_tensor(v) for v in state.values()):
        raise ValueError(f"{path}: holds no tensors by name.")
    return {
        name.removeprefix("module."): value.detach().to(torch.float32).numpy()
        for name, value in state.items()
        if torch.is_tensor(value)
    }, scripted


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def convert(
    state: dict[str, np.ndarray], *, activation: str, heads: int, config: str, origin: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Turn a state dict into Hugging Face's config and tensors.

    Args:
      state: float32 tensors by name, OpenAI's, OpenCLIP's or Hugging Face's.
      activation: "gelu" or "quick_gelu"; unused where `config` is given.
      heads: of the vision tower; 0 for its width / 64, and for 16 above a width of 1024.
      config: path of config.json for Hugging Face's names, else "".
      origin: for messages.

    Raises:
      ValueError: names that are neither, tensors missing or of other shapes, or a setting that
        a state dict cannot tell and no flag did.
    """
    if "visual.conv1.weight" in state:
        if not activation:
            raise ValueError(
                f"{origin}: a state dict does not tell its activation; give "
                "--activation=quick_gelu for OpenAI's weights, and for OpenCLIP's models "
                "named -quickgelu, else --activation=gelu."
            )
        # Settings, not parameters, in OpenAI's archives.
        extra = ("input_resolution", "context_length", "vocab_size", *BUFFERS)
        state = {name: value for name, value in state.items() if name not in extra}
        sizes = _infer_sizes(state, activation, heads, origin)
        params = _place_all(state, sizes, origin)
        return write_config(sizes), to_hf(params, sizes)
    if "vision_model.embeddings.patch_embedding.weight" not in state:
        raise ValueError(
            f"{origin}: no tensor is called visual.conv1.weight or "
            "vision_model.embeddings.patch_embedding.weight, so it is no CLIP with a ViT."
        )
    if not config:
        raise ValueError(f"{origin}: has Hugging Face's names; give its config.json as --config.")
    path = Path(config)
    if path.name != "config.json":
        raise ValueError(f"--config: {config} is not called config.json.")
    slots = build_slots(read_config(path.parent, HUGGING_FACE)).values()
    wanted = {slot.name: slot.shape for slot in slots}
    known = {k: v for k, v in state.items() if k.rpartition(".")[2] not in BUFFERS}
    _check_shapes(known, wanted, origin)
    raw = json.loads(path.read_text(encoding="utf-8"))
    return raw, {name: np.array(state[name], order="C") for name in wanted}


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
        raise ValueError(f"{origin}: not a CLIP with a ViT ({error} is missing or odd).") from error
    if not heads:
        heads = _LARGE_HEADS if width > _LARGE_WIDTH else max(1, width // _HEAD_WIDTH)
    if width % heads:
        raise ValueError(f"--heads: {heads} do not divide the vision tower's width {width}.")
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
    slots = build_slots(sizes, OPEN_CLIP)
    _check_shapes(state, {slot.name: slot.shape for slot in slots.values()}, origin)
    params: dict[str, Any] = {}
    for ours, slot in slots.items():
        value, (first, count) = state[slot.name], slot.rows
        place(params, ours, from_disk(slot, value[first : first + count] if slot.shape else value))
    return params


def _check_shapes(
    state: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]], origin: Path
) -> None:
    problems = [f"missing {name}" for name in sorted(wanted.keys() - state.keys())]
    problems += [f"unused {name}" for name in sorted(state.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & state.keys()):
        if state[name].shape != wanted[name]:
            problems.append(f"{name} is {state[name].shape}, not {wanted[name]}")
        elif not np.isfinite(state[name].sum(dtype=np.float64)):
            problems.append(f"{name} holds values that are not finite")
    if problems:
        raise CheckpointError(f"{origin}: " + "; ".join(problems) + ".")


def write(directory: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write config.json and model.safetensors, each aside and then renamed.

    Raises:
      ValueError: one of them is there already.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        if (directory / name).exists():
            raise ValueError(f"--output: {directory / name} is there already; choose another.")
    part = directory / "model.safetensors.part"
    save_file(tensors, part)
    os.replace(part, directory / "model.safetensors")
    part = directory / "config.json.part"
    part.write_text(json.dumps(config, indent=1) + "\n")
    os.replace(part, directory / "config.json")


if __name__ == "__main__":
    flags.run(main, define_flags)
