"""Errors of downloads from the Hugging Face Hub, one sentence each."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.request import getproxies


class HubError(ValueError):
    """A model that cannot be fetched; the message is one sentence."""


def explain(
    error: OSError, repository: str, revision: str, *, field: str, host: str, cache: Path
) -> str:
    """Return one sentence: what went wrong, and what to do.

    Args:
      error: from huggingface_hub, the network or the disk.
      repository: "owner/name".
      revision: commit, branch or tag.
      field: flag or setting that named the model.
      host: the Hub's, without https://.
      cache: folder of the cache.
    """
    from huggingface_hub import constants, errors

    causes = list(list_causes(error))
    text = " ".join(str(cause) for cause in causes)
    at = f"{field}: {repository}"
    if any(isinstance(c, errors.GatedRepoError) for c in causes):
        return (
            f"{at} is gated; accept its terms at {host}/{repository}, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if any(isinstance(c, errors.RevisionNotFoundError) for c in causes):
        return (
            f"{at} has no revision {revision!r}; give a branch, a tag or all 40 digits of a commit."
        )
    if any(isinstance(c, errors.RepositoryNotFoundError) for c in causes):
        return f"{at} does not exist on {host}, or is private; check the spelling, or log in."
    if "CERTIFICATE_VERIFY" in text:
        return (
            f"{at}: the certificate of {host} was refused; set SSL_CERT_FILE to the "
            "certificates of your network."
        )
    if any(isinstance(c, ssl.SSLError) for c in causes):
        return f"{at}: no encrypted connection to {host}; check HF_ENDPOINT, or HTTPS_PROXY."
    if any(type(c).__name__ == "ProxyError" for c in causes):
        return f"{at}: the proxy refused the connection to {host}; check HTTPS_PROXY."
    answers = [c.response for c in causes if isinstance(c, errors.HfHubHTTPError)]
    status = next((answer.status_code for answer in answers if answer is not None), 0)
    if status in (401, 403):
        return (
            f"{at}: {host} refused access (HTTP {status}); log in with `hf auth login`, or "
            "check HF_TOKEN."
        )
    if status == 429:
        return (
            f"{at}: {host} takes no more requests for now (HTTP 429); wait some minutes, or "
            "log in with `hf auth login`."
        )
    for cause in causes:
        number = cause.errno if isinstance(cause, OSError) else None
        if number == errno.ENOSPC:
            return f"{at}: the disk of {cache} is full; free space or set HF_HOME to another."
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            return f"{at}: {cache} cannot be written; set HF_HOME to a folder that can."
    if "onsistency check" in text or "peer closed" in text or "incomplete" in text.lower():
        return f"{at}: the transfer was cut; run the command again, and it resumes."
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif status:
        reason = f"{host} answers with HTTP {status}"
    else:
        through = " through the proxy of HTTPS_PROXY" if "https" in getproxies() else ""
        reason = f"{host} cannot be reached{through}"
    remedies = "connect once, or copy the folder and give its path"
    if field == "--model":
        remedies = (
            "connect once, copy the folder and give its path, or use --model=playground, which "
            "ships with the package and knows only drawn shapes"
        )
    return f"{at} is not in {cache} and {reason}; {remedies}."


def list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
