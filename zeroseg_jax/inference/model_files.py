"""Directories of models: their kinds, their training facts, and export as safetensors.

A student is config.json, model.safetensors, README.md and teacher/. A read-out of a frozen CLIP is
config.json with the CLIP's pinned name, and the CLIP itself in teacher/ if wanted.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zeroseg_jax.config import Config
from zeroseg_jax.data.files import atomic_path, read_json, write_json, write_text
from zeroseg_jax.inference.presets import read_refinement
from zeroseg_jax.teacher.checkpoints.config import WEIGHTS
from zeroseg_jax.teacher.hub import MODEL_FILES
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.model_names import Located, is_name, resolve
from zeroseg_jax.training.student_files import export_params

TEACHER_FOLDER, AFFINITY_FOLDER = "teacher", "affinity"  # of an export that brings its CLIP
READOUT_FORMAT = "zeroseg_jax.readout.1"
_OWN_FORMATS = "zeroseg_jax."
_RECORDS = ("config.json", "manifest.json")  # of an export, of a run


def find_teacher(directory: str | Path, teacher: str = "") -> str:
    """Return the directory of an export's teacher: as given, inside the export, or "" (its own)."""
    beside = Path(directory) / TEACHER_FOLDER
    return teacher or (str(beside) if beside.is_dir() else "")


def read_facts(directory: str | Path) -> dict[str, Any]:
    """Read the training facts that a run or an export records beside its weights.

    Args:
      directory: work directory or exported student.

    Returns:
      {"teacher": digest or None, "steps", "overrides", "scores": [...]}.

    Raises:
      ValueError: a record that is not JSON.
    """
    root = Path(directory)
    record: dict[str, Any] = {}
    for name in _RECORDS:
        if (root / name).is_file():
            content = read_json(root / name)
            record = content.get("metadata", content)
            if not isinstance(record, dict):
                raise ValueError(f"{root / name}: metadata is damaged; restore the file.")
            break
    # Local paths are meaningless on another machine and may be private.
    private = ("data.bank", "data.directory")
    overrides, scores = record.get("overrides", {}), record.get("scores", [])
    if not isinstance(overrides, dict) or not isinstance(scores, list):
        raise ValueError(f"{root / name}: overrides or scores are damaged; restore the file.")
    overrides = {k: v for k, v in overrides.items() if k not in private}
    if not scores:
        scores = [_read_score(path) for path in sorted(root.glob("**/report.json"))]
    return {
        "teacher": record.get("teacher"),
        "steps": record.get("steps"),
        "overrides": overrides,
        "scores": [score for score in scores if score],
    }


def is_clip(directory: str | Path) -> bool:
    """Return True for a directory in a CLIP's layout, whose config is not an export's."""
    path = Path(directory)
    if (path / "manifest.json").is_file():
        return False
    for name in WEIGHTS:
        if (path / name).is_file():
            return not str(read_json(path / name).get("format", "")).startswith(_OWN_FORMATS)
    return False


def is_readout_export(directory: str | Path) -> bool:
    """Return True for a directory that write_readout wrote."""
    path = Path(directory) / _RECORDS[0]
    return path.is_file() and read_json(path).get("format") == READOUT_FORMAT


