"""Commands that a process without an engine passes on."""

from __future__ import annotations

import asyncio
import json
from collections import deque

import pytest
from nats.aio.msg import Msg

from trackbook.adapters.nats import gateway
from trackbook.adapters.nats.connection import Connection


async def test_a_command_whose_engine_died_is_asked_again(
    nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that an engine took to its grave is sent to the next one, under the same id."""
    monkeypatch.setattr(gateway, "ANSWER", 0.1)
    taken: deque[Msg] = deque()

    async def engine(message: Msg) -> None:
        taken.append(message)
        if len(taken) > 1:
            await message.respond(b'{"status": "accepted"}')

    await nc.subscribe(f"{prefix}.cmd.job.start", cb=engine)
    await nc.settle()

    async with asyncio.timeout(60):
        reply = await gateway.RemoteGateway(nc, prefix).handle("job", "start", b'{"pipeline": "p"}', "http")

    assert reply == {"status": "accepted"}
    first, second = (json.loads(message.data) for message in taken)
    assert first == second
    assert first["command_id"]


async def test_a_client_that_gets_no_answer_learns_under_which_id_to_ask_again(
    nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no engine answers in time, the reply says so and names the id that was minted."""
    monkeypatch.setattr(gateway, "PATIENCE", 0.0)

    reply = await gateway.RemoteGateway(nc, prefix).handle("job", "start", b"{}", "http")

    assert (reply["status"], reply["error"]["code"]) == ("unknown", "unavailable")
    assert len(reply["command_id"]) == 32
