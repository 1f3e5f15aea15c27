"""The composition root: which parts run in this process, what is real, and in which order they start and stop.

Only what a broker needs is imported at once; what the other roles need is imported while nats-server starts.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Struct

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.discovery import current_url, engine_access
from trackbook.adapters.nats.jetstream_api import require_server
from trackbook.runtime.data_directory.directory import ServerRecord, hold_directory, record_server
from trackbook.runtime.data_directory.format import refuse_unreadable_data
from trackbook.runtime.data_directory.identity import claim_directory
from trackbook.runtime.process.descriptors import raise_descriptor_limit
from trackbook.runtime.process.watchdog import Watchdog
from trackbook.runtime.system import Base, Config, start_phase

if TYPE_CHECKING:  # a process that is only a broker needs neither
    from trackbook.runtime.engine_role import Engine
    from trackbook.runtime.executors.reload import ExecutorReload

_LOOK = 0.2  # seconds between looks for a log that another process has to make

log = structlog.get_logger(__name__)


class System(Struct):
    """The roles that run in this process; None for those that do not. `url` is the web role's address."""

    base: Base
    engine: Engine | None = None
    executors: ExecutorReload | None = None
    url: str = ""


Web = Callable[[System, AsyncExitStack], Awaitable[str]]
"""Starts the web role, to be stopped with the stack, and returns its address; it belongs to the layer above."""


class _Imports:
    """What the roles of this process are made of, imported on a thread while the loop waits for the broker.

    Nothing else may be imported meanwhile: of two threads that import a circle, one finds half of a module.
    """

    def __init__(self, roles: frozenset[str], load_web: Callable[[], Web] | None) -> None:
        self._roles, self._load_web = roles, load_web
        self._task: asyncio.Task[Web | None] | None = None

    def begin(self) -> None:
        """Begin to import, unless that was done."""
        if self._task is None:
            self._task = asyncio.create_task(asyncio.to_thread(self._import), name="imports")

    async def finish(self) -> Web | None:
        """Wait for the imports, and return what starts the web role if it runs here."""
        self.begin()
        assert self._task is not None
        return await self._task

    def _import(self) -> Web | None:
        if "engine" in self._roles:
            import_module("trackbook.runtime.engine_role")
        elif "executor" in self._roles:
            import_module("trackbook.runtime.executor_role")
        return self._load_web() if self._load_web and "web" in self._roles else None


@asynccontextmanager
async def running(
    config: Config, load_web: Callable[[], Web] | None = None, watchdog: Watchdog | None = None
) -> AsyncIterator[System]:
    """Start the parts that `config` names and stop them in the opposite order; the role `web` needs `load_web`.

    What a `watchdog` finds is reported as a problem of the system.

    Raises DataDirectoryHeld, NewerFormat, OlderFormat, DataDirectoryCopied, BrokerFailed, BrokerUnfit, LogDamaged
    and others that say what was found.
    """
    raise_descriptor_limit()
    if unsafe := os.environ.get("TRACKBOOK_UNSAFE"):
        log.warning("unsafe", switched_off=unsafe, hint="for tests only: the log or the sessions may be spoilt")
    async with AsyncExitStack() as stack:
        stack.enter_context(hold_directory(config.data, config.roles))
        refuse_unreadable_data(config.data)
        embedded = "broker" in config.roles and Access.from_env() is None
        identity = claim_directory(
            config.data, config.ownership, embedded=embedded, engine="engine" in config.roles
        )
        imports = _Imports(config.roles, load_web)
        broker, access = await _broker(config, stack, imports)
        base = Base(
            config=config,
            identity=identity,
            access=access,
            connection=await _connect(config, access, stack),
            broker=broker,
            watchdog=watchdog,
            token=secrets.token_urlsafe(32) if config.authenticates else "",
        )
        web = await imports.finish()
        system = System(base)
        if "engine" in config.roles:
            from trackbook.runtime.engine_role import start_engine

            system.engine = await start_engine(base, stack)
            system.executors = system.engine.executors
        elif "executor" in config.roles:
            from trackbook.runtime.executor_role import start_workers

            system.executors = await start_workers(base, stack)
        if web is not None:
            system.url = await web(system, stack)
            if config.takes_up_jobs:  # else nobody but this process is to use it
                record = ServerRecord(os.getpid(), system.url, base.token, config.for_command)
                record_server(config.data, record)
        if system.engine is not None and config.takes_up_jobs:
            from trackbook.runtime.engine_role import take_up

            await take_up(system.engine, stack)
        yield system


async def _broker(
    config: Config, stack: AsyncExitStack, imports: _Imports
) -> tuple[EmbeddedBroker | None, Access]:
    """Start the broker or find it; `imports` begin once it starts."""
    if access := Access.from_env():
        return None, access
    if "broker" not in config.roles:
        async with start_phase(config, f"a process with the role broker on {config.data}"):
            return None, await engine_access(config.data)
    broker = EmbeddedBroker(
        config.data, durability=_durability(config), prefix=config.prefix, spawned=imports.begin
    )
    async with start_phase(config, "nats-server to start"):
        await stack.enter_async_context(broker)
    return broker, broker.engine


async def _connect(config: Config, access: Access, stack: AsyncExitStack) -> Connection:
    """Connect as the engine's account."""
    # A broker of our own may have to take another port when it restarts.
    where = None if Access.from_env() else lambda: current_url(config.data)
    async with start_phase(config, f"the broker's answer at {_without_credentials(access.url)}"):
        connection = await connect(access, name="trackbook", where=where)
        stack.push_async_callback(connection.close)
        await require_server(connection)
    return connection


def _without_credentials(urls: str) -> str:
    """Return the addresses without what may be a password in them."""
    return ", ".join(url.rpartition("@")[2].rpartition("//")[2].strip() for url in urls.split(","))


def _durability(config: Config) -> Any:
    if config.durability not in ("always", "fast"):
        raise ValueError(f"durability is `always` or `fast`, not {config.durability!r}")
    return config.durability
