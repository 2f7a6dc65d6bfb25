"""Check of a frozen CLIP on this machine: checksums, token ids and embeddings against records.

assets/model_records.json holds the records: for each alias, token ids of six texts, and cosines
between the texts and of one drawn image with them, each where another library has given them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.teacher.checkpoints.tensors import weight_files
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.model_names import Located
from zeroseg_jax.teacher.tokenizer import load_tokenizer

RECORDS = Path(__file__).parent.parent / "assets" / "model_records.json"
_COSINE_TOLERANCE = 2e-3  # recorded with four decimals, by another library
_SCENE = (2, 5)  # seed and index of the drawn image that is embedded
Verdict = tuple[bool | None, str]


def check_sums(located: Located) -> Verdict:
    """Compare weight files with their recorded sha256.

    Args:
      located: model whose checksums are in its alias, or the names of its files in the cache.

    Returns:
      True, False, or None where nothing is recorded; and one remark.
    """
    recorded = 0
    files = weight_files(located.directory)
    for path in files:
        # The cache of huggingface_hub names a large file by the sha256 that the Hub states.
        stated = path.resolve().name
        wanted = located.alias.sha256.get(path.name) if located.alias else None
        wanted = wanted or (stated if re.fullmatch(r"[0-9a-f]{64}", stated) else None)
        if wanted is None:
            continue
        recorded += 1
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            return False, f"{path}: sha256 {found[:12]} is not {wanted[:12]}; delete the file"
    return (True if recorded else None), f"{recorded} of {len(files)} files recorded"


def measure(teacher: Teacher, texts: list[str]) -> dict[str, Any]:
    """Return tokens and cosines of six texts and one drawn image.

    Args:
      teacher: the CLIP.
      texts: the texts.

    Returns:
      {"tokens": ids of each text up to its last token, "texts": cosines between the texts,
      "image": cosines of the drawn image with the texts}.
    """
    ids = load_tokenizer(teacher.directory, teacher.config)(texts)
    rows = teacher.encode_texts(texts)
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    image = render(build_scene(*_SCENE), teacher.image_px)[0] / 255
    pixels = (image - np.array(teacher.mean)) / np.array(teacher.std)
    one = np.asarray(teacher.encode_images(pixels[None].astype(np.float32)))[0]
    return {
        "tokens": [_strip(row) for row in ids.tolist()],
        "texts": np.round(rows @ rows.T, 4).tolist(),
        "image": np.round(rows @ one / np.linalg.norm(one), 4).tolist(),
    }


def check_tokens(found: dict[str, Any], record: dict[str, Any]) -> Verdict:
    """Compare token ids with recorded ones; see check_sums."""
    if "tokens" not in record:
        return None, ""
    wrong = [i for i, ids in enumerate(record["tokens"]) if found["tokens"][i] != ids]
    return not wrong, f"{len(record['tokens']) - len(wrong)} of {len(record['tokens'])} texts agree"


def check_cosines(found: dict[str, Any], record: dict[str, Any]) -> Verdict:
    """Compare cosines with recorded ones; see check_sums."""
    if "texts" not in record:
        return None, ""
    worst = max(
        float(np.abs(np.array(found[key]) - np.array(record[key])).max())
        for key in ("texts", "image")
    )
    return worst <= _COSINE_TOLERANCE, f"cosines differ by {worst:.4f} at most"


def _strip(row: list[int]) -> list[int]:
    """Drop the padding: the last token repeated, but for its first."""
    end = len(row)
    while end > 1 and row[end - 2] == row[-1]:
        end -= 1
    return row[:end]
