"""A client that gives commands over HTTP and bare NATS, again under the same id until there is an outcome."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import httpx
import nats
from nats.aio.client import Client as Nats

Reply = dict[str, Any]
PATIENCE = 60.0
"""Seconds within which every command has an outcome, whatever is killed meanwhile."""
ANSWER = 3.0
"""Seconds after which a request counts as lost."""


class Client:
    """Gives commands; `outcomes` has every outcome that it ever received, by command id."""

    def __init__(self, data: Path, random: Random) -> None:
        self.outcomes: dict[str, list[Reply]] = defaultdict(list)
        self.commands: dict[str, tuple[str, str, Reply]] = {}
        self.sent = 0
        self._data, self._random = data, random
        self._http = httpx.AsyncClient(timeout=ANSWER, trust_env=False)
        self._nats: Nats | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()
        await self._leave_nats()

    async def give(self, kind: str, verb: str, **fields: Any) -> Reply:
        """Give a new command and return its outcome; one in four is sent twice at once."""
        command_id = uuid.UUID(int=self._random.getrandbits(128)).hex
        self.commands[command_id] = (kind, verb, fields)
        if self._random.random() < 0.25:
            return (await asyncio.gather(self.again(command_id), self.again(command_id)))[0]
        return await self.again(command_id)

    async def again(self, command_id: str, **changed: Any) -> Reply:
        """Send a known command until there is an outcome, each time over HTTP or NATS as chance will have it.

        What is `changed` in its payload makes it another command under the same id.
        """
        kind, verb, fields = self.commands[command_id]
        deadline = asyncio.get_running_loop().time() + PATIENCE
        seen = ""
        while asyncio.get_running_loop().time() < deadline:
            way = self._over_http if self._random.random() < 0.5 else self._over_nats
            self.sent += 1
            try:
                reply = await way(kind, verb, {"command_id": command_id, **fields, **changed})
            except Exception as problem:
                seen = repr(problem)
            else:
                if reply["status"] != "unknown" and reply.get("error", {}).get("code") != "unavailable":
                    if not changed:
                        self.outcomes[command_id].append(reply)
                    return reply
                seen = str(reply)
            await asyncio.sleep(self._random.uniform(0.02, 0.1))
        raise AssertionError(f"{kind}.{verb} {command_id} had no outcome within {PATIENCE} s; the last: {seen}")

    async def get(self, path: str, timeout: float = 30.0) -> Any:
        """Return what HTTP shows; raises httpx.HTTPError."""
        answer = await self._http.get(self._url() + path, timeout=timeout)
        return answer.raise_for_status().json()

    async def post(self, path: str) -> Any:
        """Return the answer of HTTP to an empty POST; raises httpx.HTTPError."""
        return (await self._http.post(self._url() + path, timeout=30.0)).raise_for_status().json()

    def _url(self) -> str:
        known = json.loads((self._data / "server.json").read_text())
        if not known["url"]:
            raise ConnectionError("HTTP is not served yet")
        self._http.headers["authorization"] = f"Bearer {known['token']}"  # each start has another
        return str(known["url"])

    async def _over_http(self, kind: str, verb: str, payload: Reply) -> Reply:
        answer = await self._http.post(f"{self._url()}/api/commands/{kind}/{verb}", json=payload)
        reply: Reply = answer.json()
        return reply

    async def _over_nats(self, kind: str, verb: str, payload: Reply) -> Reply:
        connection = await self._connected()
        try:
            answer = await connection.request(
                f"trackbook.cmd.{kind}.{verb}", json.dumps(payload).encode(), timeout=ANSWER
            )
        except (nats.errors.Error, OSError):
            if not connection.is_connected:
                await self._leave_nats()  # the broker may be elsewhere by now
            raise
        reply: Reply = json.loads(answer.data)
        return reply

    async def _connected(self) -> Nats:
        async with self._connecting:
            if self._nats is None:
                self._nats = await connect(self._data / "nats.json")
            return self._nats

    async def _leave_nats(self) -> None:
        left, self._nats = self._nats, None
        if left is not None:
            await left.close()


async def connect(announced: Path) -> Nats:
    """Return a connection to the broker that a file announces: `url`, `user`, `password`."""
    broker = json.loads(await asyncio.to_thread(announced.read_text))
    async with asyncio.timeout(ANSWER):
        return await nats.connect(
            broker["url"], user=broker["user"], password=broker["password"], allow_reconnect=False,
            connect_timeout=1, inbox_prefix=broker.get("inbox_prefix", "_INBOX"), error_cb=_unheard,
        )  # fmt: skip


async def _unheard(_: Exception) -> None:
    """Say nothing: a lost connection is what these tests are about."""
