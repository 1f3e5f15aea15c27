"""What we start, and what we ask first, survives a kill in its very first moments."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trackbook.adapters.local.executor import LocalExecutor
from trackbook.adapters.nats import broker as module
from trackbook.adapters.nats import server_process
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker import BrokerFailed, EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.jetstream_api import require_server
from trackbook.adapters.nats.streams import ensure
from trackbook.testing.proxy import Proxy


def _killed(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Have the first servers killed before they listen; returns where their process ids are noted."""
    pids: list[int] = []

    async def killed(*arguments: Any) -> asyncio.subprocess.Process:
        process = await server_process.spawn(*arguments)
        pids.append(process.pid)
        if len(pids) <= times:
            process.kill()
        return process

    monkeypatch.setattr(module, "spawn", killed)
    return pids


async def test_a_server_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the server listens costs another start and no more."""
    pids = _killed(monkeypatch, 2)

    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        await nc.close()

    assert len(pids) == 3


async def test_a_server_that_never_comes_up_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever, though: a start that fails again and again is reported."""
    pids = _killed(monkeypatch, 100)

    with pytest.raises(BrokerFailed):
        await EmbeddedBroker(tmp_path, durability="fast").start()

    assert len(pids) == module.FIRST_TRIES


async def test_a_spawner_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the spawner has answered costs another start and no more."""
    started: list[subprocess.Popen[bytes]] = []

    class Killed(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            if len(started) == 1:
                self.kill()

    monkeypatch.setattr(subprocess, "Popen", Killed)
    executor = LocalExecutor(tmp_path)

    async def report(*_: Any) -> None:
        """Nothing is launched."""

    await executor.start(report)

    assert executor.spawner_pid == started[-1].pid != started[0].pid
    await executor.close()


async def test_the_first_questions_outlive_a_lost_connection(broker: EmbeddedBroker, prefix: str) -> None:
    """A broker that dies while it is looked at, and the streams are made, is asked again when it is back."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        nc = await connect(Access(proxy.url, broker.engine.user, broker.engine.password))
        for first in (require_server(nc), ensure(nc, prefix, initialised=False)):
            proxy.deaf = True
            asking = asyncio.create_task(first)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asking), 0.1)
            proxy.cut()
            async with asyncio.timeout(10):
                await asking
        await nc.close()
