"""Answers and memory of `serve` under many clients at once.

    python -m bench.endurance.serve_clients --requests=2000 --clients=16

One client asks every question once. Then the clients upload the same images and ask the same
questions at once; each answer must equal the single client's byte for byte. The memory of the
server must be level: at the end at most 5 % above that after the first quarter.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import random
import sys
import time
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.endurance.serve_hostile import draw_scene, read_memory, run_server, send
from zeroseg_jax.commands import flags

SIZES = (64, 96, 120, 200, 320)  # px
WORDS = ("star; grass", "heart; ring; sky", "moon; water; sand; brick")
_BUSY, _BUSY_SECONDS = 503, 0.05
_GROWTH = 1.05


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("requests", 2000, "number of requests", 20)
    absl_flags.DEFINE_integer("clients", 16, "number of clients at a time", 1)
    record.define_output("serve_clients")


def ask(port: int, size: int, words: str, refine: bool) -> tuple[bytes, int]:
    """Upload an image and ask for class names; a client that is told to wait asks again.

    Returns:
      The answer to the question, and the number of times the server was busy.

    Raises:
      AssertionError: the server refused.
    """
    busy = 0

    def post(path: str, body: bytes) -> bytes:
        nonlocal busy
        while True:
            status, answer = send(port, ("POST", path, body, {}))
            if status == 200:
                return answer
            assert status == _BUSY, f"{path}: {status} {answer[:200]!r}"
            busy += 1
            time.sleep(_BUSY_SECONDS)

    picture = json.loads(post("/pictures", draw_scene(size, size)))["picture"]
    question = {"picture": picture, "words": words, "refine": refine}
    return post("/segment", json.dumps(question).encode()), busy


def measure(port: int, pid: int, requests: int, clients: int) -> dict[str, Any]:
    """Ask alone, then with all clients; return counts, memory and the number of wrong answers."""
    questions = list(itertools.product(SIZES, WORDS, (False, True)))
    single = {question: ask(port, *question)[0] for question in questions}
    order = list(itertools.islice(itertools.cycle(questions), requests // 2))
    random.Random(0).shuffle(order)
    memory, wrong, busy = [], 0, 0
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = pool.map(lambda question: ask(port, *question), order)
        for number, (question, (answer, waits)) in enumerate(zip(order, answers, strict=True), 1):
            wrong += answer != single[question]
            busy += waits
            if number % max(1, len(order) // 20) == 0 or number == len(order):
                memory.append({"requests": 2 * number, "rss_mb": round(read_memory(pid), 1)})
    first = next(entry["rss_mb"] for entry in memory if entry["requests"] * 4 >= requests)
    return {
        "requests": 2 * len(order),
        "clients": clients,
        "questions": len(questions),
        "wrong": wrong,
        "told_to_wait": busy,
        "seconds": round(time.monotonic() - begin, 1),
        "memory": memory,
        "mb_after_a_quarter": first,
        "mb_at_the_end": memory[-1]["rss_mb"],
    }


def main(arguments: list[str]) -> int:
    """Ask; 1 if an answer differs or memory grows."""
    del arguments
    with run_server() as (port, pid):
        found = measure(port, pid, FLAGS.requests, FLAGS.clients)
    fault = f"{found['wrong']} answers differ" if found["wrong"] else ""
    if not fault and found["mb_at_the_end"] > _GROWTH * found["mb_after_a_quarter"]:
        fault = f"memory grew from {found['mb_after_a_quarter']} to {found['mb_at_the_end']} MB"
    record.write({**found, "fault": fault})
    print(
        f"serve_clients: {found['requests']} requests of {found['clients']} clients, "
        f"{found['wrong']} answers differ, {found['mb_after_a_quarter']} MB after a quarter, "
        f"{found['mb_at_the_end']} MB at the end"
    )
    if fault:
        print(f"serve_clients: {fault}", file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    flags.run(main, define_flags)
