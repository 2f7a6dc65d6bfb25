"""Export of a student as one directory: config.json, model.safetensors, README.md, teacher/."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zeroseg_jax.config import Config
from zeroseg_jax.data.files import atomic_path, write_text
from zeroseg_jax.inference.model import TEACHER_FOLDER
from zeroseg_jax.training.student_files import export_params

# Files that teacher.load and the tokenizers read.
_TEACHER_FILES = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model",
    "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip


def write_pretrained(
    params: Any,
    config: Config,
    directory: str | Path,
    facts: Mapping[str, Any],
    *,
    step: int,
    teacher: str | Path,
    include_teacher: bool = False,
    dtype: str = "float32",
) -> Path:
    """Write a student, and its teacher or a reference to it, as one directory.

    Args:
      params: nested dict of arrays.
      config: settings of the run.
      directory: created if missing; an earlier export there is replaced.
      facts: training facts, from model.read_facts.
      step: number of training steps.
      teacher: directory of the CLIP, or "playground".
      include_teacher: copy the CLIP's files to DIRECTORY/teacher; else only its digest and name
        are stored, and loading the model needs the CLIP's directory.
      dtype: "float32" or "float16" for the stored tensors.

    Returns:
      The directory.

    Raises:
      ValueError: float16 cannot hold a value; the message names the tensor.
    """
    root = Path(directory)
    name = "playground" if str(teacher) == "playground" else Path(teacher).name
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, bank="", directory=""),
        # A local path says nothing on another machine.
        teacher=dataclasses.replace(config.teacher, directory=name),
    )
    metadata = {"step": step, **facts}
    export_params(params, config, root, metadata, dtype=dtype)
    if include_teacher and name != "playground":
        _copy_teacher(Path(teacher), root / TEACHER_FOLDER)
    write_text(root / "README.md", render_card(config, metadata, dtype, include_teacher))
    return root


def render_card(
    config: Config, metadata: Mapping[str, Any], dtype: str, include_teacher: bool
) -> str:
    """Render the model card, README.md."""
    digest = metadata.get("teacher") or "unknown"
    where = "in `teacher/`" if include_teacher else "not included"
    where = "ships with zeroseg_jax" if config.teacher.directory == "playground" else where
    images = config.data.images or "all"
    data = (
        f"{images} scenes of the Playground (procedural, seed {config.data.scene_seed})"
        if config.data.source == "playground"
        else f"a folder of images ({images} of them), no label used"
    )
    encoder, head = config.model.encoder, config.model.head
    method, output = "ZeroSeg, arXiv 2306.00450", f"{head.segment_tokens[-1]} segments, "
    output += f"{head.grouping} grouping"
    if config.objective == "clip_zss":
        method, output = "CLIP-ZSS, arXiv 2310.02296", "dense features"
    lines = [
        f"# {config.name}",
        "",
        f"Open-vocabulary semantic segmentation by zeroseg_jax ({method}).",
        "",
        "| | |",
        "|---|---|",
        f"| training data | {data} |",
        f"| steps | {metadata.get('step')} of batch {config.optim.batch_global} |",
        f"| teacher | {config.teacher.directory}, sha256 {digest[:16]}, {where} |",
        f"| student | ViT of width {encoder.width}, {encoder.depth} layers, patch "
        f"{encoder.patch_px} px, {config.model.image_px} px, {output} |",
        f"| tensors | {dtype}, model.safetensors |",
        "",
        "## Scores",
        "",
        *_score_lines(metadata.get("scores", ())),
        "",
        "## Use",
        "",
        "```python",
        "from zeroseg_jax import Predictor",
        "",
        'predictor = Predictor.from_pretrained("THIS_DIRECTORY")',
        'predictor.segment("photo.jpg", ["cat", "grass"]).save("out")',
        "```",
        "",
        "A score is the probability of a class among the classes given, not the probability that "
        "the thing is there. The model inherits its teacher's knowledge and errors.",
        "",
    ]
    return "\n".join(lines)


def _score_lines(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = list(scores)
    if not rows:
        return [
            "The exported directory has no report.json. Score it with "
            "`zeroseg evaluate --workdir=THIS_DIRECTORY --benchmark=B --output=OUT`."
        ]
    table = ["| benchmark | mIoU | images | protocol | of |", "|---|---:|---:|---|---|"]
    for row in rows:
        table.append(
            f"| {row['benchmark']} | {row['miou']:.2f} | {row['images']} | {row['protocol']} "
            f"| {row['checkpoint']} |"
        )
    return table


def _copy_teacher(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for pattern in _TEACHER_FILES:
        for path in sorted(source.glob(pattern)):
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
