"""Model names resolved to folders: aliases, "hf:owner/name@revision", local paths, "A+B"."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from zeroseg_jax.data import mirrors
from zeroseg_jax.teacher import hub
from zeroseg_jax.teacher.aliases import ALIASES, TWINS, Alias
from zeroseg_jax.teacher.hub_errors import HubError

# Files of a run in a bucket that loading does not read, or reads from there (checkpoints).
_NOT_MIRRORED = ("checkpoints/*", "*.arrayrecord", "tensorboard/*", "profile/*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclasses.dataclass(frozen=True)
class Located:
    """A model on disk.

    Attributes:
      directory: folder that load_teacher reads.
      name: alias or path as given, for messages.
      pinned: "hf:owner/name@COMMIT", which names the same bytes everywhere; "" for a local folder.
      alias: entry of the alias table, if any.
      affinity: second model of "A+B", the one that lends its affinities.
    """

    directory: Path
    name: str
    pinned: str = ""
    alias: Alias | None = None
    affinity: Located | None = None


def resolve(
    name: str | Path, *, log: Callable[[str], None] | None = None, field: str = "--model"
) -> Located:
    """Find a model by name and fetch it if it is not here yet.

    Args:
      name: existing folder, gs://BUCKET/NAME, alias, "hf:owner/name@revision",
        "hf://owner/name@revision", an address of the Hub, or "A+B" with an affinity tower A and a
        CLIP B.
      log: takes one line before a byte is fetched; None for standard error.
      field: flag or setting that holds the name, for errors.

    Returns:
      Where it is. A name pinned to a commit makes no request once it is in the cache.

    Raises:
      HubError: unknown name, or a repository that cannot be fetched.
    """
    text = str(name)
    if mirrors.is_address(text):
        folder = mirrors.localise(text)
        mirrors.pull(folder, skip=_NOT_MIRRORED)
        return Located(folder, text)
    if Path(text).is_dir():
        return Located(Path(text), text)
    if "+" in text and not text.startswith(("hf:", "https:")):
        tower, _, clip = text.partition("+")
        return dataclasses.replace(
            resolve(clip, log=log, field=field),
            name=text,
            affinity=resolve(tower, log=log, field=field),
        )
    alias = ALIASES.get(text)
    if alias is None:
        repository, revision = _parse(text, field)
        twin = TWINS.get(repository) if revision == "main" else None
        alias = ALIASES[twin] if twin else _find_alias(repository, revision)
        if twin:
            (log or _to_stderr)(
                f"{repository} has no safetensors; the same weights are fetched from "
                f"{ALIASES[twin].repository}."
            )
            repository, revision = ALIASES[twin].repository, ALIASES[twin].revision
    else:
        repository, revision = alias.repository, alias.revision
    commit, directory = hub.locate(repository, revision, alias, log or _to_stderr, field=field)
    return Located(directory, text, f"hf:{repository}@{commit}", alias)


def pin(name: str, *, field: str = "--model") -> str:
    """Return "hf:owner/name@COMMIT" of a name of the Hub; a folder and other names unchanged.

    Args:
      name: as in resolve, of one model; "playground" or "".
      field: flag or setting that holds the name, for errors.

    Raises:
      HubError: see resolve. Only a name without a recorded commit is fetched.
    """
    if name in ("", "playground") or Path(name).is_dir():
        return name
    alias = ALIASES.get(name)
    repository, revision = (alias.repository, alias.revision) if alias else _parse(name, field)
    if hub.is_commit(revision):
        return f"hf:{repository}@{revision}"
    return resolve(name, field=field).pinned


def is_name(text: str) -> bool:
    """Return whether a text names a model of the Hub: an alias, "hf:...", an address, "A+B"."""
    parts = text.split("+") if not text.startswith("https:") else [text]
    return all(
        part in ALIASES or part.startswith(("hf:", "https://huggingface.co/")) for part in parts
    )


def find_alias(pinned: str) -> Alias | None:
    """Return the alias of a pinned name, "hf:owner/name@COMMIT", if it has one."""
    return _find_alias(*_parse(pinned)) if pinned else None


def _parse(text: str, field: str = "--model") -> tuple[str, str]:
    """Split "hf:owner/name@revision" or an address into repository and revision."""
    rest = re.sub(r"^(hf://|hf:|https://huggingface\.co/)", "", text)
    if rest == text:
        known = [*ALIASES, "playground"]
        near = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known names: {', '.join(known)}."
        raise HubError(
            f"{field}: {text!r} is no folder and no known name; {hint} Others are written "
            "hf:owner/name."
        )
    repository, _, revision = rest.rstrip("/").partition("@")
    if found := re.fullmatch(r"(.+?)/tree/([^/]+)", repository):
        repository, revision = found[1], revision or found[2]
    if not _REPOSITORY.fullmatch(repository) or ".." in revision:  # it is a path in the cache
        raise HubError(f"{field}: {text!r} is not of the form hf:owner/name or hf:owner/name@REV.")
    return repository, revision or "main"


def _find_alias(repository: str, revision: str) -> Alias | None:
    for alias in ALIASES.values():
        if alias.repository == repository and revision in ("main", alias.revision):
            return alias
    return None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
