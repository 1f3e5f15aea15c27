"""A broker that ends under a server and does not come back, or stores nothing more: all clients are answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conditions import holds
from store_files import StoreFiles

from trackbook.adapters.nats import circuit_breaker, pending_writes
from trackbook.adapters.nats import store as store_module
from trackbook.adapters.nats.broker import BrokerFailed, EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import Unanswered
from trackbook.engine.ports import StoreUnanswered
from trackbook.http.system import running
from trackbook.runtime import engine_role
from trackbook.runtime.app import System
from trackbook.runtime.commands import idempotency
from trackbook.runtime.system import Config

LARGE = 60_000  # bytes of a description
YAML = "name: {name}\ndescription: {text}\ntasks:\n- {{name: a, command: 'true'}}\n"
WAITING = ("outcome_unknown", "store_unanswered", "unavailable")
ENDLESS = "name: {name}\ntasks:\n- {{name: a, command: sleep 600}}\n"


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    """A whole system that loses patience with its broker at once."""
    for module in (circuit_breaker, pending_writes):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(idempotency, "_LOOK_EVERY", 0.05)
    async with asyncio.timeout(240):
        async with running(Config(data=tmp_path, durability="fast", http="127.0.0.1:0")) as system:
            yield system


@pytest.fixture
async def client(system: System) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that waits for long."""
    headers = {"authorization": f"Bearer {system.base.token}"}
    async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
async def nats(system: System) -> AsyncIterator[Connection]:
    """A client's own connection to the broker."""
    assert system.base.broker
    nc = await connect(system.base.broker.client, name="test client")
    yield nc
    await nc.close()


def payload(name: str, command_id: str, yaml: str = YAML, text: str = "short") -> dict[str, Any]:
    """The payload of a `pipeline.apply`."""
    return {"command_id": command_id, "yaml": yaml.format(name=name, text=text)}


async def apply(client: httpx.AsyncClient, name: str, command_id: str) -> tuple[int, dict[str, Any]]:
    """Apply a pipeline over HTTP; return status and reply."""
    answer = await client.post("/api/commands/pipeline/apply", json=payload(name, command_id))
    return answer.status_code, answer.json()


async def commits(system: System) -> Counter[str]:
    """Count the commits on the log by the id of the command that they carry out."""
    assert system.engine is not None
    found: Counter[str] = Counter()
    async for batch in system.engine.aggregates.store.read_all(1):
        for stored in batch:
            inputs = json.loads(stored.data)["inputs"]
            found.update(each["id"] for each in inputs if each.get("id"))
    return found


