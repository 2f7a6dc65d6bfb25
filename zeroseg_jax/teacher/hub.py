"""Downloads from the Hugging Face Hub: fetched once, verified, offline afterwards.

A repository is fetched once into the cache of huggingface_hub, checked against the checksums that
the Hub states and the ones in aliases.py, and read offline afterwards. Only safetensors and text
files are fetched: never a pickle, never code.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zeroseg_jax.data.files import atomic_path, read_json, write_json, write_text
from zeroseg_jax.teacher.aliases import Alias
from zeroseg_jax.teacher.hub_errors import HubError, explain, list_causes

_COMMIT = re.compile(r"[0-9a-f]{40}")
# Files that load_teacher and the tokenizers read.
MODEL_FILES = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model",
    "tokenizer.model", "sentencepiece.bpe.model", "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip
# Config and weights that belong together, the first that a repository has.
_WEIGHTS = (
    ("open_clip_config.json", "open_clip_model.safetensors"),
    ("open_clip_config.json", "open_clip_pytorch_model.safetensors"),
    ("config.json", "model.safetensors"),
)
# First bytes of a Git LFS pointer and of a sign-in page, found in place of a weight file.
_POINTER, _PAGES = b"version https://git-lfs", (b"<!doctype", b"<html", b"<?xml")
Log = Callable[[str], None]


def is_commit(revision: str) -> bool:
    """Return whether a revision is a commit and not a branch or a tag."""
    return _COMMIT.fullmatch(revision) is not None


def is_cached(alias: Alias) -> bool:
    """Return whether an alias is in the cache, whole and verified."""
    return _find_cached(alias.repository, alias.revision) is not None


def read_digest(directory: Path) -> str | None:
    """Return the digest that store_digest kept beside a fetched folder, if any."""
    record = _record_path(directory)
    return None if record is None else _read_record(record).get("digest")


def store_digest(directory: Path, digest: str) -> None:
    """Keep a digest of weights beside a fetched folder; a local folder is left alone."""
    record = _record_path(directory)
    if record is not None and record.is_file():
        write_json(record, {**_read_record(record), "digest": digest})


def locate(
    repository: str, revision: str, alias: Alias | None, log: Log, *, field: str = "--model"
) -> tuple[str, Path]:
    """Return commit and folder of a repository, fetched if it is not in the cache.

    Args:
      repository: "owner/name".
      revision: commit of 40 hex digits, branch or tag. A branch stays at the commit that was
        fetched first.
      alias: entry of the alias table with recorded checksums, if any.
      log: takes one line before a byte is fetched.
      field: flag or setting that named the model, for errors.

    Raises:
      HubError: the repository cannot be fetched or arrived damaged.
    """
    if cached := _find_cached(repository, revision):
        return cached.name, cached
    try:
        return _fetch(repository, revision, alias, log, field)
    except OSError as error:
        sentence = explain(error, repository, revision, field=field, host=_host(), cache=_cache())
        raise HubError(sentence) from error


def _fetch(
    repository: str, revision: str, alias: Alias | None, log: Log, field: str
) -> tuple[str, Path]:
    import huggingface_hub
    from huggingface_hub.errors import FileMetadataError, HTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    api = huggingface_hub.HfApi(endpoint=_endpoint())
    try:
        info = _read_info(api, repository, revision, field)
        commit = str(info.sha)
        files = {file.rfilename: file for file in info.siblings or ()}
        wanted = _choose(repository, files, field)
        size = sum(files[name].size or 0 for name in wanted)
        _check_room(size)
        licence = alias.licence if alias else "licence on its page"
        log(
            f"{size / 1e6:.0f} MB from {_host()}/{repository} ({licence}) to {_cache()}",
        )
        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            directory = Path(
                huggingface_hub.snapshot_download(
                    repository, revision=commit, allow_patterns=wanted, endpoint=_endpoint(),
                    cache_dir=_cache(),
                )
            )  # fmt: skip
        except (FileMetadataError, LocalEntryNotFoundError) as error:
            if not any(isinstance(cause, FileMetadataError) for cause in list_causes(error)):
                raise
            # A mirror that states no commit: the name is pinned, so its files are known by it.
            directory = _fetch_plainly(repository, commit, {n: files[n] for n in wanted})
    except HTTPError as error:
        # httpx's errors of transport are no OSError.
        raise ConnectionError(str(error)) from error
    sums = {n: f.lfs.sha256 for n, f in files.items() if n in wanted and f.lfs is not None}
    recorded = alias.sha256 if alias else {}
    _verify(f"{field}: {repository}", directory, wanted, {**sums, **recorded})
    if commit != revision:
        # The library's own note of which commit a branch was at.
        write_text(directory.parent.parent / "refs" / revision, commit)
    return commit, directory


def _read_info(api: Any, repository: str, revision: str, field: str) -> Any:
    from huggingface_hub.errors import HFValidationError

    # This request is not repeated for minutes where there is no network.
    try:
        return api.model_info(repository, revision=revision, files_metadata=True)
    except HFValidationError as error:
        raise HubError(
            f"{field}: {repository!r} is no name of a repository; check the spelling."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(
            f"{field}: {repository}: {_host()} answers with something else than the list of files, "
            "such as a sign-in page; sign in to the network or proxy first, or check HF_ENDPOINT."
        ) from error


def _check_room(size: int) -> None:
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):
        raise PermissionError(errno.EACCES, "not writable", str(cache))
    if shutil.disk_usage(cache).free < size:
        raise OSError(errno.ENOSPC, "no room", str(cache))


def _choose(repository: str, files: dict[str, Any], field: str) -> list[str]:
    """List the files to fetch: one set of weights, its config and its tokenizer."""
    names = [n for n in files if any(fnmatch.fnmatch(n, pattern) for pattern in MODEL_FILES)]
    names = [n for n in names if "/" not in n]  # a folder holds another precision or an adapter
    weights = {n for n in names if n.endswith((".safetensors", ".safetensors.index.json"))}
    for config, name in _WEIGHTS:
        if config not in files:
            continue
        shards = [f"{name}.index.json", f"{name.removesuffix('.safetensors')}-*-of-*.safetensors"]
        wanted = (
            [name]
            if name in weights
            else [n for n in weights if any(fnmatch.fnmatch(n, s) for s in shards)]
        )
        if not wanted:
            continue
        # A repository of timm holds its own config.json and weights beside OpenCLIP's two towers.
        left_out = {"config.json"} if config != "config.json" else set()
        return sorted({*names} - weights - left_out | {*wanted})
    if not weights:
        raise HubError(
            f"{field}: {repository} has no safetensors at this revision, and pickles are never "
            "loaded; convert a downloaded copy with zeroseg convert_teacher FILE --output=DIR."
        )
    raise HubError(
        f"{field}: {repository} has no {_WEIGHTS[-1][1]} with a config.json, nor OpenCLIP's pair; "
        "give a repository of CLIP, SigLIP, TIPSv2 or DINO."
    )


def _fetch_plainly(repository: str, commit: str, files: dict[str, Any]) -> Path:
    import huggingface_hub
    from huggingface_hub.file_download import http_get

    root = _cache() / _folder(repository) / "snapshots" / commit
    for name, file in files.items():
        url = huggingface_hub.hf_hub_url(repository, name, revision=commit, endpoint=_endpoint())
        with atomic_path(root / name) as temporary, open(temporary, "wb") as out:
            http_get(url, out, expected_size=file.size)
    return root


def _verify(shown: str, directory: Path, names: list[str], sums: dict[str, str]) -> None:
    """Check every file once; remove what is wrong; write the record that marks the folder whole."""
    for name in names:
        path = directory / name
        with open(path, "rb") as file:
            start = file.read(64).lower()
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        weights = name.endswith(".safetensors")
        if weights and start.startswith(_POINTER):
            problem = "is a Git LFS pointer and not the weights; ask the mirror for large files"
        elif weights and start.lstrip().startswith(_PAGES):
            problem = "is a web page and not the weights; sign in to the network or proxy first"
        elif name in sums and found != sums[name]:
            problem = f"arrived damaged (sha256 {found[:12]}, not {sums[name][:12]}); fetch again"
        else:
            continue
        for wrong in {path.resolve(), path}:
            wrong.unlink(missing_ok=True)
        raise HubError(f"{shown}: {name} {problem}; the file was deleted.")
    record = _record_path(directory)
    assert record is not None  # a snapshot folder always has one
    write_json(record, {"files": names})


def _find_cached(repository: str, revision: str) -> Path | None:
    """Return the snapshot of a revision if it was verified and is whole."""
    root = _cache() / _folder(repository)
    commit = revision
    if not is_commit(revision):
        try:
            commit = (root / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            return None
    directory = root / "snapshots" / commit
    record = _record_path(directory)
    if record is None or not record.is_file():
        return None
    names = _read_record(record).get("files")
    whole = isinstance(names, list) and all((directory / str(n)).is_file() for n in names)
    return directory if whole else None


def _record_path(directory: Path) -> Path | None:
    commit = Path(directory).name
    if Path(directory).parent.name != "snapshots" or not is_commit(commit):
        return None
    return Path(directory).parent.parent / ".zeroseg_jax" / f"{commit}.json"


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        # A damaged record only costs a second check of the files.
        return {}


def _folder(repository: str) -> str:
    return "models--" + repository.replace("/", "--")


def _cache() -> Path:
    """Return the cache folder of huggingface_hub, without importing it."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _host() -> str:
    return re.sub(r"^https?://", "", _endpoint())
