"""The web role: the projector with its read model, and HTTP over it."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any

import structlog

from trackbook.adapters.execution.session_logs import SessionLogs
from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.adapters.sql.ledger import Ledger
from trackbook.http.app import create_app
from trackbook.http.transport.connections import Connections, most_connections
from trackbook.http.transport.server import HttpServer
from trackbook.private_files import private_file
from trackbook.projections.read.finders import ReadModel
from trackbook.projections.write.projector import NotProjectedError, Projector
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.app import System
from trackbook.runtime.audit import Audit
from trackbook.runtime.backup.writer import Backups
from trackbook.runtime.configured_executors import Configured
from trackbook.runtime.engine_role import open_aggregates
from trackbook.runtime.health import Health
from trackbook.runtime.integrity.evidence import Integrity
from trackbook.runtime.pipeline_contents import History
from trackbook.runtime.process.descriptors import descriptor_limit
from trackbook.runtime.system import Base

log = structlog.get_logger(__name__)
_LOOK = 0.1  # seconds to wait for the read model between looks at the log
_LEVEL_WITHIN = 5.0
"""Seconds for the read model to be level with the log before it is shown: the last process may not have been."""


async def serve(system: System, stack: AsyncExitStack) -> str:
    """Start the projector and HTTP, stopped with `stack`; returns the address."""
    base, engine = system.base, system.engine
    config = base.config
    aggregates = engine.aggregates if engine else _reader(base, stack)

    async def decisions() -> Integrity:
        aggregates.integrity.set_decisions((await aggregates.load_log()).state)
        return aggregates.integrity

    projector = Projector(config.data / "readmodel.db", aggregates.store, aggregates.blobs, decisions)
    stack.push_async_callback(projector.close)  # first: a start that is given up must leave no file open
    async with base.phase("the read model to be opened", f"Look at the disk of {config.data}."):
        await projector.start()
    tasks = TaskSupervisor()
    tasks.keep(projector.run, "projector")
    stack.push_async_callback(tasks.close)
    async with base.phase("the read model to be level with the log"):
        await _catch_up(projector, aggregates)
    executors = Configured(system.executors)
    async with base.phase("the configuration of the executors"):
        await executors.read(base, aggregates.blobs, stack)
    connections = Connections(most_connections(descriptor_limit()))
    application = create_app(
        ReadModel(projector, aggregates.store, aggregates.blobs),
        engine.gateway if engine else _remote_gateway(base),
        SessionLogs(config.data),
        engine.history if engine else History(aggregates),
        Health(base, engine, connections),
        Audit(aggregates, projector),
        executors,
        blobs=aggregates.blobs,
        backups=Backups(base, aggregates),
        token=base.token,
    )
    host, _, port = config.http.rpartition(":")
    server = HttpServer(
        application, host or "127.0.0.1", int(port), stopping=projector.feed.close, connections=connections
    )
    url = await server.start()
    stack.push_async_callback(server.stop)
    return url


async def _catch_up(projector: Projector, aggregates: AggregateStore) -> None:
    """Wait until the read model is level with the log, as far as that can be had quickly."""
    try:
        async with asyncio.timeout(_LEVEL_WITHIN):
            await _wait_for_all(projector, aggregates)
    except TimeoutError:  # a long catch-up continues in the background
        return
    except Exception as error:  # no stream yet, or the broker is unreachable: health reports it
        log.info("web.not_level", why=str(error))


async def _wait_for_all(projector: Projector, aggregates: AggregateStore) -> None:
    """Return once the read model has what the log has; its last messages may be lost."""
    head, before = await aggregates.store.head(), -1
    while projector.checkpoint != before or await _has_more(aggregates, before + 1):
        before = projector.checkpoint
        with contextlib.suppress(NotProjectedError):
            await projector.wait_for(head, _LOOK)
            return


async def _has_more(aggregates: AggregateStore, seq: int) -> bool:
    async for _ in aggregates.store.read_all(seq):
        return True
    return False


def _reader(base: Base, stack: AsyncExitStack) -> AggregateStore:
    """Return an aggregate store that only reads. Its ledger is the engine's, as far as that is written."""
    ledger = Ledger(private_file(base.config.data / "engine.db"), owner=False)
    stack.callback(ledger.close)
    return open_aggregates(base, ledger)


def _remote_gateway(base: Base) -> Any:
    from trackbook.adapters.nats.gateway import RemoteGateway

    return RemoteGateway(base.connection, base.config.prefix)
