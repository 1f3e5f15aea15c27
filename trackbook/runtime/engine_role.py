"""The role `engine`: the log, the owners of pipelines and jobs, their executors, and commands over NATS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog
from msgspec import Struct

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.endpoints import import_library
from trackbook.adapters.nats.ingress import Ingress
from trackbook.adapters.nats.pending_writes import no_keeper
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure, installation, renew_installation
from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import LedgerDamaged
from trackbook.errors import UserError
from trackbook.private_files import private_file, require_file
from trackbook.projections.checkpoint import read_checkpoint
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands.gateway import Gateway
from trackbook.runtime.commands.handlers import new_gateway
from trackbook.runtime.commands.requests import REQUESTS, CancelJob
from trackbook.runtime.data_directory.format import is_initialised, mark_initialised
from trackbook.runtime.data_directory.identity import finish_fork
from trackbook.runtime.executor_role import new_executor, open_executors, start_executors
from trackbook.runtime.executors.reload import ExecutorReload
from trackbook.runtime.installation_fork import end_open_jobs
from trackbook.runtime.integrity.evidence import Claim, Integrity
from trackbook.runtime.integrity.witness_command import WitnessCommand
from trackbook.runtime.integrity.witness_file import FILE, AnyWitness, Witness
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.owner import Owner
from trackbook.runtime.pipeline_contents import History
from trackbook.runtime.session_dispatcher import SessionDispatcher
from trackbook.runtime.session_sweep import sweep_all
from trackbook.runtime.system import Base, Config, broker_hint

_CANCEL_WITHIN = 60.0  # seconds for every session to end when the jobs are cancelled with the system

_COMMANDS_AFTER = 1.0
"""Seconds after which a command such as `run` takes commands over NATS: importing FastStream is a seventh of what
a run of one short task costs."""

_COMMANDS_AGAIN = 5.0  # seconds until that is tried again after the broker did not answer

_REBUILD_AGAIN = 15.0  # seconds until the ledger is made again after that failed

log = structlog.get_logger(__name__)


class JobsNotCancelled(UserError):
    """The jobs that are to end with the server did not end in time."""


class Engine(Struct, frozen=True):
    """The engine of a process: what decides, and what it decides on."""

    base: Base
    aggregates: AggregateStore
    history: History
    owner: Owner
    jobs: Jobs
    gateway: Gateway
    executors: ExecutorReload


async def start_engine(base: Base, stack: AsyncExitStack) -> Engine:
    """Open the log, catch up with it, and make ready to decide."""
    config = base.config
    if (known := is_initialised(config.data)) and not (config.data / FILE).exists():
        log.warning(
            "witness.missing", path=str(config.data / FILE), hint="It begins again with what the log holds."
        )
    async with base.phase("the broker's answer about the log's streams"):
        await ensure(base.connection, config.prefix, initialised=known)
        mark_initialised(config.data)
        id_ = await installation(base.connection, config.prefix)
    async with base.phase("the witnesses of the log", "Look at --witness and --witness-command."):
        witnesses = await _witnesses(config, id_, stack)
    ledger = Ledger(private_file(config.data / "engine.db"))
    stack.callback(ledger.close)
    aggregates = open_aggregates(base, ledger, witnesses)
    async with base.phase("the log to be read", progress=lambda: ledger.seen):
        await aggregates.catch_up(_claims(config))
    if base.identity.forking:
        async with base.phase("the jobs of the copy to be ended", progress=base.answers):
            await _fork(base, aggregates)
    async with base.phase("the configuration of the executors"):
        reload = await open_executors(base, aggregates.blobs, stack)
    backends = reload.backends

    async def recover(executor: str) -> None:
        await running.recover(executor)

    executors = {name: new_executor(base, name, backend, recover) for name, backend in backends.items()}
    sessions = SessionDispatcher(executors, aggregates.blobs, backends)
    stack.push_async_callback(sessions.close)
    owner, history = Owner(aggregates), History(aggregates)
    stack.push_async_callback(owner.close)
    running = Jobs(owner, sessions)
    gateway = new_gateway(owner, running, history, backends, executors, reload.refresh)
    await start_executors(base, reload, executors, running.report, recover, stack)
    return Engine(base, aggregates, history, owner, running, gateway, reload)


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


async def _fork(base: Base, aggregates: AggregateStore) -> None:
    """Give the copy an installation id of its own and leave what runs to the original."""
    ended = await end_open_jobs(aggregates)
    new = await renew_installation(base.connection, base.config.prefix)
    aggregates.integrity.set_installation(new)
    finish_fork(base.config.data, base.identity)
    log.info("data.forked", installation=new, jobs_ended=ended)


def open_aggregates(base: Base, ledger: Ledger, witnesses: Sequence[AnyWitness] = ()) -> AggregateStore:
    """Return the aggregates on this process's connection; `witnesses` record what is written."""
    keeper = base.broker.examine if base.broker else no_keeper
    store = NatsEventStore(base.connection, base.config.prefix, keeper=keeper)
    blobs = NatsBlobs(base.connection, base.config.prefix, keeper=keeper, pending=store.pending_writes)
    integrity = Integrity(store, witnesses)
    if witnesses:
        store.recheck = integrity.recheck
    return AggregateStore(store, blobs, ledger, integrity)


