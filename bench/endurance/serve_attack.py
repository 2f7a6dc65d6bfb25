"""A visitor of the page of `serve` while slow connections hold it: seconds of each answer.

    python -m bench.endurance.serve_attack

Attackers hold half-open connections from one address, the visitor's own, and open a new one for
each that the server closes. They send nothing, half a head, half a body, a byte at a time, or read
no answer. The visitor meanwhile loads the page, uploads images and asks for class names, and must
be answered within two seconds each time.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.endurance.serve_hostile import draw_scene, run_server, send
from zeroseg_jax.commands import flags
from zeroseg_jax.evaluation.render import render_markdown_table

LIMIT_SECONDS = 2.0
_TRICKLE_SECONDS = 0.5
_GET = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
_BODY = b"POST /pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nab"
# kind -> what a connection sends at first, and what again and again.
ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "none": (b"", b""),
    "nothing is sent": (b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\nHost: local", b""),
    "a head by bytes": (b"GET / HTTP/1.1\r\nX: ", b"x"),
    "half a body": (_BODY, b""),
    "a body by bytes": (_BODY, b"x"),
    "answers are not read": (_GET * 20, _GET),
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("connections", 128, "connections held open at a time", 1, 900)
    absl_flags.DEFINE_integer("rounds", 8, "page, upload and answer under each attack", 1)
    record.define_output("serve_attack")


@contextlib.contextmanager
def attack(port: int, kind: str, connections: int) -> Iterator[dict[str, int]]:
    """Hold connections open until the context ends; yield the number of openings so far."""
    first, again = ATTACKS[kind]
    counts, ended = {"opened": 0}, threading.Event()
    held: set[socket.socket] = set()
    selector = selectors.DefaultSelector()

    def open_one() -> None:
        one = socket.create_connection(("127.0.0.1", port), timeout=5)
        one.setblocking(False)
        # An unread answer must stay in the buffers of the system.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        held.add(one)
        counts["opened"] += 1
        if kind != "answers are not read":
            selector.register(one, selectors.EVENT_READ)
        if first:
            one.send(first)

    def drop(one: socket.socket) -> None:
        held.discard(one)
        with contextlib.suppress(KeyError):
            selector.unregister(one)
        one.close()

    def hold() -> None:
        trickled = time.monotonic()
        while not ended.is_set():
            with contextlib.suppress(OSError):  # the server's queue is full for a moment
                while len(held) < connections:
                    open_one()
            for key, _ in selector.select(timeout=0.05):  # closed, or told to go
                assert isinstance(key.fileobj, socket.socket)
                drop(key.fileobj)
            if time.monotonic() - trickled < _TRICKLE_SECONDS:
                continue
            trickled = time.monotonic()
            for one in list(held):
                try:
                    one.send(again or b"")
                except BlockingIOError:
                    continue
                except OSError:
                    drop(one)

    thread = threading.Thread(target=hold, daemon=True)
    if kind != "none":
        thread.start()
        while counts["opened"] < connections:
            time.sleep(0.01)
    try:
        yield counts
    finally:
        ended.set()
        if kind != "none":
            thread.join()
        for one in list(held):
            drop(one)
        selector.close()


def visit(port: int, round_number: int) -> list[tuple[str, int, float]]:
    """Load the page, upload an image and ask for class names.

    Returns:
      Path, HTTP status and seconds of each request.
    """
    taken = []

    def ask(path: str, body: bytes = b"") -> bytes:
        begin = time.monotonic()
        status, answer = send(port, ("POST" if body else "GET", path, body, {}))
        taken.append((path, status, time.monotonic() - begin))
        return answer

    ask("/")
    ask("/about")
    picture = json.loads(ask("/pictures", draw_scene(round_number, 96)) or b"{}").get("picture")
    ask("/segment", json.dumps({"picture": picture, "words": "star; grass; sky"}).encode())
    return taken


def measure(port: int, kind: str, connections: int, rounds: int) -> dict[str, Any]:
    """Visit under an attack; return the visitor's seconds and failures."""
    with attack(port, kind, connections) as counts:
        taken = [answer for number in range(rounds) for answer in visit(port, number)]
    seconds = sorted(answer[2] for answer in taken)
    return {
        "attack": kind,
        "connections_opened": counts["opened"],
        "requests": len(taken),
        "failed": sum(status != 200 for _, status, _ in taken),
        "median_seconds": round(seconds[len(seconds) // 2], 3),
        "longest_seconds": round(seconds[-1], 3),
    }


def main(arguments: list[str]) -> int:
    """Visit under each attack; 1 if an answer failed or took longer than the limit."""
    del arguments
    with run_server() as (port, _):
        measure(port, "none", 0, 2)  # compiles
        rows = [measure(port, kind, FLAGS.connections, FLAGS.rounds) for kind in ATTACKS]
    longest = max(row["longest_seconds"] for row in rows)
    failed = sum(row["failed"] for row in rows)
    fault = f"{failed} requests failed" if failed else ""
    if not fault and longest > LIMIT_SECONDS:
        fault = f"an answer took {longest} s, more than {LIMIT_SECONDS:g}"
    record.write({"connections": FLAGS.connections, "limit_seconds": LIMIT_SECONDS, "rows": rows,
                  "longest_seconds": longest, "fault": fault})  # fmt: skip
    print(render_markdown_table(list(rows[0]), [list(row.values()) for row in rows]))
    if fault:
        print(f"serve_attack: {fault}", file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    flags.run(main, define_flags)
