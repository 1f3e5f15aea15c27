"""The embedded broker: nats-server on loopback as a supervised child, with its store in the data directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import msgspec
import structlog

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker_files import Owner, config, credentials, known_port, port_in, read, since
from trackbook.adapters.nats.server_process import find_server, lock, spawn
from trackbook.errors import UserError
from trackbook.failpoints import failpoint
from trackbook.private_files import write_private

Durability = Literal["always", "fast"]

SPACE_NEEDED = 64 << 20  # bytes free below which we don't start: a store that fills up breaks in the middle
FIRST_TRIES = 3  # before a server that is killed while it starts is given up; later there is no end to it
START_PATIENCE = 30.0  # seconds; a store of a million messages takes about one after a kill
STOP_PATIENCE = 15.0  # seconds until a server that got SIGTERM is killed
LEFTOVER_PATIENCE = 5.0  # seconds for a server whose owner died to end by itself
LEFTOVER_TRIES = 3  # before a store that stays locked is given up
REVIVE_PAUSE = 10.0  # seconds between restarts of a server that refuses to store
RESTART_PAUSE = 1.0  # seconds at most before a server that keeps dying is started again
LOG_TAIL = 64 << 10  # bytes of the log that are looked at

log = structlog.get_logger("trackbook.broker")


class BrokerFailed(UserError):
    """The embedded broker didn't start; says why, with the last lines of its log."""


class BrokerHeld(UserError):
    """Another process uses the broker's store."""


