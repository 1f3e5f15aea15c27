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
from typing import Literal, Self, TypeVar

import msgspec
import structlog
from msgspec import Struct

from trackbook.adapters.nats.child import find_server, lock, spawn
from trackbook.adapters.nats.connect import Access

Durability = Literal["always", "fast"]
T = TypeVar("T")

SPACE_NEEDED = 64 << 20  # bytes free below which we don't start: a store that fills up breaks in the middle
START_PATIENCE = 30.0  # seconds; a store of a million messages takes about one after a kill
STOP_PATIENCE = 15.0  # seconds until a server that was told to end is killed
LEFTOVER_PATIENCE = 5.0  # seconds for a server whose owner died to end by itself

log = structlog.get_logger("trackbook.broker")


class BrokerFailed(Exception):
    """The embedded broker didn't start; says why, with the last lines of its log."""


class BrokerHeld(Exception):
    """Another process uses the broker's store."""


class Owner(Struct):
    """Who runs the server of a store: process ids of the server and its supervisor, and when that was started."""

    server: int
    supervisor: int
    since: str


class Credentials(Struct):
    """The random passwords of an installation's two users."""

    engine: str
    client: str


class EmbeddedBroker:
    """Runs nats-server under `data`/broker and restarts it when it dies; `async with` starts and stops it.

    `durability` "always" syncs each write to disk before it is acknowledged; "fast" leaves that to the system and
    may lose the last seconds in a power cut, though not in a crash. Writes `data`/nats.json (0600) for clients.
    """

    def __init__(self, data: Path, *, durability: Durability = "always", prefix: str = "trackbook") -> None:
        self.data, self.durability, self.prefix = data, durability, prefix
        self.home = data / "broker"
        self.moved: list[Callable[[str], None]] = []
        self.restarts = 0
        self._port = 0
        self._held = -1
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
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
        return Access(url=self.url, user="client", password=self._credentials.client)

    @property
    def pid(self) -> int:
        """The server's process id, 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start and wait until clients can connect; raises BrokerFailed, BrokerHeld, ServerNotFound."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._server = find_server()
        if trouble := self.space_trouble():
            raise BrokerFailed(trouble)
        self._held = await self._take_store()
        self._credentials = _credentials(self.home / "credentials.json")
        self._stopping = False
        try:
            await self._launch(_known_port(self.data / "nats.json"))
        except BaseException:
            await self.stop()
            raise
        self._guard = asyncio.create_task(self._supervise(), name="broker")

    async def stop(self) -> None:
        """End the server: it writes out and closes its store; killed after STOP_PATIENCE seconds."""
        self._stopping = True
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

    async def restart(self) -> None:
        """End the server and let the supervisor start it again; for one that a full disk has broken."""
        if self._process:
            await _end(self._process)

    def space_trouble(self) -> str | None:
        """Return in words that the disk is (nearly) full, None when there is room."""
        free = shutil.disk_usage(self.home).free
        if free >= SPACE_NEEDED:
            return None
        return (
            f"the disk of {self.home} is full: {free:,} bytes are free, {SPACE_NEEDED:,} are needed. Free some "
            "space, or move the data directory to a larger disk"
        )

    async def _take_store(self) -> int:
        path = self.home / "store.lock"
        deadline = time.monotonic() + LEFTOVER_PATIENCE
        while (held := lock(path)) is None:
            if time.monotonic() > deadline:
                deadline += LEFTOVER_PATIENCE
                self._remove_leftover()
            await asyncio.sleep(0.02)
        return held

    def _remove_leftover(self) -> None:
        owner = _read(self.home / "owner.json", Owner)
        if owner is None or _since(owner.supervisor) == owner.since:
            by = f"process {owner.supervisor}" if owner else "another process"
            raise BrokerHeld(f"the broker of {self.data} is run by {by}; use that one, or stop it first")
        log.warning("broker.leftover", pid=owner.server, hint="its owner died; it is ended")
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.server, signal.SIGKILL)

    async def _launch(self, port: int) -> None:
        """Start the server on `port` if that is free, else on any."""
        port = port if _free(port) else -1
        ports = self.home / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(mode=0o700)
        conf = self.home / "nats.conf"
        _write(conf, self._conf(port).encode())
        self._process = process = await spawn(self._server, conf, self._held)
        _write(
            self.home / "owner.json", msgspec.json.encode(Owner(process.pid, os.getpid(), _since(os.getpid())))
        )
        self._announce(await self._listening(process, ports))

    async def _listening(self, process: asyncio.subprocess.Process, ports: Path) -> int:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline and process.returncode is None:
            if port := _port_in(ports):
                return port
            await asyncio.sleep(0.005)
        await _end(process)
        raise BrokerFailed(f"nats-server did not start: {self.space_trouble() or self._last_words()}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.home / "nats.log").read_text(errors="replace").splitlines()
            return " / ".join([line for line in lines if "[FTL]" in line or "[ERR]" in line][-3:] or lines[-3:])
        return "it left no log"

    def _announce(self, port: int) -> None:
        old, self._port = self._port, port
        known = {"url": self.url, "prefix": self.prefix}
        for path, access in ((self.data / "nats.json", self.client), (self.home / "engine.json", self.engine)):
            _write(path, msgspec.json.encode(known | {"user": access.user, "password": access.password}))
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
            wait = 0.05 if time.monotonic() - started > 10 else min(max(wait * 2, 0.05), 5.0)
            log.error("broker.died", code=code, restart_in=wait, log=self._last_words())
            await asyncio.sleep(wait)
            self.restarts += 1
            try:
                await self._launch(self._port)
            except (BrokerFailed, OSError) as error:
                log.error("broker.start_failed", error=str(error))  # noqa: TRY400 - said in words; tried again

    def _conf(self, port: int) -> str:
        quote = msgspec.json.encode
        cmd, live = f'"{self.prefix}.cmd.>"', f'"{self.prefix}.live.>"'
        sync = "sync_interval: always" if self.durability == "always" else ""
        return f"""\
