"""The contract of executors once more, through the broker, and what only an executor elsewhere must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_executor import Shell

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.executors import (
    REPORT_LIMIT,
    SPEC_LIMIT,
    ExecutorNameTaken,
    ExecutorWorker,
    RemoteExecutor,
)
from trackbook.engine.ports import Executor, SessionSpec
from trackbook.testing.executor import Play, ScriptedExecutor
from trackbook.testing.executor_contract import *  # noqa: F403 - the suite's tests
from trackbook.testing.executor_contract import spec
from trackbook.testing.reports import Reports


class Pair:
    """Both ends as one executor, as the engine sees it."""

    def __init__(self, engine: RemoteExecutor, worker: ExecutorWorker) -> None:
        self.engine, self.worker = engine, worker
        self.launch, self.stop, self.start = engine.launch, engine.stop, engine.start

    async def close(self, *, cancel: bool = False) -> None:
        """Close the worker while the engine still listens, then the engine's end."""
        await self.worker.close(cancel=cancel)
        await self.engine.close()


class RemoteWorld:
    """An executor behind a broker, with sessions that outlive it."""

    protects_inputs = False

    def __init__(self, folder: Path, broker: EmbeddedBroker, connection: Connection) -> None:
        self.reports = Reports()
        self.attached = 0
        self.scripted: ScriptedExecutor | None = None
        self.broker, self.connection = broker, connection
        self._shell = Shell(folder)
        self._pairs: list[Pair] = []

    async def engine(self) -> RemoteExecutor:
        """Start the engine's end."""

        async def on_attach() -> None:
            self.attached += 1

        engine = RemoteExecutor(self.connection, "trackbook", "far", on_attach)
        await engine.start(self.reports)
        return engine

    def worker(self, limit: int = 8, script: Callable[[SessionSpec], Play] | None = None) -> ExecutorWorker:
        """Make a worker; its sessions live in this world."""
        self.scripted = self.scripted or ScriptedExecutor(script or self._shell, limit=limit)
        return ExecutorWorker(self.scripted, self.broker.engine, "trackbook", "far")

    async def open(self, limit: int = 8) -> Executor:
        """Start both ends."""
        pair = Pair(await self.engine(), self.worker(limit))
        await pair.worker.start()
        await pair.worker.attached.wait()
        self._pairs.append(pair)
        return pair

    async def close(self) -> None:
        """End all sessions."""
        for pair in self._pairs:
            await pair.close(cancel=True)


@asynccontextmanager
async def remote(folder: Path) -> AsyncIterator[RemoteWorld]:
    """Run a broker with a world on it."""
    async with EmbeddedBroker(folder) as broker:
        connection = await connect(broker.engine, name="engine")
        world = RemoteWorld(folder, broker, connection)
        try:
            yield world
        finally:
            await world.close()
            await connection.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    """Give a world whose sessions are scripted."""
    async with remote(tmp_path) as world:
        yield world


async def test_a_launch_waits_for_a_worker(world: RemoteWorld) -> None:
    """With no worker there a launch goes on until one takes it, soon after the worker attached."""
    engine = await world.engine()
    launch = asyncio.create_task(engine.launch(spec("a", "true")))
    done, _ = await asyncio.wait([launch], timeout=0.3)
    assert not done
    worker = world.worker()
    await worker.start()
    async with asyncio.timeout(60):
        await launch
    assert (await world.reports.ended("a")).outcome == "succeeded"
    await worker.close()
    await engine.close()


async def test_a_worker_waits_for_an_engine(world: RemoteWorld) -> None:
    """A worker that starts first attaches once an engine is there, which then takes up what is outstanding."""
    worker = world.worker()
    await worker.start()
    assert not worker.attached.is_set()
    engine = await world.engine()
    async with asyncio.timeout(60):
        await worker.attached.wait()
    assert world.attached
    await worker.close()
    await engine.close()


async def test_a_report_waits_for_an_engine(world: RemoteWorld) -> None:
    """An end that comes while no engine runs is reported to the next one, at once when it starts."""
    first, worker = await world.engine(), world.worker()
    await worker.start()
    await first.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    await first.close()
    assert world.scripted
    world.scripted.finish(spec("a", "").session)
    await world.broker.restart()
    second = await world.engine()
    async with asyncio.timeout(60):
        assert (await world.reports.ended("a")).outcome == "succeeded"
    await worker.close()
    await second.close()


async def test_reports_are_taken_together(world: RemoteWorld) -> None:
    """The sink is given reports while earlier ones are not committed yet, so that they share a commit."""
    under_way, most = 0, 0
    together = asyncio.Event()

    async def sink(job: str, report: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 20:
            together.set()
        await together.wait()
        under_way -= 1

    engine = RemoteExecutor(world.connection, "trackbook", "far", lambda: asyncio.sleep(0))
    await engine.start(sink)
    worker = world.worker(limit=100, script=lambda spec: Play(silent=True))
    await worker.start()
    async with asyncio.timeout(60):
        await asyncio.gather(*(engine.launch(spec(f"t{number}", "true")) for number in range(20)))
        await together.wait()
    assert most == 20
    await worker.close()
    await engine.close()


async def test_a_second_worker_of_the_same_name_is_refused(world: RemoteWorld) -> None:
    """Two workers under one name would run sessions twice: the second says who is there and ends."""
    await world.open()
    with pytest.raises(ExecutorNameTaken, match="executor far runs already, as process"):
        await world.worker().start()


async def test_a_task_too_large_to_send_fails(world: RemoteWorld) -> None:
    """A task that no message can carry is reported as failed, with its size, and is not tried for ever."""
    pair = await world.open()
    await pair.launch(spec("a", "x" * SPEC_LIMIT))
    end = await world.reports.ended("a")
    assert end.outcome == "failed"
    assert "too large for executor far" in end.message
    await pair.stop(spec("a", "x" * SPEC_LIMIT))


async def test_a_result_too_large_to_send_is_a_warning(world: RemoteWorld) -> None:
    """A success whose result no message can carry is reported without it, and is not tried for ever."""
    engine = await world.engine()
    worker = world.worker(script=lambda _: Play(result="x" * REPORT_LIMIT))
    await worker.start()
    await engine.launch(spec("a", "true"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.result) == ("succeeded", None)
    assert "983,040 can be sent" in end.message
    await worker.close()
    await engine.close()


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "x" * 65])
def test_a_name_that_subjects_can_t_hold_is_refused(name: str) -> None:
    """Dots, spaces and wildcards in a name would reach other subjects."""
    with pytest.raises(ValueError, match="an executor's name is"):
        RemoteExecutor(Connection(), "trackbook", name, lambda: asyncio.sleep(0))
