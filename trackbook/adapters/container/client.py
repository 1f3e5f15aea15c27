"""The engine's API: Docker's, which Podman speaks as well. The client library is imported at the first call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from trackbook.adapters.container.config import HINT, Engine
from trackbook.engine.ports import ExecutorUnavailable

if TYPE_CHECKING:
    from aiodocker import Docker
    from aiohttp import BaseConnector

_ANSWERS_WITHIN = 60.0
"""Seconds for a call that does not wait for a session; creating one from a large image may copy it."""
_CONNECTS_WITHIN = 10.0
_HEADER = 8
_CHUNK = 65536
_FRACTION = re.compile(r"(\.\d{1,6})\d*")
_NO_CONNECTION = 900
"""What the client library has for a status where there was no answer."""


class EngineAway(ExecutorUnavailable):
    """No engine answers, or it broke off: whatever was asked for may have happened or not."""


class EngineRefused(Exception):
    """The engine said no. `status` is that of HTTP, 0 for what it said while it was at it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Seen(Struct, frozen=True):
    """A container as the engine sees it."""

    status: str
    exit_code: int
    out_of_memory: bool
    problem: str
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def waits(self) -> bool:
        """Whether it was never started."""
        return self.status in ("created", "configured", "initialized")

    @property
    def over(self) -> bool:
        """Whether its command has ended."""
        return self.status in ("exited", "dead", "stopped")


class Listed(Struct, frozen=True):
    """A container of ours in a list: its name, the session that it is, and what it does."""

    name: str
    session: str
    status: str


class Facts(Struct, frozen=True):
    """What the engine is and has; `unlimited` names the limits that it can't hold here."""

    name: str
    version: str
    rootless: bool
    selinux: bool
    cores: int
    memory: int
    unlimited: list[str]
    nvidia: bool
    address: str = ""


class Client:
    """Speaks to one engine; every call may raise EngineAway or EngineRefused."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opened: Docker | None = None
        self._connector: BaseConnector | None = None
        self._facts: Facts | None = None

    async def facts(self) -> Facts:
        """Return what the engine is; asked once."""
        if self._facts is None:
            async with self._asking() as docker:
                version, info = await docker.version(), dict(await docker.system.info())
            self._facts = _facts(version, info, self._engine.address() or "")
        return self._facts

    async def inspect(self, name: str) -> Seen | None:
        """Look at a container; None where there is none of that name."""
        try:
            async with self._asking() as docker:
                return _decode_seen(await docker.containers.container(name).show())
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def create(self, name: str, body: dict[str, Any]) -> None:
        """Make a container, which does not run yet."""
        async with self._asking() as docker:
            await docker.containers.create(body, name=name)

    async def start(self, name: str) -> None:
        """Start a container."""
        async with self._asking() as docker:
            await docker.containers.container(name).start()

    async def wait(self, name: str) -> None:
        """Return when the container does not run (any more)."""
        try:
            async with self._asking(None) as docker:
                await docker.containers.container(name).wait()
        except EngineRefused as refused:
            if refused.status != 404:
                raise

    async def stop(self, name: str, grace: float) -> None:
        """Send TERM, and KILL after `grace` seconds; returns once it does not run, or is not there."""
        try:
            async with self._asking(grace + _ANSWERS_WITHIN) as docker:
                await docker.containers.container(name).stop(t=ceil(grace))
        except EngineRefused as refused:
            if refused.status != 404:
                raise

    async def remove(self, name: str) -> None:
        """Remove a container with the volumes that are its own, ending it first; returns where there is none."""
        try:
            async with self._asking() as docker:
                await docker.containers.container(name).delete(force=True, v=True)
        except EngineRefused as refused:
            if refused.status != 404:
                raise

    async def list_labelled(self, label: str) -> list[Listed]:
        """Return all containers with a label (`key=value`), running or not."""
        async with self._asking() as docker:
            found = await docker.containers.list(all=1, filters=f'{{"label":["{label}"]}}')
        return [
            Listed(each["Names"][0].lstrip("/"), each["Labels"].get("trackbook.session", ""), each["State"])
            for each in found
        ]

    async def has_image(self, image: str) -> bool:
        """Whether the engine has the image."""
        try:
            async with self._asking() as docker:
                await docker.images.inspect(image)
        except EngineRefused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    async def pull(self, image: str) -> None:
        """Fetch an image from its registry, however long that takes."""
        async with self._asking(None) as docker:
            async for _ in docker.images.pull(image, stream=True):
                pass

    async def output(self, name: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield what a container wrote, standard output and error in one, from its beginning on."""
        async with self._asking(None) as docker:
            if docker.api_version == "auto":
                await docker.containers.list(limit=1)  # settles the version that is in the address
            address = f"{docker.docker_host}/{docker.api_version}/containers/{name}/logs"
            query = {"stdout": "1", "stderr": "1", "follow": "1" if follow else "0"}
            async with docker.session.get(address, params=query) as response:
                if response.status != 200:
                    raise EngineRefused(response.status, (await response.text())[:500])
                async for piece in _pieces(response.content):
                    yield piece

    async def close(self) -> None:
        """Close the connections."""
        if self._opened:
            await self._opened.close()
            self._opened = None
        if self._connector:
            await self._connector.close()
            self._connector = None

    @asynccontextmanager
    async def _asking(self, within: float | None = _ANSWERS_WITHIN) -> AsyncIterator[Docker]:
        """Give the library's client, and its errors our names."""
        if self._opened is None:
            await asyncio.to_thread(import_module, "aiodocker")  # 0.3 s, for which the loop would stand still
        docker = self._docker()
        from aiodocker.exceptions import DockerError
        from aiohttp import ClientError

        try:
            async with asyncio.timeout(within):
                yield docker
        except DockerError as error:
            if error.status == _NO_CONNECTION:
                raise EngineAway(self._away(str(error.__context__ or error.message))) from None
            raise EngineRefused(error.status, _line(error.message)) from None
        except TimeoutError:
            raise EngineAway(self._away(f"no answer within {within:g} s")) from None
        except (ClientError, OSError) as error:
            raise EngineAway(self._away(str(error) or type(error).__name__)) from None

    def _away(self, why: str) -> str:
        return f"the container engine at {self._engine.address()} can't be reached: {_line(why)}"

    def _docker(self) -> Docker:
        if self._opened is None:
            address = self._engine.address()
            if address is None:
                raise EngineAway(f"{self._engine.missing()}. {HINT}")
            try:
                self._opened = self._open(address)
            except ValueError as error:
                raise EngineAway(f"{address} can't be the address of a container engine: {error}") from None
        return self._opened

    def _open(self, address: str) -> Docker:
        from aiodocker import Docker
        from aiohttp import ClientTimeout, UnixConnector

        timeout = ClientTimeout(total=None, sock_connect=_CONNECTS_WITHIN)
        if not address.startswith("unix://"):
            return Docker(address, timeout=timeout)
        # Two calls stay open for each session, and the library's own connector stops at 100.
        self._connector = UnixConnector(address.removeprefix("unix://"), limit=0)
        return Docker("unix://localhost", connector=self._connector, timeout=timeout)


