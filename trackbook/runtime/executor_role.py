"""The role `executor`: opens the configured executors, starts them, and replaces them when the file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import structlog

from trackbook.adapters.execution.kind import Host
from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.streams import StreamMissing, installation
from trackbook.engine import job as jobs
from trackbook.engine.ports import Backend, Blobs, Executor
from trackbook.runtime.executors.configuration import configuration
from trackbook.runtime.executors.registry import make_backends
from trackbook.runtime.executors.reload import ExecutorReload
from trackbook.runtime.system import Base

_LOOK = 0.2  # seconds between looks for a log that another process has to make

_LOOK_AT_EXECUTORS = "`trackbook doctor` checks the executors."
_START_AN_ENGINE = "Start one: `trackbook serve --role engine`, with the same broker."

log = structlog.get_logger(__name__)


async def open_executors(base: Base, blobs: Blobs, stack: AsyncExitStack) -> ExecutorReload:
    """Return the configured executors, which follow their file from now on; raises ExecutorsMisconfigured."""
    config = base.config
    host = Host(
        data=config.data,
        installation=await _installation(base.connection, config.prefix),
        blobs=blobs,
        limit=config.limit,
        grace=config.grace,
        pass_environment=config.pass_environment,
        durable=config.durability == "always",
    )
    reload = ExecutorReload(config.data, lambda found: make_backends(host, found), configuration(config.data))
    stack.push_async_callback(reload.close)
    return reload


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


Recover = Callable[[str], Awaitable[object]]
"""Takes up the jobs of an executor again, by its name."""
Reports = Callable[[str, str, jobs.Report], Awaitable[object]]
"""Takes what an executor (its name) reports of a job."""


def new_executor(base: Base, name: str, backend: Backend, recover: Recover) -> Executor:
    """Return who runs sessions of an executor: in this process, or elsewhere."""
    return backend.executor() if "executor" in base.config.roles else _remote(base, name, recover)


def _remote(base: Base, name: str, recover: Recover) -> Executor:
    from trackbook.adapters.nats.executors import RemoteExecutor

    return RemoteExecutor(base.connection, base.config.prefix, name, partial(recover, name))


async def start_executors(
    base: Base,
    reload: ExecutorReload,
    executors: dict[str, Executor],
    reports: Reports,
    recover: Recover,
    stack: AsyncExitStack,
) -> None:
    """Start all, and replace those whose configuration changes from then on."""

    async def start(name: str, executor: Executor) -> None:
        async def report(job: str, report: jobs.Report) -> None:
            await reports(name, job, report)

        await executor.start(report)

    async def close() -> None:
        for executor in reversed(list(executors.values())):
            await executor.close()

    async def attach(name: str, backend: Backend) -> None:
        if name in executors:  # its sessions run on, and the new one adopts them
            await executors.pop(name).close()
        executor = new_executor(base, name, backend, recover)
        await start(name, executor)
        executors[name] = executor
        await recover(name)

    stack.push_async_callback(close)
    for name, executor in executors.items():
        async with base.phase(f"the executor {name}", _LOOK_AT_EXECUTORS):
            await start(name, executor)
    reload.attach = attach
    reload.start()


async def start_workers(base: Base, stack: AsyncExitStack) -> ExecutorReload:
    """Run sessions for an engine in another process."""
    from trackbook.adapters.nats.executors import ExecutorWorker

    async with base.phase("an engine to make the log on this broker", _START_AN_ENGINE):
        reload = await open_executors(base, NatsBlobs(base.connection, base.config.prefix), stack)
    workers: dict[str, ExecutorWorker] = {}

    async def attach(name: str, backend: Backend) -> None:
        if name in workers:
            await workers.pop(name).close()
        worker = ExecutorWorker(backend.executor(), base.access, base.config.prefix, name)
        await worker.start()
        workers[name] = worker

    async def close() -> None:
        for worker in reversed(list(workers.values())):
            await worker.close()

    stack.push_async_callback(close)
    for name, backend in reload.backends.items():
        async with base.phase(f"the executor {name}", _LOOK_AT_EXECUTORS):
            await attach(name, backend)
    reload.attach = attach
    reload.start()
    return reload