async def test_a_broker_that_ends_under_a_command_and_returns_late(
    system: System, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away each command gets 503 in words; once it is back the same ids have one outcome each."""
    assert system.base.broker
    assert system.engine is not None
    assert (await apply(client, "before", "c0"))[1]["status"] == "accepted"
    launch, back, sent = system.base.broker._launch, asyncio.Event(), asyncio.Event()
    send = store_module.NatsEventStore._send

    async def refuse(_port: int) -> None:
        if not back.is_set():
            raise BrokerFailed("it does not start over that block")
        await launch(_port)

    async def kill_first(store: Any, given: Any) -> Any:
        assert system.base.broker
        if not sent.is_set():
            sent.set()
            os.kill(system.base.broker.pid, signal.SIGKILL)
        return await send(store, given)

    monkeypatch.setattr(system.base.broker, "_launch", refuse)
    monkeypatch.setattr(store_module.NatsEventStore, "_send", kill_first)

    first = await apply(client, "one", "c1")
    again, later = await apply(client, "one", "c1"), await apply(client, "two", "c2")
    ready = await client.get("/health/ready")
    shown = await client.get("/api/log")
    for look in (system.engine.aggregates.store.condition, system.engine.aggregates.store.restore_limits):
        with pytest.raises(StoreUnanswered, match="the broker is away"):
            await look()
    back.set()
    replies = {}
    for command_id, name in (("c1", "one"), ("c2", "two")):
        while (reply := (await apply(client, name, command_id))[1])["status"] != "accepted":
            assert reply["error"]["code"] in WAITING
        replies[command_id] = reply

    for status, reply in (first, again):
        assert (status, reply["status"], reply["error"]["code"]) == (503, "unknown", "outcome_unknown")
    assert (later[0], later[1]["status"], later[1]["error"]["code"]) == (503, "rejected", "store_unanswered")
    assert ready.status_code == 503
    assert "the broker can't be reached" in ready.text
    assert (shown.status_code, shown.json()["error"]["code"]) == (503, "store_unanswered")
    assert [reply["version"] for reply in replies.values()] == [1, 1]
    found = await commits(system)
    assert (found["c1"], found["c2"]) == (1, 1)
    await holds(lambda: system.engine and system.engine.aggregates.store.problem == "")


async def test_a_stream_that_stores_nothing_more_is_told_over_nats(
    system: System, nats: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is connected and acknowledges nothing: the reply says so; the command is carried out once."""
    assert system.base.broker
    monkeypatch.setattr(store_module, "ANSWER_PATIENCE", 0.3)
    monkeypatch.setattr(EmbeddedBroker, "examine", _no_help)
    assert (await ask(nats, payload("before", "c0")))["status"] == "accepted"
    room = StoreFiles(tmp_path).blocks[-1].stat().st_size + LARGE // 2
    resource.prlimit(system.base.broker.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    large = payload("one", "c1", text="x" * LARGE)

    replies = [await ask(nats, large), await ask(nats, large)]
    await system.base.broker.restart()
    await nats.up()
    reply: dict[str, Any] = {}
    while reply.get("status") != "accepted":
        with contextlib.suppress(Unanswered):  # the engine's own subscriptions come back a moment later
            reply = await ask(nats, large)
            assert reply["status"] == "accepted" or reply["error"]["code"] in WAITING

    assert [(each["status"], each["error"]["code"]) for each in replies] == [("unknown", "outcome_unknown")] * 2
    assert reply["version"] == 1
    assert (await commits(system))["c1"] == 1


async def test_a_server_whose_broker_is_away_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that waits keeps no clean stop from its end, and the next start has all that was acknowledged."""
    monkeypatch.setattr(pending_writes, "PATIENCE", 1.0)
    config = Config(data=tmp_path, durability="fast", http="127.0.0.1:0")
    async with asyncio.timeout(240):
        async with running(config) as system:
            assert system.base.broker
            assert system.engine is not None
            assert (await give(system, payload("before", "c0")))["status"] == "accepted"
            monkeypatch.setattr(system.base.broker, "_launch", _never)
            os.kill(system.base.broker.pid, signal.SIGKILL)
            await holds(lambda: not system.base.connection.is_connected)
            waiting = asyncio.create_task(give(system, payload("one", "c1")))
            await holds(lambda: system.engine and system.engine.aggregates.store.problem)
        await asyncio.wait([waiting])

        async with running(config) as system:
            assert (await give(system, payload("one", "c1")))["version"] == 1
            assert (await commits(system))["c1"] == 1


async def test_a_server_that_can_t_cancel_its_jobs_stops_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--cancel` jobs are cancelled first; where the broker is away, the stop says that they were not."""
    monkeypatch.setattr(engine_role, "_CANCEL_WITHIN", 0.5)
    config = Config(data=tmp_path, durability="fast", http="127.0.0.1:0", cancel_on_stop=True)

    async def serve() -> None:
        async with running(config) as system:
            assert system.base.broker
            assert system.engine is not None
            assert (await give(system, payload("endless", "c1", ENDLESS)))["status"] == "accepted"
            started = await system.engine.gateway.handle("job", "start", b'{"pipeline": "endless"}', "test")
            assert started["status"] == "accepted"
            monkeypatch.setattr(system.base.broker, "_launch", _never)
            os.kill(system.base.broker.pid, signal.SIGKILL)
            await holds(lambda: not system.base.connection.is_connected)

    async with asyncio.timeout(240):
        with pytest.raises(engine_role.JobsNotCancelled, match="not all jobs ended within"):
            await serve()
        monkeypatch.setattr(engine_role, "_CANCEL_WITHIN", 60.0)
        async with running(config) as system:
            assert system.engine is not None
            assert len(system.engine.aggregates.ledger.open_heads("job")) == 1  # and its end ends the session


async def ask(nats: Connection, given: dict[str, Any]) -> dict[str, Any]:
    """Apply a pipeline over NATS and return the reply."""
    answer = await nats.ask("trackbook.cmd.pipeline.apply", json.dumps(given).encode(), timeout=60)
    reply: dict[str, Any] = json.loads(answer.data)
    return reply


async def give(system: System, given: dict[str, Any]) -> dict[str, Any]:
    """Apply a pipeline in the process itself."""
    assert system.engine is not None
    return await system.engine.gateway.handle("pipeline", "apply", json.dumps(given).encode(), "test")


async def _never(_port: int) -> None:
    raise BrokerFailed("it does not start over that block")


async def _no_help(_broker: EmbeddedBroker, _refused: bool) -> None:
    """Leave the stream as it is."""
