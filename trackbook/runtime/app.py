"""The composition root: which parts run in this process, what is real, and in which order they start and stop."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connect import Access, connect, no_keeper, require_server
from trackbook.adapters.nats.find import current_url, engine_access
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure, installation, renew_installation
from trackbook.adapters.sql.ledger import Ledger, LedgerDamaged
from trackbook.private_files import private_file, require_file
from trackbook.projections.checkpoint import read_checkpoint
from trackbook.runtime.book import Book
from trackbook.runtime.data import (
    ServerRecord,
    held,
    record_server,
)
from trackbook.runtime.data_format import is_initialised, mark_initialised, refuse_newer_data
from trackbook.runtime.data_identity import Identity, finish_fork
from trackbook.runtime.descriptors import raise_descriptor_limit
from trackbook.runtime.fork import claim_directory, end_open_jobs
from trackbook.runtime.handlers import new_gateway
from trackbook.runtime.history import History
from trackbook.runtime.integrity import Claim, Integrity
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.requests import REQUESTS
from trackbook.runtime.session_executors import new_executor, open_backends, start_executors, start_workers
from trackbook.runtime.sessions import Sessions
from trackbook.runtime.sweep import sweep_all
from trackbook.runtime.system import Config, System
from trackbook.runtime.watchdog import Watchdog
from trackbook.runtime.witness import FILE, AnyWitness, Witness
from trackbook.runtime.witness_command import WitnessCommand

_REBUILD_AGAIN = 15.0  # seconds until the ledger is made again after that failed

_LOOK = 0.2  # seconds between looks for a log that another process has to make

log = structlog.get_logger(__name__)


def _record(system: System) -> ServerRecord:
    return ServerRecord(os.getpid(), system.url, system.token, system.config.for_command)


Web = Callable[[System, AsyncExitStack], Awaitable[str]]
"""Starts the web role, to be stopped with the stack, and returns its address; it stands above this layer."""


@asynccontextmanager
async def running(
    config: Config, web: Web | None = None, watchdog: Watchdog | None = None
) -> AsyncIterator[System]:
    """Start the parts that `config` names and stop them in the opposite order; the role `web` needs `web`.

    What a `watchdog` finds is reported as a problem of the system.

    Raises DataDirectoryHeld, NewerFormat, DataDirectoryCopied, BrokerFailed, BrokerUnfit, LogDamaged and others
    that say what was found.
    """
    raise_descriptor_limit()
    token = secrets.token_urlsafe(32) if config.authenticates else ""
    system = System(config, watchdog=watchdog, token=token)
    if unsafe := os.environ.get("TRACKBOOK_UNSAFE"):
        log.warning("unsafe", switched_off=unsafe, hint="for tests only: the log or the sessions may be spoilt")
    async with AsyncExitStack() as stack:
        stack.enter_context(held(config.data, config.roles))
        refuse_newer_data(config.data)
        embedded = "broker" in config.roles and Access.from_env() is None
        system.identity = claim_directory(
            config.data, config.ownership, embedded=embedded, engine="engine" in config.roles
        )
        await _connect(system, stack)
        if "engine" in config.roles:
            await _engine(system, stack)
        elif "executor" in config.roles:
            await start_workers(system, stack)
        if "web" in config.roles and web is not None:
            system.url = await web(system, stack)
            if config.takes_up_jobs:  # else nobody but this process is to use it
                record_server(config.data, _record(system))
        if "engine" in config.roles and config.takes_up_jobs:
            await _take_up(system, stack)
        yield system


async def _connect(system: System, stack: AsyncExitStack) -> None:
    """Start the broker or find it, and connect as the engine's account."""
    config = system.config
    system.access = Access.from_env()
    if system.access is None and "broker" in config.roles:
        broker = EmbeddedBroker(config.data, durability=_durability(config), prefix=config.prefix)
        async with system.phase("nats-server to start"):
            system.broker = await stack.enter_async_context(broker)
        system.access = broker.engine
    elif system.access is None:
        async with system.phase(f"a process with the role broker on {config.data}"):
            system.access = await engine_access(config.data)
    # A broker of our own may have to take another port when it restarts.
    where = None if Access.from_env() else lambda: current_url(config.data)
    async with system.phase(f"the broker's answer at {_shown(system.access.url)}"):
        system.connection = await connect(system.access, name="trackbook", where=where)
        stack.push_async_callback(system.connection.close)
        await require_server(system.connection)


def _shown(urls: str) -> str:
    """Return the addresses without what may be a password in them."""
    return ", ".join(url.rpartition("@")[2].rpartition("//")[2].strip() for url in urls.split(","))


def _durability(config: Config) -> Any:
    if config.durability not in ("always", "fast"):
        raise ValueError(f"durability is `always` or `fast`, not {config.durability!r}")
    return config.durability


