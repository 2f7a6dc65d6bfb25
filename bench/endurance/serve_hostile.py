"""Hostile requests to the page of `serve`: answers and memory over a thousand of them.

python -m bench.endurance.serve_hostile --requests=1000
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.data.playground.scenes import build_scene, render

Request = tuple[str, str, bytes, dict[str, str]]  # method, path, body, headers
_JSON = {"Content-Type": "application/json"}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("requests", 1000, "number of requests", 10)
    record.define_output("serve_hostile")


def draw_hostile(rng: random.Random, picture: str) -> tuple[str, Request]:
    """Draw one hostile request.

    Args:
      rng: source of randomness.
      picture: token of an upload that the server has.

    Returns:
      The kind of request, and the request.
    """
    words = {"picture": picture, "words": "star; grass"}
    uploads = {
        "huge": lambda: b"\xff\xd8" + rng.randbytes(17_000_000),
        "bomb": lambda: _png_header(60_000, 60_000),
        "wide": lambda: _png(1, rng.randrange(1000, 30_000)),
        "truncated": lambda: _jpeg()[: rng.randrange(1, 2000)],
        "scrambled": lambda: _scramble(rng, _jpeg()),
        "noise": lambda: rng.randbytes(rng.randrange(1, 5000)),
        "empty": lambda: b"",
        "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "svg": lambda: b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>",
        "sound": lambda: _png(rng.randrange(40, 200), rng.randrange(40, 200)),
    }
    questions = {
        "script": {**words, "words": "<script>alert(1)</script>; <img src=x onerror=alert(1)>"},
        "many words": {**words, "words": "; ".join(f"w{i}" for i in range(10_000))},
        "long word": {**words, "words": "x" * 5000},
        "control": {**words, "words": "a\x00b; c\x1b[31m"},
        "blank": {**words, "words": rng.choice(["", ";;;", "a;;b", " , "])},
        "wrong types": {**words, "words": rng.choice([None, 7, ["a"], {"a": 1}, True])},
        "threshold": {**words, "threshold": rng.choice([-1, 2, 1e300, True])},
        "unknown field": {**words, "path": "/etc/passwd"},
        "gone": {**words, "picture": rng.choice(["", "x" * 99, "../../etc/passwd"])},
        "good": {**words, "words": f"thing{rng.randrange(10**9)}; grass", "refine": False},
    }
    others: dict[str, Request] = {
        "not JSON": ("POST", "/segment", rng.randbytes(200), _JSON),
        "NaN": ("POST", "/segment", b'{"words": "a", "threshold": NaN}', _JSON),
        "deep": ("POST", "/segment", b"[" * 20_000, _JSON),
        "bytes for text": ("POST", "/segment", b"x" * 100_000, _JSON),
        "lying length": ("POST", "/pictures", b"", {"Content-Length": "99999999999"}),
        "path": ("GET", "/../../../../etc/passwd", b"", {}),
        "example": ("GET", f"/examples/{rng.randrange(10**6, 10**9)}.png", b"", {}),
        "method": (rng.choice(["PUT", "DELETE", "PATCH"]), "/segment", b"", {}),
        "foreign page": ("POST", "/segment", b"{}", {**_JSON, "Origin": "http://evil.example"}),
        "foreign name": ("GET", "/", b"", {"Host": "evil.example"}),
    }  # fmt: skip
    kind = rng.choice([*uploads, *questions, *others])
    if kind in uploads:
        return kind, ("POST", "/pictures", uploads[kind](), {})
    if kind in questions:
        path = rng.choice(["/segment", "/mask", "/record"])
        return kind, ("POST", path, json.dumps(questions[kind]).encode(), _JSON)
    return kind, others[kind]


def send(port: int, request: Request) -> tuple[int, bytes]:
    """Send one request on a new connection; return status and body, (0, b"") if it was closed."""
    method, path, body, headers = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (ConnectionError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x10\x00IDAT" + bytes(4096)


def _png(height: int, width: int) -> bytes:
    return _encode_png(np.full((height, width, 3), 90, np.uint8))


def _encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def draw_scene(index: int, px: int) -> bytes:
    """Draw a scene of the Playground as a PNG file of px x px."""
    return _encode_png(render(build_scene(2, index), px)[0])


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    ramp = np.add.outer(np.arange(120), np.arange(160)) % 256
    Image.fromarray(ramp.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _scramble(rng: random.Random, content: bytes) -> bytes:
    scrambled = bytearray(content)
    for _ in range(40):
        scrambled[rng.randrange(len(scrambled))] = rng.randrange(256)
    return bytes(scrambled)


@contextlib.contextmanager
def run_server() -> Iterator[tuple[int, int]]:
    """Run `zeroseg serve --model=playground`; yield its port and process id."""
    command = [sys.executable, "-m", "zeroseg_jax", "serve", "--model=playground", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stdout:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                    yield int(found[1]), server.pid
                    break
        finally:
            server.terminate()


def read_memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(arguments: list[str]) -> None:
    """Send the requests; record the memory of the server and the kinds of answers."""
    del arguments
    rng = random.Random(0)
    memory, kinds, statuses = [], Counter(), Counter()
    begin = time.time()
    with run_server() as (port, pid):
        # The first image compiles, which may exceed the time limit of one request.
        while send(port, ("POST", "/pictures", _png(96, 96), {}))[0] == 504:
            pass
        for number in range(FLAGS.requests):
            if number % 20 == 0:
                status, answer = send(port, ("POST", "/pictures", _png(96, 96), {}))
                assert status == 200, answer
                picture = json.loads(answer)["picture"]
            kind, request = draw_hostile(rng, picture)
            status, answer = send(port, request)
            kinds[kind] += 1
            statuses[f"{kind}: {status or 'hung up'}"] += 1
            # 503 and 504 are orderly refusals, 500 is a bug.
            assert status != 500, (kind, answer[:300])
            if number % max(1, FLAGS.requests // 20) == 0 or number == FLAGS.requests - 1:
                memory.append({"requests": number + 1, "rss_mb": round(read_memory(pid), 1)})
                print(memory[-1], flush=True)
        good = send(port, ("POST", "/pictures", _png(96, 96), {}))
        assert good[0] == 200, good
    content = {
        "seconds": round(time.time() - begin, 1),
        "memory": memory,
        "answers": dict(sorted(statuses.items())),
    }
    record.write(content)
    print(f"serve_hostile: {FLAGS.requests} requests of {len(kinds)} kinds, still answering")


if __name__ == "__main__":
    flags.run(main, define_flags)
