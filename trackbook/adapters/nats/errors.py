"""What can be wrong with a broker, and with a request to it."""

from __future__ import annotations

from trackbook.errors import UserError

# Codes of JetStream's errors that mean: no room.
# 10023 insufficient resources, 10047 storage resources exceeded, 10077 the store failed (disk, maximum bytes).
FULL = frozenset({10023, 10047, 10077})


class BrokerUnfit(UserError):
    """The broker can't be used: says what was found and what is needed."""


class BrokerUnreachable(UserError):
    """No broker answered, or the connection has been closed for good."""


class StoreFull(UserError):
    """The broker has no room for another message: says where and how much is free. Nothing was stored."""


class Unanswered(Exception):
    """A request got no answer: lost connection, no responder or too late. What it asked may have happened."""


class Nobody(Unanswered):
    """The server says that nobody answers there."""
