"""Fixtures shared by all suites."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from container.engine import container_engine  # noqa: F401 - a fixture

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connect import Connection, connect

_prefixes = (f"t{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole run; tests that stop or kill one start their own."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("broker"), durability="fast")
    # A loop of its own thread supervises it: the tests' loops come and go.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="broker")
    thread.start()
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result()
    yield broker
    asyncio.run_coroutine_threadsafe(broker.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def prefix() -> str:
    """A prefix of streams and subjects that no other test uses."""
    return next(_prefixes)


@pytest.fixture
async def nc(broker: EmbeddedBroker) -> AsyncIterator[Connection]:
    """A connection as the engine."""
    connection = await connect(broker.engine, name="test")
    yield connection
    await connection.close()