listen: "127.0.0.1:{port}"
server_name: {self.prefix}
ports_file_dir: {quote(str(self.home / "ports")).decode()}
log_file: {quote(str(self.home / "nats.log")).decode()}
logfile_size_limit: 4MB
logfile_max_num: 3
max_payload: 1MB
jetstream {{
  store_dir: {quote(str(self.home / "store")).decode()}
  max_memory_store: 64MB
  max_file_store: {self._room()}
  {sync}
}}
# Two accounts, since permissions alone don't stop a client: the reply subject of a request isn't checked, and an
# acknowledgement sent to it could become an event. Across accounts a reply never reaches a subject of the engine.
accounts {{
  ENGINE {{
    jetstream: enabled
    users: [{{user: engine, password: "{self._credentials.engine}"}}]
    exports: [{{service: {cmd}}}, {{stream: {live}}}]
  }}
  CLIENT {{
    users: [{{user: client, password: "{self._credentials.client}", permissions: {{
      publish: {{allow: [{cmd}]}}
      subscribe: {{allow: ["_INBOX.>", {live}]}}
    }}}}]
    imports: [{{service: {{account: ENGINE, subject: {cmd}}}}}, {{stream: {{account: ENGINE, subject: {live}}}}}]
  }}
}}
"""

    def _room(self) -> int:
        """Bytes the store may take: what it has and what is free, less a reserve so that refusals stay clean."""
        store = self.home / "store"
        used = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) if store.exists() else 0
        return max(used + shutil.disk_usage(self.home).free - SPACE_NEEDED // 2, 1 << 20)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await process.wait()
        except TimeoutError:
            log.warning("broker.killed", hint=f"it didn't end within {STOP_PATIENCE:.0f} s")
            process.kill()
            await process.wait()


def _credentials(path: Path) -> Credentials:
    if (known := _read(path, Credentials)) is None:
        known = Credentials(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        _write(path, msgspec.json.encode(known))
    return known


def _known_port(path: Path) -> int:
    try:
        return int(str(msgspec.json.decode(path.read_bytes())["url"]).rsplit(":", 1)[1])
    except (OSError, msgspec.DecodeError, KeyError, ValueError, IndexError):
        return 0


def _port_in(folder: Path) -> int:
    for path in folder.glob("*.ports"):
        with contextlib.suppress(msgspec.DecodeError):  # it is being written
            return int(msgspec.json.decode(path.read_bytes())["nats"][0].rsplit(":", 1)[1])
    return 0


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


def _since(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; '' for none. Tells a reused process id apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Replace a file by one that only we can read, at once or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(path)
