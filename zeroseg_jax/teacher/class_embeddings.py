"""Words to embeddings: tokenizers, prompts, class embeddings and their cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zeroseg_jax.teacher.checkpoints.config import CheckpointError, read_object
from zeroseg_jax.teacher.clip import ClipConfig

if TYPE_CHECKING:
    from zeroseg_jax.teacher.load import Teacher

Encode = Callable[[list[str]], np.ndarray]
_MAX_NAMES = 5000
# What tables of embeddings are padded to at most, for the sake of the hardware.
_MAX_PADDING = 1024
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip
# Gemma's tokenizer keeps capitals; SigLIP 2 was trained without (transformers' Siglip2Tokenizer).
_LOWER_CASED = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")


def load_tokenizer(directory: Path, config: ClipConfig) -> Encode:
    """Load the tokenizer of a teacher's directory.

    Args:
      directory: holds tokenizer.json; or vocab.json and merges.txt (CLIP), or spiece.model
        (SigLIP), and tokenizer_config.json.
      config: context length and vocabulary.

    Returns:
      A function from n texts to int32 ids (n, T). CLIP's are cut so that the end token stays,
      and padded with it (OpenCLIP pads with 0, which no tower looks at: attention is causal);
      SigLIP's as its own tokenizer does, SigLIP 2's in lower case.

    Raises:
      CheckpointError: no tokenizer files, not one of this family, or of another vocabulary.
    """
    encode, size = (_siglip if config.family == "siglip" else _clip)(directory, config)
    if not 0 <= config.vocabulary - size < _MAX_PADDING:
        raise CheckpointError(
            f"{directory}: the tokenizer knows {size} tokens, but the text tower "
            f"{config.vocabulary}; add the tokenizer files of this very checkpoint."
        )
    return encode


def digest_tokenizer(directory: Path) -> str:
    """Return the sha256 hex digest over the tokenizer files of a directory."""
    digest = hashlib.sha256()
    for name in _TOKENIZER_FILES:
        path = directory / name
        if path.is_file():
            digest.update(f"{name} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def _clip(directory: Path, config: ClipConfig) -> tuple[Encode, int]:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if path.is_file():
        _check_tokenizer(path)
        tokenizer = Tokenizer.from_file(str(path))
    elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        from transformers import CLIPTokenizerFast

        read_object(directory / "vocab.json")
        fast = CLIPTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        tokenizer = fast.backend_tokenizer
    else:
        raise CheckpointError(
            f"{directory}: words need tokenizer.json, or vocab.json and merges.txt, "
            "and neither is there; add the tokenizer files of this CLIP."
        )
    end = tokenizer.token_to_id("<|endoftext|>")
    if end is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no <|endoftext|>, so it is not CLIP's."
        )
    # End token 2 is OpenAI's mistake for the highest id; see TextTower.
    meant = tokenizer.get_vocab_size() - 1 if config.end_token == 2 else config.end_token
    if end != meant:
        raise CheckpointError(
            f"{directory}: <|endoftext|> is token {end} of the tokenizer, but {meant} is where the "
            "text tower is read; add the tokenizer files of this very checkpoint."
        )
    length = config.context_tokens
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=end, pad_token="<|endoftext|>")

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([e.ids for e in tokenizer.encode_batch(texts)], np.int32)

    return encode, tokenizer.get_vocab_size()


def _siglip(directory: Path, config: ClipConfig) -> tuple[Encode, int]:
    from transformers import AutoTokenizer

    if not any((directory / name).is_file() for name in ("spiece.model", "tokenizer.json")):
        raise CheckpointError(
            f"{directory}: words need spiece.model or tokenizer.json, and neither is there; "
            "add the tokenizer files of this SigLIP."
        )
    if (directory / "tokenizer.json").is_file():
        _check_tokenizer(directory / "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{directory}: the tokenizer files cannot be read ({reason})."
        ) from error
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"{directory}: the tokenizer has no padding token, as SigLIP's has.")
    lower = type(tokenizer).__name__ in _LOWER_CASED

    def encode(texts: list[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, config.context_tokens), np.int32)
        if lower:
            texts = [text.lower() for text in texts]
        rows = tokenizer(
            texts, padding="max_length", max_length=config.context_tokens, truncation=True
        )
        return np.array(rows["input_ids"], np.int32)

    return encode, len(tokenizer)


def _check_tokenizer(path: Path) -> None:
    """The tokenizers library reports a broken file with a bare Exception; look first."""
    model = read_object(path).get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise CheckpointError(f"{path}: holds no model with a vocabulary; fetch the file again.")


# Prompt sets of the field: CLIP's 80 for ImageNet, the seven its authors found best together,
# the single one of GroupViT's "simple" set, and what the Playground's captions sound like.
_PHOTO = (
    "a bad photo of a {}.", "a photo of many {}.", "a photo of the hard to see {}.",
    "a low resolution photo of the {}.", "a bad photo of the {}.", "a cropped photo of the {}.",
    "a photo of a hard to see {}.", "a bright photo of a {}.", "a photo of a clean {}.",
    "a photo of a dirty {}.", "a dark photo of the {}.", "a photo of my {}.",
    "a photo of the cool {}.", "a close-up photo of a {}.", "a black and white photo of the {}.",
    "a pixelated photo of the {}.", "a bright photo of the {}.", "a cropped photo of a {}.",
    "a photo of the dirty {}.", "a jpeg corrupted photo of a {}.", "a blurry photo of the {}.",
    "a photo of the {}.", "a good photo of the {}.", "a photo of one {}.",
    "a close-up photo of the {}.", "a photo of a {}.", "a low resolution photo of a {}.",
    "a photo of the clean {}.", "a photo of a large {}.", "a photo of a nice {}.",
    "a photo of a weird {}.", "a blurry photo of a {}.", "a pixelated photo of a {}.",
    "a jpeg corrupted photo of the {}.", "a good photo of a {}.", "a photo of the nice {}.",
    "a photo of the small {}.", "a photo of the weird {}.", "a photo of the large {}.",
    "a black and white photo of a {}.", "a dark photo of a {}.", "a photo of a cool {}.",
    "a photo of a small {}.",
)  # fmt: skip
_ART = (
    "a sculpture of a {}.", "a rendering of a {}.", "graffiti of a {}.", "a tattoo of a {}.",
    "the embroidered {}.", "a drawing of a {}.", "the plastic {}.", "a painting of the {}.",
    "a painting of a {}.", "a sculpture of the {}.", "a plastic {}.", "a rendering of the {}.",
    "a {} in a video game.", "the origami {}.", "the {} in a video game.", "a origami {}.",
    "the toy {}.", "a rendition of a {}.", "a cartoon {}.", "art of a {}.",
    "a sketch of the {}.", "a embroidered {}.", "a plushie {}.", "the cartoon {}.",
    "the plushie {}.", "a toy {}.", "a rendition of the {}.", "art of the {}.",
    "a sketch of a {}.", "a doodle of a {}.", "a doodle of the {}.", "the tattoo of a {}.",
    "the graffiti of the {}.", "a drawing of the {}.", "itap of a {}.", "itap of my {}.",
    "itap of the {}.",
)  # fmt: skip
PROMPTS: dict[str, tuple[str, ...]] = {
    "simple": ("a photo of a {}.",),
    "subset": (
        "itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}.",
        "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
    ),
    "imagenet": _PHOTO + _ART,
    "playground": ("{}", "a {}", "a photo of a {}", "a picture of a {}"),
}  # fmt: skip
PROMPTS["tcl"] = (*PROMPTS["subset"], "a photo of many {}.", "a photo of {}s.")


@dataclasses.dataclass(frozen=True)
class ClassEmbeddings:
    """Words in the teacher's space.

    Attributes:
      classes: float32 (C, E), rows of unit length: the mean over a class's names and prompts.
      names: float32 (N, E), rows of unit length: the mean over a name's prompts, so that a
        class can also be scored by its best name.
      owners: int32 (N,), the class of each name, ascending.
    """

    classes: np.ndarray
    names: np.ndarray
    owners: np.ndarray


def embed_classes(
    teacher: Teacher, words: list[list[str]], prompts: str, cache: Path | None = None
) -> ClassEmbeddings:
    """Embed classes: every name in every prompt, normalised, averaged, normalised.

    Args:
      teacher: its text tower reads the words.
      words: for each class its synonyms, at least one.
      prompts: a key of PROMPTS.
      cache: folder where embeddings are kept, by digest of teacher, tokenizer, prompts and
        words; None for none.

    Raises:
      ValueError: an unknown prompt set, no class, too many, one without words, a blank word,
        or a cache file that is not what its name says.

    Source: Radford et al. 2021, 3.1.4 (prompt ensembling in embedding space).
    """
    _check_words(words, prompts)
    if cache is None:
        return _embed(teacher, words, prompts)
    made_by = [teacher.digest, digest_tokenizer(teacher.directory)]
    key = json.dumps([*made_by, PROMPTS[prompts], words], ensure_ascii=False)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    if path.is_file():
        return _read_cache(path, key)
    found = _embed(teacher, words, prompts)
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with open(part, "wb") as file:
        np.savez(file, key=np.frombuffer(key.encode(), np.uint8), **dataclasses.asdict(found))
    os.replace(part, path)
    return found


def words_cache() -> Path:
    """Return the folder of the user's cache: $XDG_CACHE_HOME or ~/.cache, then zeroseg_jax."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "zeroseg_jax" / "words"


