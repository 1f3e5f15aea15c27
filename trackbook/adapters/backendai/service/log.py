"""The local copy of what a service's replicas write, in the order of arrival."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.execution import logs

LIMIT = 4 * 2**20
"""Bytes that are kept; what comes later is left out, and a line says so."""
_TIMEOUT = 5.0


class ServiceLog:
    """Written again by each executor that watches the service."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[str, int] = {}
        self._size = 0
        self._last = ""

    async def catch_up(self, client: Client, session: str) -> None:
        """Copy what a replica's session has written since; nothing where its agent can't be asked."""
        try:
            text = await session_calls.logs(client, session, timeout=_TIMEOUT)
        except ClusterError:
            return
        new = text[self._read.get(session, 0) :]
        if new:
            if self._last != session:
                self._write(f"[trackbook: replica {session}]\n")
                self._last = session
            self._write(new)
            self._read[session] = len(text)

    def tail(self) -> str:
        """Return the end of it (see `logs.tail`)."""
        return logs.tail(self._path)

    def _write(self, text: str) -> None:
        if self._size >= LIMIT:
            return
        data = text.encode(errors="replace")
        if self._size + len(data) > LIMIT:
            data = data[: LIMIT - self._size] + b"\n[trackbook: the rest is left out here]\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab" if self._size else "wb") as file:
                file.write(data)
        self._size += len(data)
