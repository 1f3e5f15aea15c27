"""The connection to one cluster: its client, its version, and batched reads of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.session_calls import Session, Version
from trackbook.adapters.backendai.config import Cluster

_Ask = Callable[[Client, Iterable[str]], Awaitable[list[Session]]]


class ClusterConnection:
    """A cluster's client and version; call `close` when done."""

    def __init__(self, cluster: Cluster, installation: str) -> None:
        self.cluster = cluster
        self.installation = installation
        self.client = Client(cluster)
        self._version: Version | None = None
        self._asking = asyncio.Lock()
        self.by_id = Reader(self.client, session_calls.sessions_with_ids, "id")
        self.by_name = Reader(self.client, session_calls.sessions_named, "name")

    @property
    def known_version(self) -> Version | None:
        """The manager's version if it was asked for already."""
        return self._version

    async def version(self) -> Version:
        """Return the manager's version, asked for once. Raises ClusterError."""
        async with self._asking:
            if self._version is None:
                self._version = await session_calls.version(self.client)
            return self._version

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


class Reader:
    """Reads sessions; what is asked for while a request is under way goes together into the next one."""

    def __init__(self, client: Client, ask: _Ask, key: str) -> None:
        self._client = client
        self._ask = ask
        self._key = key
        self._wanted: dict[str, asyncio.Future[list[Session]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def read(self, key: str) -> list[Session]:
        """Return the sessions of an id or a name, ended ones too, newest first. Raises ClusterError."""
        if key not in self._wanted:
            self._wanted[key] = asyncio.get_running_loop().create_future()
        found = self._wanted[key]
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_all())
        return await asyncio.shield(found)

    async def _read_all(self) -> None:
        while self._wanted:
            asked, self._wanted = self._wanted, {}
            try:
                found = await self._ask(self._client, asked)
            except BaseException as error:
                for future in asked.values():
                    if isinstance(error, Exception):
                        future.set_exception(error)
                        future.exception()  # each asker may have gone
                    else:
                        future.cancel()
                if not isinstance(error, Exception):
                    raise
                continue
            for key, future in asked.items():
                future.set_result([each for each in found if getattr(each, self._key) == key])
