"""Open connections of the web page: timeouts of header, body and reading, limits per address.

uvicorn closes idle connections only between two requests, so that half-open ones would hold every
place. Here a connection that waits for its client has a time limit, and where there are too many,
the one that has waited longest makes room for the newcomer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD, _BODY, _READING = "head", "body", "reading"  # what the server waits for


@dataclasses.dataclass(frozen=True)
class ConnectionLimits:
    """Limits of connections; source: own.

    Attributes:
      per_address, total: open connections of one address and of all. A browser opens 6.
      bodies_per_address, bodies: those of them whose body is arriving; each holds memory.
      head_seconds: time until the head of a request is complete.
      body_seconds: time until its body is complete. The app answers 408 before that.
      reading_seconds: time for which a client may leave an answer unread.
    """

    per_address: int = 32
    total: int = 256
    bodies_per_address: int = 8
    bodies: int = 24
    head_seconds: float = 10.0
    body_seconds: float = 40.0
    reading_seconds: float = 30.0

    def without_addresses(self) -> ConnectionLimits:
        """Return limits for a proxy, whose address is that of all visitors."""
        return dataclasses.replace(self, per_address=self.total, bodies_per_address=self.bodies)


class Connections:
    """All open connections; makes room where a limit is exceeded.

    Args:
      limits: numbers and times.
    """

    def __init__(self, limits: ConnectionLimits):
        self.limits = limits
        self._open: set[LimitedProtocol] = set()
        self._turns = itertools.count()

    def next_turn(self) -> int:
        """Return a number that grows with time; an event loop's clock repeats itself."""
        return next(self._turns)

    def add(self, connection: LimitedProtocol) -> None:
        """Count a new connection; drop the one that has waited longest if there are too many."""
        self._open.add(connection)
        self._make_room(connection, self._open, self.limits.per_address, self.limits.total)

    def expect_body(self, connection: LimitedProtocol) -> None:
        """Count a connection whose body is arriving; drop the oldest such one of too many."""
        arriving = {c for c in self._open if c.waits_for == _BODY}
        limits = self.limits
        self._make_room(connection, arriving, limits.bodies_per_address, limits.bodies)

    def remove(self, connection: LimitedProtocol) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def _make_room(
        self, newcomer: LimitedProtocol, among: set[LimitedProtocol], per_address: int, total: int
    ) -> None:
        neighbours = {c for c in among if c.address == newcomer.address}
        for group, limit in ((neighbours, per_address), (among, total)):
            if len(group & self._open) <= limit:
                continue
            # The newcomer is among them: if all others are being answered, it has to go.
            waiting = [c for c in group & self._open if c.waits_for]
            min(waiting, key=lambda c: c.waits_since, default=newcomer).drop()


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 connection with a time limit whenever the server waits for the client."""

    registry: Connections
    address = ""
    waits_for = ""
    waits_since = 0
    _timer: asyncio.TimerHandle | None = None
    _unread = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first head."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._watch()
        self.registry.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self.registry.remove(self)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has arrived."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next head, or for a rest of the body."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Start the time limit of reading: the client leaves the answer unread."""
        super().pause_writing()
        self._unread = True
        self._watch()

    def resume_writing(self) -> None:
        """End the time limit of reading."""
        super().resume_writing()
        self._unread = False
        self._watch()

    def drop(self) -> None:
        """Close the connection at once; what was not sent is lost."""
        self.registry.remove(self)
        self._stop_timer()
        self.transport.abort()

    def _watch(self) -> None:
        """Restart the time limit if the server now waits for something else."""
        waits_for = ""
        if self._unread:
            waits_for = _READING
        elif self.conn.their_state is h11.IDLE:
            waits_for = _HEAD
        elif self.conn.their_state is h11.SEND_BODY:
            waits_for = _BODY
        if waits_for == self.waits_for or self.transport.is_closing():
            return
        self._stop_timer()
        self.waits_for = waits_for
        if not waits_for:
            return
        limits = self.registry.limits
        seconds = {
            _HEAD: limits.head_seconds,
            _BODY: limits.body_seconds,
            _READING: limits.reading_seconds,
        }[waits_for]
        self.waits_since = self.registry.next_turn()
        self._timer = self.loop.call_later(seconds, self.drop)
        if waits_for == _BODY:
            self.registry.expect_body(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def build_protocol(connections: Connections) -> type[LimitedProtocol]:
    """Return the protocol class of a server, for uvicorn.Config(http=...)."""
    return type("Protocol", (LimitedProtocol,), {"registry": connections})
