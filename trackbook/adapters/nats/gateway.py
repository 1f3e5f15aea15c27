"""Commands from a process without the engine: the same requests that any client sends."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import Unanswered

PATIENCE = 60.0
"""Seconds that an engine may be away or busy before the client gets an error that says to retry."""
ANSWER = 5.0
"""Seconds for one engine to answer. One that died with the request never will, so another is asked then."""
_WAIT = 0.1


class RemoteGateway:
    """Hands commands to whichever engine process answers."""

    def __init__(self, nc: Connection, prefix: str) -> None:
        self._nc, self._prefix = nc, prefix

    async def handle(self, kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        """Return the engine's reply; a request without an answer is sent again, under its own command id."""
        subject = f"{self._prefix}.cmd.{kind}.{verb}"
        data = _with_actor(payload, actor)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                answer = await self._nc.ask(subject, data, timeout=ANSWER)
            except Unanswered as problem:
                if asyncio.get_running_loop().time() > deadline:
                    return _unanswered(data, str(problem))
                await asyncio.sleep(_WAIT)
            else:
                reply: dict[str, Any] = msgspec.json.decode(answer.data)
                return reply


def _with_actor(payload: bytes, actor: str) -> bytes:
    """Return the payload with an id and who carried it in; what is no JSON object, the engine refuses."""
    try:
        plain = msgspec.json.decode(payload)
        return msgspec.json.encode({"actor": actor, "command_id": uuid.uuid4().hex, **plain})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        return payload


def _unanswered(data: bytes, problem: str) -> dict[str, Any]:
    """Return the reply that neither accepts nor rejects: an engine may have carried it out."""
    error = {
        "code": "unavailable",
        "message": f"no engine answered: {problem}",
        "hint": "Send it again with the same command_id.",
    }
    return {"command_id": _id_in(data), "status": "unknown", "seq": 0, "error": error}


def _id_in(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["command_id"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
        return ""