class EmbeddedBroker:
    """Runs nats-server under `data`/broker and restarts it when it dies; `async with` starts and stops it.

    `durability` "always" syncs each write to disk before it is acknowledged; "fast" leaves that to the system and
    may lose the last seconds in a power cut, though not in a crash. Writes `data`/nats.json (0600) for clients.
    `spawned` is called whenever the server's process has begun: there is time until it listens.
    """

    def __init__(
        self,
        data: Path,
        *,
        durability: Durability = "always",
        prefix: str = "trackbook",
        spawned: Callable[[], None] | None = None,
    ) -> None:
        self.data, self.durability, self.prefix = data, durability, prefix
        self.home = data / "broker"
        self.moved: list[Callable[[str], None]] = []
        self.restarts = 0
        self._spawned = spawned
        self._port = 0
        self._held = -1
        self._wanted_end = False
        self._started_at = 0.0
        self._examining = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = TaskSupervisor()
        self._guard: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def engine(self) -> Access:
        """Access for our own processes: everything, JetStream included."""
        return Access(url=self.url, user="engine", password=self._credentials.engine)

    @property
    def client(self) -> Access:
        """Access for clients: may send commands and follow live commits, nothing else."""
        known = self._credentials
        return Access(url=self.url, user="client", password=known.client, inbox_prefix=known.inbox)

    @property
    def pid(self) -> int:
        """The server's process id, 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start and wait until clients can connect; raises BrokerFailed, BrokerHeld, ServerNotFound."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._server = find_server()
        if problem := self.space_problem():
            raise BrokerFailed(problem)
        self._held = await self._take_store()
        self._credentials = credentials(self.home / "credentials.json")
        try:
            await self._launch_first(known_port(self.data / "nats.json"))
        except BaseException:
            await self.stop()
            raise
        self._guard = self._tasks.keep(self._supervise, "broker")

    async def stop(self) -> None:
        """End the server: it writes out and closes its store; killed after STOP_PATIENCE seconds."""
        if self._guard:
            self._guard.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._guard
            self._guard = None
        if self._process:
            await _end(self._process)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def examine(self, refused: bool) -> str | None:
        """Look after a broker that doesn't store (the Keeper of connect.py); restarts it where that helps.

        A server that met a full disk, or the end of the room it was given at its start, keeps refusing when
        there is space again. After any other write error too it freezes the stream until it is restarted.
        """
        async with self._examining:
            if problem := self.space_problem():
                return problem
            if time.monotonic() - self._started_at > REVIVE_PAUSE and (refused or self._met_write_error()):
                log.warning(
                    "broker.revived", hint="it stores nothing more after a write error until it is restarted"
                )
                await self.restart()
            elif refused:
                return (
                    f"the broker has no room, though the disk of {self.home} isn't full; see {self.home}/nats.log"
                )
        return None

    async def restart(self) -> None:
        """End the server and start it again."""
        self._wanted_end = True
        if self._process:
            await _end(self._process)

    def _met_write_error(self) -> bool:
        lines = [line.lower() for line in self._log_lines()]
        return any("no space left on device" in line or "critical write error" in line for line in lines)

    def space_problem(self) -> str | None:
        """Return in words that the disk is (nearly) full, None when there is room."""
        free = shutil.disk_usage(self.home).free
        if free >= SPACE_NEEDED:
            return None
        return (
            f"the disk of {self.home} is full: {free:,} bytes are free, {SPACE_NEEDED:,} are needed. Free some "
            "space, or move the data directory to a larger disk"
        )

    async def _take_store(self) -> int:
        """Return the locked store; a server whose owner died is ended. Raises BrokerHeld."""
        path = self.home / "store.lock"
        for _ in range(LEFTOVER_TRIES):
            deadline = time.monotonic() + LEFTOVER_PATIENCE
            while (held := lock(path)) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            if held is not None:
                return held
            self._remove_leftover()
        raise BrokerHeld(f"a process that is not the broker of {self.data} has {path} locked; stop it first")

    def _remove_leftover(self) -> None:
        owner = read(self.home / "owner.json", Owner)
        if owner is None or since(owner.supervisor) == owner.since:
            by = f"process {owner.supervisor}" if owner else "another process"
            raise BrokerHeld(f"the broker of {self.data} is run by {by}; use that one, or stop it first")
        if not owner.server_since or since(owner.server) != owner.server_since:
            return  # its process id belongs to another process by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.server, signal.SIGKILL)
        log.warning("broker.leftover", pid=owner.server, hint="its owner died; it is ended")

    async def _launch_first(self, port: int) -> None:
        """Start the server, again if it is killed meanwhile; what it says itself is final."""
        for _ in range(FIRST_TRIES - 1):
            try:
                return await self._launch(port)
            except BrokerFailed:
                if self._process is None or self._process.returncode != -signal.SIGKILL:
                    raise
        return await self._launch(port)

    async def _launch(self, port: int) -> None:
        """Start the server on `port` if that is free, else on another."""
        port = port if _free(port) else _quiet_port()
        ports = self.home / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(mode=0o700)
        conf = self.home / "nats.conf"
        sync = self.durability == "always"
        text = config(self.home, prefix=self.prefix, port=port, sync=sync, passwords=self._credentials)
        write_private(conf, text.encode(), synced=True)
        self._process = process = await spawn(self._server, conf, self._held)
        if self._spawned:
            self._spawned()
        failpoint("broker.spawned")
        owner = Owner(process.pid, os.getpid(), since(os.getpid()), since(process.pid))
        write_private(self.home / "owner.json", msgspec.json.encode(owner), synced=True)
        self._announce(await self._listening(process, ports))
        self._started_at = time.monotonic()
        failpoint("broker.announced")

    async def _listening(self, process: asyncio.subprocess.Process, ports: Path) -> int:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline and process.returncode is None:
            if port := port_in(ports):
                return port
            await asyncio.sleep(0.005)
        why = self.space_problem() or self._last_words() or f"it left no word in {self.home}/nats.log"
        if process.returncode is None:
            why = f"it isn't ready after {START_PATIENCE:.0f} s; its last words: {why}"
        await _end(process)
        raise BrokerFailed(f"nats-server did not start: {why}")

    def _log_lines(self) -> list[str]:
        """Return the last lines that the present server has written into its log."""
        own = f"[{self._process.pid}]" if self._process else "["
        try:
            with (self.home / "nats.log").open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LOG_TAIL, 0))
                lines = file.read().decode(errors="replace").splitlines()
                return [line for line in lines if line.startswith(own)]
        except OSError:
            return []

    def _last_words(self) -> str:
        lines = self._log_lines()
        return " / ".join([line for line in lines if "[FTL]" in line or "[ERR]" in line][-3:] or lines[-3:])

    def _announce(self, port: int) -> None:
        old, self._port = self._port, port
        known = {"url": self.url, "prefix": self.prefix}
        for path, access in ((self.data / "nats.json", self.client), (self.home / "engine.json", self.engine)):
            private = {"inbox_prefix": access.inbox_prefix} if access.inbox_prefix else {}
            credentials = known | {"user": access.user, "password": access.password} | private
            write_private(path, msgspec.json.encode(credentials), synced=True)
        if old and old != port:
            log.warning("broker.moved", url=self.url, hint="the port was taken while the broker was away")
            for call in list(self.moved):
                call(self.url)

    async def _supervise(self) -> None:
        wait = 0.0
        while True:
            assert self._process
            started = time.monotonic()
            code = await self._process.wait()
            wait = 0.0 if time.monotonic() - started > 1 else min(wait * 2 + 0.05, RESTART_PAUSE)
            if not self._wanted_end:
                log.error("broker.died", code=code, restart_in=wait, log=self._last_words())
            self._wanted_end = False
            await asyncio.sleep(wait)
            self.restarts += 1
            try:
                await self._launch(self._port)
            except (BrokerFailed, OSError) as error:
                log.error("broker.start_failed", error=str(error))  # noqa: TRY400 - said in words; tried again


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            log.warning("broker.killed", hint=f"it didn't end within {STOP_PATIENCE:.0f} s")


def _quiet_port() -> int:
    """Return a free port below those that the system gives to outgoing connections, -1 (any) if there is none.

    Else a client that comes back to the port while the server is away may be given that very port for its own
    end: it is connected to itself then, and the server can't have its port back.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 32768
    tries = (lowest - 1 - secrets.randbelow(max(lowest // 2, 1)) for _ in range(50))
    return next((port for port in tries if port > 1023 and _free(port)), -1)


def _free(port: int) -> bool:
    if port <= 0:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
