"""Limits of HTTP connections: their number, and the time that a request may take to arrive.

Every connection takes a descriptor, and so do tasks, files and the broker. At the limit the connection that has
waited longest for a request is closed in favour of a new one; if all are in use, the new one gets 503. A request
that does not arrive is given up. So neither idle connections nor slow ones keep others from being served.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WITHIN = 15.0
"""Seconds for the head of a request to be there, counted from the connection or from the answer before."""
BODY_PAUSE = 30.0
"""Seconds in which at least BODY_LEAST bytes of a body must arrive, while somebody waits for them."""
BODY_LEAST = 1024
_LEAST, _MOST_RESERVED = 8, 1024
_RECENT = 15.0
"""Seconds for which a limit that was reached is reported, and logged once."""
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\n"
    b'\r\n{"error":{"code":"too_many_connections","message":"every HTTP connection of this server is in use"}}'
)

log = structlog.get_logger("trackbook.http")


def most_connections(descriptors: int) -> int:
    """Return how many HTTP connections leave enough descriptors for tasks, files, the database and the broker.

    A connection counts twice, since it may read a file.
    """
    reserved = min(max(descriptors // 2, 128), _MOST_RESERVED)
    return max(_LEAST, (descriptors - reserved) // 2)


class Connections:
    """The HTTP connections of a server, `most` at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: set[LimitedProtocol] = set()
        self.waiting: dict[LimitedProtocol, None] = {}
        self._reached: dict[str, float] = {}

    def make_room(self) -> bool:
        """Make room for one more connection; False if all are in use."""
        if len(self.open) < self.most:
            return True
        if not self.waiting:
            self.reached("in_use")
            return False
        oldest = next(iter(self.waiting))
        oldest.end()
        self.reached("idle")
        return True

    def reached(self, limit: str) -> None:
        """Note that a limit was reached; the log has it once as long as it is."""
        if not self._is_recent(limit):
            log.warning("http.connections_limited", limit=limit, connections=len(self.open), most=self.most)
        self._reached[limit] = time.monotonic()

    def _is_recent(self, limit: str) -> bool:
        return time.monotonic() - self._reached.get(limit, -_RECENT) < _RECENT

    def metrics(self) -> dict[str, float]:
        """Return how many are open, and how many may be."""
        return {
            "trackbook_http_connections": len(self.open),
            "trackbook_http_connections_most": self.most,
        }

    def problems(self) -> list[str]:
        """Return in words what keeps clients from being served."""
        found = []
        if self._is_recent("in_use"):
            found.append(f"HTTP refused connections a moment ago: {self.most:,} were in use (ulimit -n)")
        if self._is_recent("descriptors"):
            found.append("the process ran out of descriptors a moment ago (ulimit -n)")
        return found

    def warnings(self) -> list[str]:
        """Return what else is wrong."""
        if not self._is_recent("idle"):
            return []
        return [f"HTTP closed idle connections a moment ago: there were more than {self.most:,} (ulimit -n)"]


class LimitedProtocol(H11Protocol):
    """One connection. It is closed where no request, or no more of its body, arrives in time."""

    def __init__(self, limits: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._check_later: asyncio.TimerHandle | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        if not self._limits.make_room():
            transport.write(_BUSY)
            transport.close()
            self.transport = transport
            return
        self._limits.open.add(self)
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._limits.waiting.pop(self, None)
        if self._check_later is not None:
            self._check_later.cancel()
        if self not in self._limits.open:
            return
        self._limits.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self not in self._limits.open:
            return
        self._received += len(data)
        super().data_received(data)
        if not self._is_waiting() and self._limits.waiting.pop(self, self) is None:
            self._look_again(BODY_PAUSE)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there already."""
        if not self.transport.is_closing():
            self._wait_for_request()
        super().on_response_complete()
        if not self._is_waiting():
            self._limits.waiting.pop(self, None)

    def end(self) -> None:
        """Close it, at once."""
        self._limits.waiting.pop(self, None)
        self._limits.open.discard(self)
        if self._check_later is not None:
            self._check_later.cancel()
        self.transport.abort()
        super().connection_lost(None)

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._limits.waiting[self] = None
        self._look_again(REQUEST_WITHIN)

    def _look_again(self, after: float) -> None:
        if self._check_later is not None:
            self._check_later.cancel()
        self._received = 0
        self._check_later = self.loop.call_later(after, self._check)

    def _check(self) -> None:
        """Close the connection if what it is to send did not come."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.more_body:
            if self._received < BODY_LEAST and not self.flow.read_paused:
                self.transport.abort()
            else:
                self._look_again(BODY_PAUSE)
        elif self._is_waiting():
            self.transport.abort()
