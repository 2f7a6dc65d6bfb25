"""Convert torch files to safetensors: zeroseg convert_teacher FILE --output=DIR.

FILE is OpenAI's TorchScript (ViT-B-32.pt) or a state dict (.pt, .pth, .bin) with the names of
OpenAI, OpenCLIP or Hugging Face. Needs torch: pip install .[convert].
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", None, "directory to write: config.json, model.safetensors")
    absl_flags.DEFINE_string(
        "sha256", "", "expected hex digest of FILE; required for TorchScript that is not OpenAI's"
    )
    absl_flags.DEFINE_enum(
        "activation", "", ["", "gelu", "quick_gelu"],
        "activation of both towers; empty: quick_gelu for TorchScript; required for a state dict",
    )  # fmt: skip
    absl_flags.DEFINE_string("config", "", "config.json of a file with Hugging Face's names")
    absl_flags.DEFINE_integer(
        "heads", 0, "attention heads of the vision tower; 0: width / 64, or 16 above width 1024",
        lower_bound=0,
    )  # fmt: skip
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Convert one file."""
    from zeroseg_jax.teacher.checkpoints import torch_files

    if len(arguments) != 1:
        raise ValueError(f"FILE: {len(arguments)} are given; give one file to convert.")
    path = Path(arguments[0])
    digest = torch_files.check_digest(path, FLAGS.sha256)
    known = torch_files.OPENAI.get(digest)
    print(f"sha256 {digest}  {path}{f' (OpenAI {known})' if known else ''}", flush=True)
    trusted = bool(FLAGS.sha256 or known)
    state, scripted = torch_files.read_torch(path, trusted=trusted)
    config, tensors = torch_files.convert(
        state,
        activation=FLAGS.activation or ("quick_gelu" if scripted else ""),
        heads=FLAGS.heads,
        config=FLAGS.config,
        origin=path,
    )
    torch_files.write_new(Path(FLAGS.output), config, tensors)
    print(f"wrote {FLAGS.output}: {len(tensors)} tensors; add the tokenizer files of this CLIP")
