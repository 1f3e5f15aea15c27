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
from typing import Any

import structlog

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.discovery import current_url, engine_access
from trackbook.adapters.nats.jetstream_api import require_server
from trackbook.runtime.data_directory.directory import ServerRecord, hold_directory, record_server
from trackbook.runtime.data_directory.format import refuse_unreadable_data
from trackbook.runtime.data_directory.identity import claim_directory
from trackbook.runtime.process.descriptors import raise_descriptor_limit
from trackbook.runtime.process.watchdog import Watchdog
from trackbook.runtime.system import Config, System

_LOOK = 0.2  # seconds between looks for a log that another process has to make

log = structlog.get_logger(__name__)


def _record(system: System) -> ServerRecord:
    return ServerRecord(os.getpid(), system.url, system.token, system.config.for_command)


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
    token = secrets.token_urlsafe(32) if config.authenticates else ""
    system = System(config, watchdog=watchdog, token=token)
    if unsafe := os.environ.get("TRACKBOOK_UNSAFE"):
        log.warning("unsafe", switched_off=unsafe, hint="for tests only: the log or the sessions may be spoilt")
    async with AsyncExitStack() as stack:
        stack.enter_context(hold_directory(config.data, config.roles))
        refuse_unreadable_data(config.data)
        embedded = "broker" in config.roles and Access.from_env() is None
        system.identity = claim_directory(
            config.data, config.ownership, embedded=embedded, engine="engine" in config.roles
        )
        imports = _Imports(config.roles, load_web)
        await _connect(system, stack, imports)
        web = await imports.finish()
        if "engine" in config.roles:
            from trackbook.runtime.engine_role import start_engine

            await start_engine(system, stack)
        elif "executor" in config.roles:
            from trackbook.runtime.executor_role import start_workers

            await start_workers(system, stack)
        if web is not None:
            system.url = await web(system, stack)
            if config.takes_up_jobs:  # else nobody but this process is to use it
                record_server(config.data, _record(system))
        if "engine" in config.roles and config.takes_up_jobs:
            from trackbook.runtime.engine_role import take_up

            await take_up(system, stack)
        yield system


async def _connect(system: System, stack: AsyncExitStack, imports: _Imports) -> None:
    """Start the broker or find it, and connect as the engine's account; `imports` begin once it starts."""
    config = system.config
    system.access = Access.from_env()
    if system.access is None and "broker" in config.roles:
        broker = EmbeddedBroker(
            config.data, durability=_durability(config), prefix=config.prefix, spawned=imports.begin
        )
        async with system.phase("nats-server to start"):
            system.broker = await stack.enter_async_context(broker)
        system.access = broker.engine
    elif system.access is None:
        async with system.phase(f"a process with the role broker on {config.data}"):
            system.access = await engine_access(config.data)
    # A broker of our own may have to take another port when it restarts.
    where = None if Access.from_env() else lambda: current_url(config.data)
    async with system.phase(f"the broker's answer at {_without_credentials(system.access.url)}"):
        system.connection = await connect(system.access, name="trackbook", where=where)
        stack.push_async_callback(system.connection.close)
        await require_server(system.connection)


def _without_credentials(urls: str) -> str:
    """Return the addresses without what may be a password in them."""
    return ", ".join(url.rpartition("@")[2].rpartition("//")[2].strip() for url in urls.split(","))


def _durability(config: Config) -> Any:
    if config.durability not in ("always", "fast"):
        raise ValueError(f"durability is `always` or `fast`, not {config.durability!r}")
    return config.durability
