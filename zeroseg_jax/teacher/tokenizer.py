"""Tokenizers of CLIP, MetaCLIP 2, SigLIP, SigLIP 2 and TIPSv2: texts to token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from zeroseg_jax.teacher.checkpoints.config import CheckpointError, read_object
from zeroseg_jax.teacher.towers import ClipConfig

Encode = Callable[[list[str]], np.ndarray]
# Embedding tables may have this many rows of padding, added for the hardware.
_MAX_PADDING = 1024
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip
# Gemma's tokenizer keeps capitals; SigLIP 2 was trained on lower case (Siglip2Tokenizer).
_LOWER_CASED = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")


def load_tokenizer(directory: Path, config: ClipConfig) -> Encode:
    """Load the tokenizer of a teacher's directory.

    Args:
      directory: directory with tokenizer.json; or vocab.json and merges.txt (CLIP),
        spiece.model (SigLIP) or tokenizer.model (TIPSv2), and tokenizer_config.json.
      config: settings of the text tower: context length, vocabulary and end token.

    Returns:
      A function from n texts to int32 ids (n, T). CLIP's ids are truncated before the end token
      and padded with it. OpenCLIP pads with 0 instead; both give the same embedding, because
      attention is causal. SigLIP's ids are padded as its own tokenizer does, SigLIP 2's texts
      are lower-cased first, and so are TIPSv2's, whose padding is 0.

    Raises:
      CheckpointError: the tokenizer files are missing, of another family or of another
        vocabulary.
    """
    encode, size = _LOADERS[config.family](directory, config)
    if not 0 <= config.vocabulary - size < _MAX_PADDING:
        raise CheckpointError(
            f"{directory}: the tokenizer has {size} tokens, but the text tower has "
            f"{config.vocabulary}; add the tokenizer files of this checkpoint."
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
        with _Naming(path):
            tokenizer = Tokenizer.from_file(str(path))
    elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        try:
            from transformers import CLIPTokenizerFast
        except ModuleNotFoundError as error:
            raise CheckpointError(
                f"{directory}: vocab.json and merges.txt need transformers; add tokenizer.json or "
                'pip install "zeroseg_jax[siglip]".'
            ) from error

        _check_merges(directory)
        with _Naming(directory):
            fast = CLIPTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        tokenizer = fast.backend_tokenizer
    else:
        raise CheckpointError(
            f"{directory}: tokenizer.json, or vocab.json and merges.txt, is missing; add the "
            "tokenizer files of this CLIP."
        )
    end = tokenizer.token_to_id("<|endoftext|>")
    if end is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no <|endoftext|>, so it is not CLIP's; add the "
            "tokenizer files of this CLIP."
        )
    # End token 2 is OpenAI's mistake for the highest id; see TextTower.
    pooled = tokenizer.get_vocab_size() - 1 if config.end_token == 2 else config.end_token
    if end != pooled:
        raise CheckpointError(
            f"{directory}: <|endoftext|> is token {end} of the tokenizer, but the text tower is "
            f"pooled at token {pooled}; add the tokenizer files of this checkpoint."
        )
    return _pad(tokenizer, config.context_tokens, end, "<|endoftext|>"), tokenizer.get_vocab_size()


def _metaclip(directory: Path, config: ClipConfig) -> tuple[Encode, int]:
    tokenizer = _read_tokenizer_json(directory, "MetaCLIP 2")
    end, padding = tokenizer.token_to_id("</s>"), tokenizer.token_to_id("<pad>")
    if end != config.end_token or padding is None:
        raise CheckpointError(
            f"{directory}: </s> is token {end} of the tokenizer, but the text tower is pooled at "
            f"token {config.end_token}; add the tokenizer files of this checkpoint."
        )
    return _pad(tokenizer, config.context_tokens, padding, "<pad>"), tokenizer.get_vocab_size()


def _tips(directory: Path, config: ClipConfig) -> tuple[Encode, int]:
    length = config.context_tokens
    if (directory / "tokenizer.json").is_file():
        tokenizer = _read_tokenizer_json(directory, "TIPSv2")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        size = tokenizer.get_vocab_size()

        def split(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False).ids
    elif (directory / "tokenizer.model").is_file():
        pieces = _read_sentencepiece(directory / "tokenizer.model")
        size = pieces.get_piece_size()

        def split(text: str) -> list[int]:
            return pieces.encode(text)
    else:
        raise CheckpointError(
            f"{directory}: tokenizer.json or tokenizer.model is missing; add the tokenizer files "
            "of this TIPSv2."
        )

    def encode(texts: list[str]) -> np.ndarray:
        ids = np.zeros((len(texts), length), np.int32)
        for row, text in zip(ids, texts, strict=True):
            found = split(text.lower())[:length]
            row[: len(found)] = found
        return ids

    return encode, size


def _read_sentencepiece(path: Path) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise CheckpointError(
            f'{path}: needs sentencepiece; pip install "zeroseg_jax[siglip]".'
        ) from error
    pieces = sentencepiece.SentencePieceProcessor()
    try:
        pieces.load(str(path))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: cannot be read ({reason}); fetch it again.") from error
    return pieces


def _read_tokenizer_json(directory: Path, owner: str) -> Any:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{directory}: tokenizer.json is missing; add the tokenizer files of this {owner}."
        )
    _check_tokenizer(path)
    with _Naming(path):
        return Tokenizer.from_file(str(path))


def _pad(tokenizer: Any, length: int, padding: int, token: str) -> Encode:
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=padding, pad_token=token)

    def encode(texts: list[str]) -> np.ndarray:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        return np.array(ids, np.int32).reshape(len(texts), length)

    return encode


def _siglip(directory: Path, config: ClipConfig) -> tuple[Encode, int]:
    if not any((directory / name).is_file() for name in ("spiece.model", "tokenizer.json")):
        raise CheckpointError(
            f"{directory}: spiece.model or tokenizer.json is missing; add the tokenizer files of "
            "this SigLIP."
        )
    if (directory / "tokenizer.json").is_file():
        _check_tokenizer(directory / "tokenizer.json")
    _check_settings(directory)
    try:
        from transformers import AutoTokenizer

        with _Naming(directory):
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except ImportError as error:
        raise CheckpointError(
            f"{directory}: the tokenizer of SigLIP needs transformers and sentencepiece; "
            'pip install "zeroseg_jax[siglip]".'
        ) from error
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no padding token, so it is not SigLIP's; add the "
            "tokenizer files of this SigLIP."
        )
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


# A new family is one more entry.
_LOADERS = {"clip": _clip, "metaclip_2": _metaclip, "siglip": _siglip, "tipsv2": _tips}


class _Naming:
    """Context that turns what tokenizers and transformers raise for damaged files into a sentence.

    tokenizers raises Exception itself, and only that class; its other subclasses pass.

    Raises:
      CheckpointError: a file is damaged.
    """

    _KINDS = (OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError)

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, CheckpointError):
            return
        if kind is Exception or issubclass(kind, self._KINDS):
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self._path}: the tokenizer cannot be read ({reason}); fetch its files again."
            ) from error


def _check_settings(directory: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (directory / name).is_file():
            read_object(directory / name)


def _check_merges(directory: Path) -> None:
    """Refuse vocab.json, merges.txt and settings on which tokenizers raises a bare Exception."""
    path = directory / "vocab.json"
    vocab = read_object(path)
    if not all(type(token) is int and token >= 0 for token in vocab.values()):
        raise CheckpointError(f"{path}: a token has no number of 0 or more; fetch the file again.")
    _check_settings(directory)
    path = directory / "merges.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); fetch the file again.") from error
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\r").split(" ")
        if line.startswith("#version") or parts == [""]:
            continue
        if len(parts) != 2 or not {*parts, "".join(parts)} <= vocab.keys():
            raise CheckpointError(
                f"{path}: line {number} is not two tokens of vocab.json; fetch both files again."
            )


def _check_tokenizer(path: Path) -> None:
    # The tokenizers library raises a bare Exception on a broken file.
    model = read_object(path).get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise CheckpointError(f"{path}: no model with a vocabulary there; fetch the file again.")