async def _engine(system: System, stack: AsyncExitStack) -> None:
    """Open the log, catch up with it, and make ready to decide."""
    assert system.connection is not None
    config = system.config
    if (known := is_initialised(config.data)) and not (config.data / FILE).exists():
        log.warning(
            "witness.missing", path=str(config.data / FILE), hint="It begins again with what the log holds."
        )
    async with system.phase("the broker's answer about the log's streams"):
        await ensure(system.connection, config.prefix, initialised=known)
        mark_initialised(config.data)
        id_ = await installation(system.connection, config.prefix)
    async with system.phase("the witnesses of the log", "Look at --witness and --witness-command."):
        witnesses = await _witnesses(config, id_, stack)
    ledger = Ledger(private_file(config.data / "engine.db"))
    stack.callback(ledger.close)
    book = open_book(system, ledger, witnesses)
    system.book, system.history = book, History(book)
    async with system.phase("the log to be read", progress=lambda: ledger.seen):
        await book.catch_up(_claims(config))
    assert system.identity is not None
    if system.identity.forking:
        async with system.phase("the jobs of the copy to be ended", progress=system.answers):
            await _fork(system, system.identity)
    async with system.phase("the configuration of the executors"):
        system.backends = await open_backends(system, stack)
    assert system.reload is not None
    executors = {name: new_executor(system, name, backend) for name, backend in system.backends.items()}
    sessions = Sessions(executors, book.blobs, system.backends)
    stack.push_async_callback(sessions.close)
    system.jobs = Jobs(book, sessions)
    stack.push_async_callback(system.jobs.close)
    system.gateway = new_gateway(
        book, system.jobs, system.history, system.backends, executors, system.reload.refresh
    )
    await start_executors(system, executors, stack)


def _claims(config: Config) -> list[Claim]:
    """Return what the read model knows of the log: a store that is older was put back."""
    found = read_checkpoint(config.data / "readmodel.db")
    return [Claim("readmodel.db", *found)] if found else []


async def _witnesses(config: Config, installation_id: str, stack: AsyncExitStack) -> list[AnyWitness]:
    """Open what remembers how far the log had come: a file of our own, and those outside that are configured."""
    found: list[AnyWitness] = []
    for path in (config.data / FILE, config.witness):
        if path is not None:
            require_file(path, "Move it away, or name another with --witness.")
            witness = Witness(path, installation_id)
            stack.callback(witness.close)
            found.append(witness)
    if config.witness_command:
        command = await WitnessCommand.start(config.witness_command, installation_id)
        stack.callback(command.close)
        found.append(command)
    return found


async def _fork(system: System, identity: Identity) -> None:
    """Give the copy an installation id of its own and leave what runs to the original."""
    assert system.book is not None
    assert system.connection is not None
    ended = await end_open_jobs(system.book)
    new = await renew_installation(system.connection, system.config.prefix)
    system.book.integrity.renamed(new)
    finish_fork(system.config.data, identity)
    log.info("data.forked", installation=new, jobs_ended=ended)


def open_book(system: System, ledger: Ledger, witnesses: Sequence[AnyWitness] = ()) -> Book:
    """Return the book on this process's connection; what it writes, `witnesses` remember."""
    assert system.connection is not None
    keeper = system.broker.examine if system.broker else no_keeper
    store = NatsEventStore(system.connection, system.config.prefix, keeper=keeper)
    blobs = NatsBlobs(system.connection, system.config.prefix, keeper=keeper, waits=store.waits)
    integrity = Integrity(store, witnesses)
    if witnesses:
        store.recheck = integrity.recheck
    return Book(store, blobs, ledger, integrity)


async def _take_up(system: System, stack: AsyncExitStack) -> None:
    """Take up unfinished jobs, and take commands over NATS once everything else stands."""
    assert system.jobs is not None
    assert system.gateway is not None
    assert system.access is not None
    await _watch_ledger(system, stack)
    async with system.phase("unfinished jobs to be taken up", progress=system.answers):
        taken = await system.jobs.recover()
    if taken:
        log.info("jobs.taken_up", jobs=taken)
    await sweep_all(system, stack)
    from trackbook.adapters.nats.ingress import Ingress

    ingress = Ingress(system.access, system.config.prefix, system.gateway.handle, REQUESTS)
    async with system.phase("the broker's answer to our subscriptions"):
        await ingress.start()
        stack.push_async_callback(ingress.close)
    if system.config.cancel_on_stop:
        stack.push_async_callback(system.cancel_jobs)


async def _watch_ledger(system: System, stack: AsyncExitStack) -> None:
    """Make the ledger again when its file turns out to be damaged; all of it is read once, in the background."""
    book, jobs_ = system.book, system.jobs
    assert book is not None
    assert jobs_ is not None
    damaged, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_damage() -> None:
        loop.call_soon_threadsafe(damaged.set)

    book.ledger.on_damage = on_damage

    async def check() -> None:
        try:
            await asyncio.to_thread(book.ledger.check)
        except LedgerDamaged:
            damaged.set()

    async def mend() -> None:
        while True:
            await damaged.wait()
            damaged.clear()
            log.warning("ledger.rebuilding", path=str(system.config.data / "engine.db"))
            try:
                await book.rebuild_ledger()
                await jobs_.resume()
            except Exception as problem:
                log.warning("ledger.not_rebuilt", error=str(problem), again_in=_REBUILD_AGAIN)
                await asyncio.sleep(_REBUILD_AGAIN)
                damaged.set()

    tasks = [asyncio.create_task(check()), asyncio.create_task(mend())]

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(end)
