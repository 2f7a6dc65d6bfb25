"""Limits of connections: many half-open ones do not lock a visitor out."""

import contextlib
import io
import json
import socket
import time

import numpy as np
import pytest
from PIL import Image

from bench.endurance import serve_hostile as hostile
from tests.inference.web.serving import serve
from zeroseg_jax.inference.web.connections import ConnectionLimits

HEAD = b"POST /pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
KINDS = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: local",
    "half a body": HEAD + b"\r\nab",
    "no reader": b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
}


def open_many(stack, port, content, count):
    opened = []
    for _ in range(count):
        one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with contextlib.suppress(OSError):  # it had to make room already
            one.sendall(content)
        opened.append(one)
    return opened


def is_closed(connection, seconds):
    connection.settimeout(seconds)
    try:
        while data := connection.recv(65536):
            del data
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_visitor_is_answered_under_attack(port, kind):
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), 120, np.uint8)).save(buffer, "PNG")
    with contextlib.ExitStack() as stack:
        open_many(stack, port, KINDS[kind], 64)
        assert hostile.send(port, ("GET", "/", b"", {}))[0] == 200
        assert hostile.send(port, ("POST", "/pictures", buffer.getvalue(), {}))[0] == 200


def test_the_one_that_has_waited_longest_makes_room(models):
    limits = ConnectionLimits(per_address=4, bodies_per_address=2)
    with serve(models, connections=limits) as port, contextlib.ExitStack() as stack:
        opened = open_many(stack, port, KINDS["half a head"], 6)
        assert [is_closed(one, 20) for one in opened[:2]] == [True, True]
        assert not any(is_closed(one, 0.2) for one in opened[2:])
    with serve(models, connections=limits) as port, contextlib.ExitStack() as stack:
        opened = open_many(stack, port, KINDS["half a body"], 3)
        assert is_closed(opened[0], 20)
        assert not any(is_closed(one, 0.2) for one in opened[1:])


@pytest.mark.parametrize("kind", ["nothing", "half a head", "half a body"])
def test_a_half_open_connection_is_closed(models, kind):
    limits = ConnectionLimits(head_seconds=0.4, body_seconds=0.4)
    with serve(models, connections=limits) as port, contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        one.sendall(KINDS[kind])
        assert is_closed(one, 20)


def test_a_trickle_does_not_extend_the_time(models):
    with (
        serve(models, connections=ConnectionLimits(head_seconds=0.5)) as port,
        contextlib.ExitStack() as stack,
    ):
        one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(ConnectionError):
            for number in range(400):
                one.sendall(f"X-{number}: 1\r\n".encode())
                time.sleep(0.05)


def test_a_kept_connection_serves_several_requests(port):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/about")
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["models"]
    connection.close()