async def take_up(engine: Engine, stack: AsyncExitStack) -> None:
    """Take up unfinished jobs, and take commands over NATS once everything else stands."""
    await _watch_ledger(engine, stack)
    async with engine.base.phase("unfinished jobs to be taken up", progress=engine.base.answers):
        taken = await engine.jobs.recover()
    if taken:
        log.info("jobs.taken_up", jobs=taken)
    await sweep_all(engine.jobs, engine.executors.backends, stack)
    if engine.base.config.for_command:
        await _take_commands_later(engine, stack)
    else:
        await _take_commands(engine, stack)
    if engine.base.config.cancel_on_stop:
        stack.push_async_callback(_cancel_jobs, engine)


async def _take_commands(engine: Engine, stack: AsyncExitStack) -> None:
    """Take commands over NATS until `stack` is closed."""
    ingress = Ingress(engine.base.access, engine.base.config.prefix, engine.gateway.handle, REQUESTS)
    async with engine.base.phase("the broker's answer to our subscriptions"):
        await ingress.start()
        stack.push_async_callback(ingress.close)


async def _take_commands_later(engine: Engine, stack: AsyncExitStack) -> None:
    """Take commands over NATS once a command such as `run` has lasted a while: most end before."""
    opened = await stack.enter_async_context(AsyncExitStack())

    async def take() -> None:
        await asyncio.sleep(_COMMANDS_AFTER)
        await asyncio.to_thread(import_library)
        while True:
            try:
                return await _take_commands(engine, opened)
            except UserError as problem:
                log.warning("commands.not_taken", error=str(problem), again_in=_COMMANDS_AGAIN)
                await asyncio.sleep(_COMMANDS_AGAIN)

    tasks = TaskSupervisor()
    tasks.keep(take, "commands over NATS")
    stack.push_async_callback(tasks.close)


async def _cancel_jobs(engine: Engine) -> None:
    """Cancel every job that has not ended and wait until they have; raises JobsNotCancelled."""
    try:
        async with asyncio.timeout(_CANCEL_WITHIN):
            for head in engine.aggregates.ledger.open_heads("job"):
                with contextlib.suppress(Exception):
                    await engine.gateway.give(CancelJob(job=head.id, reason="the server was stopped"))
            await engine.jobs.all_ended()
    except TimeoutError:
        message = f"not all jobs ended within {_CANCEL_WITHIN:g} s after they were cancelled"
        hint = f"Those that did not continue; the next start takes them up. {broker_hint(engine.base.config)}"
        raise JobsNotCancelled(message, hint) from None


async def _watch_ledger(engine: Engine, stack: AsyncExitStack) -> None:
    """Make the ledger again when its file turns out to be damaged; all of it is read once, in the background."""
    aggregates, owner, jobs_ = engine.aggregates, engine.owner, engine.jobs
    damaged, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_damage() -> None:
        loop.call_soon_threadsafe(damaged.set)

    aggregates.ledger.on_damage = on_damage

    async def check() -> None:
        try:
            await asyncio.to_thread(aggregates.ledger.check)
        except LedgerDamaged:
            damaged.set()

    async def mend() -> None:
        while True:
            await damaged.wait()
            damaged.clear()
            log.warning("ledger.rebuilding", path=str(engine.base.config.data / "engine.db"))
            try:
                await aggregates.rebuild_ledger()
                owner.forget()
                await jobs_.recover()
            except Exception as problem:
                log.warning("ledger.not_rebuilt", error=str(problem), again_in=_REBUILD_AGAIN)
                await asyncio.sleep(_REBUILD_AGAIN)
                damaged.set()

    tasks = TaskSupervisor()
    tasks.spawn(check(), "check of the ledger")
    tasks.keep(mend, "mending of the ledger")
    stack.push_async_callback(tasks.close)
