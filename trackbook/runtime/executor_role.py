"""The role `executor`: opens the configured executors, starts them, and replaces them when the file changes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog

from trackbook.adapters.execution.kind import Host
from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.streams import StreamMissing, installation
from trackbook.engine import job as jobs
from trackbook.engine.ports import Backend, Executor
from trackbook.runtime.executors.configuration import configuration
from trackbook.runtime.executors.registry import Backends, make_backends
from trackbook.runtime.executors.reload import ExecutorReload
from trackbook.runtime.system import System

_LOOK = 0.2  # seconds between looks for a log that another process has to make

_LOOK_AT_EXECUTORS = "`trackbook doctor` checks the executors."
_START_AN_ENGINE = "Start one: `trackbook serve --role engine`, with the same broker."

log = structlog.get_logger(__name__)


async def open_backends(system: System, stack: AsyncExitStack) -> Backends:
    """Return the configured executors, which follow their file from now on; raises ExecutorsMisconfigured."""
    assert system.connection is not None
    config = system.config

    blobs = system.aggregates.blobs if system.aggregates else NatsBlobs(system.connection, config.prefix)

    host = Host(
        data=config.data,
        installation=await _installation(system.connection, config.prefix),
        blobs=blobs,
        limit=config.limit,
        grace=config.grace,
        pass_environment=config.pass_environment,
        durable=config.durability == "always",
    )
    system.reload = ExecutorReload(
        config.data, lambda found: make_backends(host, found), configuration(config.data)
    )
    stack.push_async_callback(system.reload.close)
    return system.reload.backends


async def _installation(connection: Connection, prefix: str) -> str:
    """Return the installation's id, which is there once an engine has made the log."""
    waiting = False
    while True:
        try:
            return await installation(connection, prefix)
        except StreamMissing:
            if not waiting:
                log.info("log.awaited", hint="no engine has started on this broker yet")
            waiting = True
            await asyncio.sleep(_LOOK)


def new_executor(system: System, name: str, backend: Backend) -> Executor:
    """Return who runs sessions of an executor: in this process, or elsewhere."""
    return backend.executor() if "executor" in system.config.roles else _remote(system, name)


def _remote(system: System, name: str) -> Executor:
    from trackbook.adapters.nats.executors import RemoteExecutor

    async def attached() -> None:
        assert system.jobs is not None
        await system.jobs.recover(name)

    assert system.connection is not None
    return RemoteExecutor(system.connection, system.config.prefix, name, attached)


async def start_executors(system: System, executors: dict[str, Executor], stack: AsyncExitStack) -> None:
    """Start all, and replace those whose configuration changes from then on."""
    running_jobs = system.jobs
    assert running_jobs is not None
    assert system.reload is not None

    async def start(name: str, executor: Executor) -> None:
        async def report(job: str, report: jobs.Report) -> None:
            await running_jobs.report(name, job, report)

        await executor.start(report)

    async def close() -> None:
        for executor in reversed(list(executors.values())):
            await executor.close()

    async def attach(name: str, backend: Backend) -> None:
        if name in executors:  # its sessions run on, and the new one adopts them
            await executors.pop(name).close()
        executor = new_executor(system, name, backend)
        await start(name, executor)
        executors[name] = executor
        await running_jobs.recover(name)

    stack.push_async_callback(close)
    for name, executor in executors.items():
        async with system.phase(f"the executor {name}", _LOOK_AT_EXECUTORS):
            await start(name, executor)
    system.reload.attach = attach
    system.reload.start()


async def start_workers(system: System, stack: AsyncExitStack) -> None:
    """Run sessions for an engine in another process."""
    from trackbook.adapters.nats.executors import ExecutorWorker

    async with system.phase("an engine to make the log on this broker", _START_AN_ENGINE):
        system.backends = await open_backends(system, stack)
    assert system.reload is not None
    workers: dict[str, ExecutorWorker] = {}

    async def attach(name: str, backend: Backend) -> None:
        assert system.access is not None
        if name in workers:
            await workers.pop(name).close()
        worker = ExecutorWorker(backend.executor(), system.access, system.config.prefix, name)
        await worker.start()
        workers[name] = worker

    async def close() -> None:
        for worker in reversed(list(workers.values())):
            await worker.close()

    stack.push_async_callback(close)
    for name, backend in system.backends.items():
        async with system.phase(f"the executor {name}", _LOOK_AT_EXECUTORS):
            await attach(name, backend)
    system.reload.attach = attach
    system.reload.start()
