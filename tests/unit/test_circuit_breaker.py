"""Reads that a connected broker leaves unanswered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from trackbook.adapters.nats import circuit_breaker
from trackbook.adapters.nats.circuit_breaker import AFTER_ONE, PATIENCE, CircuitBreaker
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.pending_writes import PendingWrites
from trackbook.adapters.nats.reads import BrokerUnanswered
from trackbook.engine.ports import Stored


class FakeConnection:
    """A connection that stands, or does not."""

    is_connected = True


NC = cast("Connection", FakeConnection())


class Broker:
    """Answers reads of all subjects but those in `silent`; notes what it was asked, and with which patience."""

    def __init__(self, *silent: str) -> None:
        self.silent = set(silent)
        self.asked: list[tuple[str, float]] = []

    async def walk(
        self, nc: Connection, stream: str, from_seq: int, subject: str, patience: float
    ) -> AsyncIterator[list[Stored]]:
        """Yield one message."""
        self.asked.append((subject, patience))
        if subject in self.silent:
            raise BrokerUnanswered(f"no answer of {subject}", "Copy it.")
        yield [Stored(from_seq, "pipeline", subject, b"")]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Give a broker that keeps silent about one subject."""
    broker = Broker("bad")
    monkeypatch.setattr(circuit_breaker, "walk", broker.walk)
    return broker


async def read(reads: CircuitBreaker, subject: str) -> list[Any]:
    """Read a subject."""
    return [stored.seq async for batch in reads.walk(NC, "events", 7, subject) for stored in batch]


async def test_what_was_given_up_is_not_asked_for_again_at_once(broker: Broker) -> None:
    """Each request may cost the broker more memory; the refusal names the first reason."""
    pending = PendingWrites()
    for _ in range(3):
        with pytest.raises(BrokerUnanswered, match="no answer of bad") as raised:
            await read(pending.reads, "bad")
        assert raised.value.hint == "Copy it."
    assert broker.asked == [("bad", PATIENCE)]
    assert pending.problem() == "no answer of bad"


async def test_other_reads_are_answered_and_waited_for_shortly(broker: Broker) -> None:
    """A broker that left one read unanswered may leave more so."""
    pending = PendingWrites()
    with pytest.raises(BrokerUnanswered):
        await read(pending.reads, "bad")
    assert await read(pending.reads, "good") == [7]
    assert broker.asked == [("bad", PATIENCE), ("good", AFTER_ONE)]
    assert pending.problem()


async def test_an_answer_ends_it(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is asked for again; once it is read nothing is named any more."""
    monkeypatch.setattr(circuit_breaker, "REFUSED_FOR", 0.0)
    pending = PendingWrites()
    with pytest.raises(BrokerUnanswered):
        await read(pending.reads, "bad")
    broker.silent.clear()
    assert await read(pending.reads, "bad") == [7]
    assert pending.problem() == ""
    assert await read(pending.reads, "bad") == [7]
    assert broker.asked[-1] == ("bad", PATIENCE)


async def test_what_was_given_up_while_the_broker_was_away_ends_with_its_return(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it is refused at once; afterwards it is asked for with the whole patience and named no more."""
    pending = PendingWrites()
    monkeypatch.setattr(NC, "is_connected", False)
    monkeypatch.setattr(circuit_breaker, "REFUSED_FOR", 0.0)
    for _ in range(2):
        with pytest.raises(BrokerUnanswered):
            await read(pending.reads, "bad")
    assert broker.asked == [("bad", PATIENCE)]
    assert pending.problem() == "no answer of bad"

    monkeypatch.setattr(NC, "is_connected", True)
    broker.silent.clear()

    assert pending.problem() == ""
    assert await read(pending.reads, "bad") == [7]
    assert broker.asked[-1] == ("bad", PATIENCE)