async def _pieces(content: Any) -> AsyncIterator[bytes]:
    """Yield the payload of the frames in which output comes."""
    try:
        while True:
            left = int.from_bytes((await content.readexactly(_HEADER))[4:], "big")
            while left:
                piece = await content.readexactly(min(left, _CHUNK))
                left -= len(piece)
                yield piece
    except asyncio.IncompleteReadError:
        return


def _facts(version: dict[str, Any], info: dict[str, Any], address: str) -> Facts:
    components = version.get("Components") or [{}]
    podman = "podman" in str(components[0].get("Name", "")).lower()
    security = " ".join(info.get("SecurityOptions") or ())
    limits = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota"}
    return Facts(
        name="Podman" if podman else "Docker",
        version=str(version.get("Version", "")),
        rootless=bool(info.get("Rootless")) or "name=rootless" in security,
        selinux="name=selinux" in security,
        cores=int(info.get("NCPU") or 0),
        memory=int(info.get("MemTotal") or 0),
        unlimited=[limit for limit, flag in limits.items() if not info.get(flag)],
        nvidia=not podman and "nvidia" in (info.get("Runtimes") or {}),
        address=address,
    )


def _decode_seen(shown: dict[str, Any]) -> Seen:
    state = shown["State"]
    return Seen(
        status=state.get("Status") or "",
        exit_code=state.get("ExitCode") or 0,
        out_of_memory=bool(state.get("OOMKilled")),
        problem=_line(state.get("Error") or ""),
        started_at=_moment(state.get("StartedAt")),
        ended_at=_moment(state.get("FinishedAt")),
    )


def _moment(text: str | None) -> datetime | None:
    """Return a time of the engine's, which counts nanoseconds, and has the year 1 for never."""
    if not text or text.startswith("0001"):
        return None
    return datetime.fromisoformat(_FRACTION.sub(r"\1", text))


def _line(text: str) -> str:
    return " ".join(text.split())
