"""A model as one directory to hand on: config.json, model.safetensors, README.md, teacher/."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zeroseg_jax.config import Config
from zeroseg_jax.data import files
from zeroseg_jax.training.student_files import export_params

TEACHER_FOLDER = "teacher"
# What teacher.load and its tokenizers read.
_TEACHER_FILES = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model",
    "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip


def read_facts(directory: str | Path) -> dict[str, Any]:
    """Read what is known of a student beside its weights.

    Args:
      directory: a work directory or an exported student.

    Returns:
      {"teacher": digest or None, "steps", "overrides", "scores": [...], "notes": {...}}.

    Raises:
      ValueError: a manifest or config that is not JSON.
    """
    root = Path(directory)
    record: dict[str, Any] = {}
    for name in ("config.json", "manifest.json"):
        if (root / name).is_file():
            content = _read_json(root / name)
            record = content.get("metadata", content)
            break
    # Where the bank and the images lay is of no use elsewhere, and nobody's business.
    places = ("data.bank", "data.directory")
    overrides = {k: v for k, v in record.get("overrides", {}).items() if k not in places}
    facts = {"teacher": record.get("teacher"), "steps": record.get("steps"), "overrides": overrides}
    scores = record.get("scores", [])
    if not scores:
        scores = [_read_score(path) for path in sorted(root.glob("**/report.json"))]
    return {**facts, "scores": [score for score in scores if score]}


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
      config: of the run that made them.
      directory: made if missing; an earlier export there is replaced.
      facts: from read_facts.
      step: how many steps it was trained.
      teacher: the directory of its CLIP, or "playground".
      include_teacher: copy the CLIP's files to DIRECTORY/teacher; else only its digest and
        its name are kept, and whoever loads the model says where it lies.
      dtype: "float32" or "float16", of the stored tensors.

    Returns:
      The directory.

    Raises:
      ValueError: a value that float16 cannot hold; names the tensor.
    """
    root = Path(directory)
    name = "playground" if str(teacher) == "playground" else Path(teacher).name
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, bank="", directory=""),
        # A path of this machine says nothing on another.
        teacher=dataclasses.replace(config.teacher, directory=name),
    )
    metadata = {"step": step, **facts}
    export_params(params, config, root, metadata, dtype=dtype)
    if include_teacher and name != "playground":
        _copy_teacher(Path(teacher), root / TEACHER_FOLDER)
    files.write_text(root / "README.md", write_card(config, metadata, dtype, include_teacher))
    return root


def find_teacher(directory: str | Path, teacher: str = "") -> str:
    """Return where the teacher of an exported student lies: as told, beside it, or "" (its own)."""
    beside = Path(directory) / TEACHER_FOLDER
    return teacher or (str(beside) if beside.is_dir() else "")


def write_card(
    config: Config, metadata: Mapping[str, Any], dtype: str, include_teacher: bool
) -> str:
    """Write the model card, README.md."""
    digest = metadata.get("teacher") or "unknown"
    where = "in `teacher/`" if include_teacher else "not in here"
    where = "ships with zeroseg_jax" if config.teacher.directory == "playground" else where
    images = config.data.images or "all"
    data = (
        f"{images} scenes of the Playground (procedural, seed {config.data.scene_seed})"
        if config.data.source == "playground"
        else f"a folder of pictures ({images} of them), no label used"
    )
    encoder = config.model.encoder
    lines = [
        f"# {config.name}",
        "",
        "Open-vocabulary semantic segmentation by zeroseg_jax (ZeroSeg, arXiv 2306.00450).",
        "",
        "| | |",
        "|---|---|",
        f"| training data | {data} |",
        f"| steps | {metadata.get('step')} of batch {config.optim.batch_global} |",
        f"| teacher | {config.teacher.directory}, sha256 {digest[:16]}, {where} |",
        f"| student | ViT of width {encoder.width}, {encoder.depth} layers, patch "
        f"{encoder.patch_px} px, {config.model.image_px} px, "
        f"{config.model.head.segment_tokens[-1]} segments, {config.model.head.grouping} grouping |",
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
        "A score is the share of a word among the words asked for, not a probability that the "
        "thing is there. The model inherits what its teacher knows and what it gets wrong.",
        "",
    ]
    return "\n".join(lines)


def _score_lines(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = list(scores)
    if not rows:
        return [
            "None was measured in the directory this came from. Score it with "
            "`zeroseg evaluate --workdir=THIS_DIRECTORY --benchmark=B --output=OUT`."
        ]
    table = ["| benchmark | mIoU | images | protocol | of |", "|---|---:|---:|---|---|"]
    for row in rows:
        table.append(
            f"| {row['benchmark']} | {row['miou']:.2f} | {row['images']} | {row['protocol']} "
            f"| {row['checkpoint']} |"
        )
    return table


def _read_score(path: Path) -> dict[str, Any] | None:
    content = _read_json(path)
    if not {"benchmark", "miou", "images", "preset", "checkpoint"} <= set(content):
        return None
    preset = content["preset"]
    dilations = preset.get("pamr_dilations")
    return {
        "benchmark": content["benchmark"],
        "miou": content["miou"],
        "images": content["images"],
        "protocol": f"preset {preset['name']}, prompts {preset['prompts']}, threshold "
        f"{preset['threshold']}, PAMR {'on' if dilations else 'off'}",
        # The directory is the writer's own.
        "checkpoint": f"step {content['checkpoint'].rpartition(' at step ')[2]}",
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); write it again.") from error
    return content if isinstance(content, dict) else {}


def _copy_teacher(source: Path, target: Path) -> None:
    for pattern in _TEACHER_FILES:
        for path in sorted(source.glob(pattern)):
            with files.atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
