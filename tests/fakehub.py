"""A loopback Hugging Face Hub of a few repositories, for tests without a network.

    with FakeHub({"owner/name": directory}) as hub:
        snapshot_download("owner/name", endpoint=hub.url, cache_dir=tmp)

It answers model info, the tree, and resolve (HEAD, GET, ranges). Large files are "LFS": a redirect
to /cdn/<sha256> under another host name with X-Linked-Size and X-Linked-Etag. `faults` breaks
answers on purpose. No Xet header is sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LFS_BYTES = 1 << 10  # on the Hub .gitattributes decides


@dataclasses.dataclass
class Faults:
    """Broken answers: sets of "owner/name" or of file names.

    Attributes:
      gated: repositories that answer 403 GatedRepo without a token.
      down: repositories that answer 503 to every request.
      busy: repositories that answer 429 to every request.
      denied: repositories that answer 401 to every request, without the Hub's error code.
      sign_in: repositories whose every answer is a web page with status 200.
      cut_once: files of which half arrives before the connection drops, once.
      short: files of which half arrives, well-formed, always.
      flipped: files of the right length with one wrong byte.
      pages: files that arrive as a sign-in page of the true length.
      pointers: files that arrive as a Git LFS pointer, padded to the true length.
      no_commit: repositories whose answers state no commit, as some mirrors' do.
    """

    gated: set[str] = dataclasses.field(default_factory=set)
    down: set[str] = dataclasses.field(default_factory=set)
    busy: set[str] = dataclasses.field(default_factory=set)
    denied: set[str] = dataclasses.field(default_factory=set)
    sign_in: set[str] = dataclasses.field(default_factory=set)
    cut_once: set[str] = dataclasses.field(default_factory=set)
    short: set[str] = dataclasses.field(default_factory=set)
    flipped: set[str] = dataclasses.field(default_factory=set)
    pages: set[str] = dataclasses.field(default_factory=set)
    pointers: set[str] = dataclasses.field(default_factory=set)
    no_commit: set[str] = dataclasses.field(default_factory=set)


class FakeHub:
    """Serves {repo id: directory} or {repo id: {revision name: directory}}."""

    def __init__(self, repos: Mapping[str, Any], faults: Faults | None = None):
        self.faults, self.requests = faults or Faults(), []  # [(method, path, range, has token)]
        self.repos = {k: v if isinstance(v, Mapping) else {"main": v} for k, v in repos.items()}
        self.blobs: dict[str, Path] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        port = self._server.server_address[1]
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}/cdn"

        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(), self._server.server_close()

    def commit(self, repo: str, revision: str = "main") -> str:
        """Return the 40 hex digits of a revision: its name, or digits of its content."""
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        paths = filter(Path.is_file, sorted(Path(self.repos[repo][revision]).rglob("*")))
        content = b"".join(p.name.encode() + p.read_bytes() for p in paths)
        return hashlib.sha1(repo.encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version, log_message = "HTTP/1.1", lambda self, *_: None

    def do_GET(self) -> None:
        path, token = unquote(urlsplit(self.path).path), self.headers.get("authorization")
        self.hub.requests.append((self.command, path, self.headers.get("range"), bool(token)))
        if found := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            return self._content(self.hub.blobs[found[1]], {"ETag": f'"{found[1]}"'})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (found or file):
            return self._fail(404, "EntryNotFound", "no such route")
        repo, revision = (file[1], file[2]) if file else (found[1], found[3] or "main")
        faults = self.hub.faults
        for repos, status in ((faults.down, 503), (faults.busy, 429), (faults.denied, 401)):
            if repo in repos:
                return self._fail(status, "", "refused")
        if repo in faults.sign_in:
            return self._send(200, b"<!DOCTYPE html><title>Sign in</title>", {})
        if repo not in self.hub.repos:
            return self._fail(401, "RepoNotFound", "Repository not found")
        if repo in self.hub.faults.gated and not token and (file or found[2] == "tree"):
            return self._fail(403, "GatedRepo", f"Access to model {repo} is restricted.")
        named = {name: self.hub.commit(repo, name) for name in self.hub.repos[repo]}
        name = next((n for n, commit in named.items() if revision in (n, commit)), None)
        if name is None:
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, root = named[name], Path(self.hub.repos[repo][name])
        faulty = self.hub.faults.no_commit
        listed = filter(Path.is_file, sorted(root.rglob("*")))
        files = {p.relative_to(root).as_posix(): p for p in listed}
        if file:
            return self._resolve(files.get(file[3]), "" if repo in faulty else commit)
        answer = [_entry(k, p) for k, p in files.items()]
        if found[2] != "tree":
            listed = [_sibling(k, p) for k, p in files.items()]
            answer = {"id": repo, "sha": commit, "siblings": listed}
        self._send(200, json.dumps(answer).encode(), {})

    do_HEAD = do_GET

    def _resolve(self, path: Path | None, commit: str) -> None:
        headers = {"Accept-Ranges": "bytes"} | ({"X-Repo-Commit": commit} if commit else {})
        if path is None:
            return self._fail(404, "EntryNotFound", "Entry not found", **headers)
        entry = _entry(path.name, path)
        if "lfs" not in entry:
            return self._content(path, {**headers, "ETag": f'"{entry["oid"]}"'})
        self.hub.blobs[sha := entry["lfs"]["oid"]] = path
        headers |= {"X-Linked-Size": str(entry["size"]), "X-Linked-Etag": f'"{sha}"'}
        self._send(302, b"", {**headers, "Location": f"{self.hub.cdn}/{sha}"})

    def _content(self, path: Path, headers: dict[str, str]) -> None:
        content, faults = bytearray(path.read_bytes()), self.hub.faults
        if path.name in faults.flipped:
            content[len(content) // 2] ^= 1
        for names, text in (
            (faults.pages, b"<!DOCTYPE html><title>Sign in</title>"),
            (faults.pointers, b"version https://git-lfs.github.com/spec/v1\n"),
        ):
            if path.name in names:
                content[: len(text)] = text
        if path.name in faults.short:
            content = content[: len(content) // 2]
        size, status, claimed = len(content), 200, -1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "")):
            first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            content, status = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        if path.name in faults.cut_once and self.command == "GET":
            faults.cut_once.discard(path.name)
            self.close_connection, claimed = True, len(content)
            content = content[: claimed // 2]
        self._send(status, bytes(content), headers, claimed)

    def _fail(self, status: int, code: str, message: str, **headers: str) -> None:
        extra = {"X-Error-Code": code, "X-Error-Message": message, **headers}
        self._send(status, json.dumps({"error": message}).encode(), extra)

    def _send(self, status: int, body: bytes, headers: dict[str, str], claimed: int = -1) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if claimed < 0 else claimed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(name: str, path: Path) -> dict:
    content = path.read_bytes()
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    entry = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if len(content) >= _LFS_BYTES:
        sha = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
    return entry


def _sibling(name: str, path: Path) -> dict:
    entry = _entry(name, path)
    found = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
    if "lfs" in entry:
        found["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
    return found