def read_readout(directory: str | Path) -> dict[str, Any]:
    """Read config.json of an export that write_readout wrote.

    Returns:
      {"readout", "teacher", and "affinity" with one}; each tower has "name", "shown", "digest".

    Raises:
      ValueError: the file is damaged; names it.
    """
    path, remedy = Path(directory) / _RECORDS[0], "export the model again"
    record = read_json(path, remedy=remedy, fields={"readout": str, "teacher": dict})
    for role in ("teacher", "affinity"):
        part = record.get(role)
        if part is not None and not (
            isinstance(part, dict)
            and all(isinstance(part.get(name), str) for name in ("name", "shown", "digest"))
        ):
            raise ValueError(f"{path}: {role} has no name, shown name and digest; {remedy}.")
    return record


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
      facts: training facts, from read_facts.
      step: number of training steps.
      teacher: directory or name of the CLIP, or "playground".
      include_teacher: copy the CLIP's files to DIRECTORY/teacher; else only its digest and name
        are stored. A public name is fetched when the model is loaded; else loading needs the
        CLIP's directory.
      dtype: "float32" or "float16" for the stored tensors.

    Returns:
      The directory.

    Raises:
      ValueError: float16 cannot hold a value; the message names the tensor.
    """
    root = Path(directory)
    name, affinity = _hide_folders(str(teacher)), _hide_folders(config.teacher.affinity)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, bank="", directory=""),
        teacher=dataclasses.replace(config.teacher, directory=name, affinity=affinity),
    )
    metadata = {"step": step, **facts}
    export_params(params, config, root, metadata, dtype=dtype)
    if include_teacher and name != "playground":
        _copy_teacher(resolve(teacher).directory, root / TEACHER_FOLDER)
    write_text(root / "README.md", render_card(config, metadata, dtype, include_teacher))
    return root


def write_readout(
    directory: str | Path,
    readout: str,
    teacher: Teacher,
    located: Located,
    *,
    affinity: Teacher | None = None,
    include_teacher: bool = False,
) -> Path:
    """Write a read-out of a frozen CLIP: its pinned name, or its files.

    Args:
      directory: created if missing; an earlier export there is replaced.
      readout: key of READOUTS.
      teacher: the CLIP.
      located: its name and folder, and those of the affinity tower.
      affinity: vision tower of read-out "proxy", else None.
      include_teacher: copy the CLIP's files to DIRECTORY/teacher and those of the affinity tower
        to DIRECTORY/affinity; else from_pretrained fetches them by their pinned names.

    Returns:
      The directory.
    """
    root = Path(directory)
    record: dict[str, Any] = {"format": READOUT_FORMAT, "readout": readout}
    parts = (("teacher", TEACHER_FOLDER, teacher, located),
             ("affinity", AFFINITY_FOLDER, affinity, located.affinity))  # fmt: skip
    for role, folder, tower, found in parts:
        if tower is None or found is None:
            continue
        # A local path is meaningless on another machine.
        shown = found.name if found.pinned else Path(found.name).name
        record[role] = {"name": found.pinned, "shown": shown, "digest": tower.digest}
        if include_teacher:
            _copy_teacher(tower.directory, root / folder)
    write_json(root / "config.json", record)
    write_text(root / "README.md", _render_readout_card(record, include_teacher))
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
    method, output = "ZeroSeg, arXiv 2306.00450", f"{head.test_segments} segments, "
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


def _render_readout_card(record: Mapping[str, Any], include_teacher: bool) -> str:
    where = "inside" if include_teacher else "fetched by name"
    lines = [f"# {record['readout']} of {record['teacher']['shown']}", ""]
    lines += ["Dense read-out of a frozen CLIP by zeroseg_jax.", "", "| | |", "|---|---|"]
    for role in ("teacher", "affinity"):
        if part := record.get(role):
            name = part["name"] or part["shown"]
            lines.append(f"| {role} | {name}, sha256 {part['digest'][:16]}, {where} |")
    lines += ["", "```python", "from zeroseg_jax import Predictor", ""]
    lines += ['Predictor.from_pretrained("THIS_DIRECTORY").segment("photo.jpg", "dog, sofa")']
    return "\n".join([*lines, "```", ""])


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


def _hide_folders(name: str) -> str:
    """Return a public name unchanged, of a path the last part: it is meaningless elsewhere."""
    return name if name in ("", "playground") or is_name(name) else Path(name).name


def _copy_teacher(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for pattern in MODEL_FILES:
        for path in sorted(source.glob(pattern)):
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _read_score(path: Path) -> dict[str, Any] | None:
    content = read_json(path)
    if not {"benchmark", "miou", "images", "preset", "checkpoint"} <= set(content):
        return None
    preset = content["preset"]
    if preset is None:  # of masks that another program drew
        return None
    wanted = {"name", "prompts", "threshold"}
    if not isinstance(preset, dict) or not wanted <= set(preset):
        raise ValueError(f"{path}: preset has no {', '.join(sorted(wanted))}; evaluate again.")
    return {
        "benchmark": content["benchmark"],
        "miou": content["miou"],
        "images": content["images"],
        "protocol": f"preset {preset['name']}, prompts {preset['prompts']}, threshold "
        f"{preset['threshold']}, refinement {read_refinement(preset)}",
        # The directory is local; the step is not.
        "checkpoint": f"step {content['checkpoint'].rpartition(' at step ')[2]}",
    }