def _check_words(words: list[list[str]], prompts: str) -> None:
    if prompts not in PROMPTS:
        raise ValueError(f"prompts: {prompts!r} is not one of {', '.join(PROMPTS)}.")
    if not words:
        raise ValueError("words: no class is named; give at least one.")
    for i, names in enumerate(words):
        # A bare string would be taken letter by letter.
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"words: class {i} is {names!r}; give a list of one name or more.")
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f"words: class {i} has {names!r} for its names; one is blank.")
    count = sum(map(len, words))
    if count > _MAX_NAMES:
        raise ValueError(
            f"words: {count} names are more than {_MAX_NAMES}; embed them in several lists."
        )


def _embed(teacher: Teacher, words: list[list[str]], prompts: str) -> ClassEmbeddings:
    count = len(PROMPTS[prompts])
    texts = [p.format(name) for names in words for name in names for p in PROMPTS[prompts]]
    rows = _unit(teacher.encode_texts(texts)).reshape(-1, count, teacher.embed_dim).mean(axis=1)
    owners = np.repeat(np.arange(len(words)), [len(names) for names in words]).astype(np.int32)
    starts = np.searchsorted(owners, np.arange(len(words)))
    means = np.add.reduceat(rows, starts, axis=0)
    return ClassEmbeddings(_unit(means), _unit(rows), owners)


def _read_cache(path: Path, key: str) -> ClassEmbeddings:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        same = content.pop("key").tobytes() == key.encode()
        found = ClassEmbeddings(**content)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a cache of words ({error}); delete it.") from error
    if not same:
        raise ValueError(f"{path}: made by another teacher, prompts or words; delete it.")
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
