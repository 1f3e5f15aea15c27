"""Commands over NATS, on a real broker with its two accounts, with a gateway that only notes what reached it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.errors import Error as NatsError

from trackbook.adapters.nats import ingress
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import BrokerUnreachable
from trackbook.adapters.nats.ingress import Ingress


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """`job.start`: run it."""

    pipeline: str


REQUESTS: dict[tuple[str, str], type[msgspec.Struct]] = {("job", "start"): Start, ("job", "cancel"): Start}


class Desk:
    """Stands where the gateway stands."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reply: dict[str, Any] = {"status": "accepted"}

    async def handle(self, kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        """Note the command, wait at the gate, reply."""
        self.seen.append((kind, verb, payload, actor))
        await self.gate.wait()
        return self.reply


class System:
    """A broker, an ingress on it, and a client that may do what clients may."""

    def __init__(self, broker: EmbeddedBroker, desk: Desk, ingress: Ingress, client: Connection) -> None:
        self.broker, self.desk, self.ingress, self.client = broker, desk, ingress, client

    async def ask(self, command: str, payload: bytes = b"{}", timeout: float = 10.0) -> dict[str, Any]:
        """Send a command and return its reply."""
        answer = await self.client.request(f"trackbook.cmd.{command}", payload, timeout=timeout)
        reply: dict[str, Any] = msgspec.json.decode(answer.data)
        return reply


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Run the system for one test."""
    async with EmbeddedBroker(tmp_path) as broker:
        desk = Desk()
        ingress = Ingress(broker.engine, "trackbook", desk.handle, REQUESTS)
        await ingress.start()
        client = await connect(broker.client, name="test client")
        try:
            yield System(broker, desk, ingress, client)
        finally:
            desk.gate.set()
            await client.close()
            await ingress.close()


async def eventually(true: Callable[[], bool | Awaitable[bool]], patience: float = 10.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(patience):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def test_a_command_reaches_the_gateway_as_it_was_sent(system: System) -> None:
    """Kind and verb come from the subject, the payload byte for byte, and the reply is the gateway's."""
    payload = b' {"pipeline" :"a"} '
    assert await system.ask("job.start", payload) == {"status": "accepted"}
    assert system.desk.seen == [("job", "start", payload, "nats")]


@pytest.mark.parametrize("payload", [b"", b"no json", b"\xff\xfe", b"[1]", b'{"pipeline": 7}'])
async def test_what_a_payload_is_worth_is_for_the_gateway_to_say(system: System, payload: bytes) -> None:
    """Nothing is refused on the way: broken and invalid payloads get the gateway's answer too."""
    assert await system.ask("job.start", payload) == {"status": "accepted"}
    assert [seen[2] for seen in system.desk.seen] == [payload]


@pytest.mark.parametrize("command", ["job.dance", "cake.bake", "job", "job.start.now"])
async def test_an_unknown_command_is_answered(system: System, command: str) -> None:
    """A subject that names no command reaches the gateway, which says so; it is not met with silence."""
    kind, _, verb = command.partition(".")
    await system.ask(command)
    assert [seen[:2] for seen in system.desk.seen] == [(kind, verb)]


async def test_a_command_is_handled_once(system: System) -> None:
    """The endpoint for unknown commands shares the queue group of the others: no request reaches two."""
    numbers = [str(number).encode() for number in range(300)]
    await asyncio.gather(*(system.ask("job.start", number) for number in numbers))
    assert sorted(seen[2] for seen in system.desk.seen) == sorted(numbers)


async def test_two_processes_share_the_commands(system: System) -> None:
    """With two engines on one broker each command still reaches exactly one of them."""
    other = Desk()
    second = Ingress(system.broker.engine, "trackbook", other.handle, REQUESTS)
    await second.start()
    numbers = [str(number).encode() for number in range(300)]
    await asyncio.gather(*(system.ask("job.start", number) for number in numbers))
    assert sorted(seen[2] for seen in [*system.desk.seen, *other.seen]) == sorted(numbers)
    assert other.seen
    assert system.desk.seen
    await second.close()


async def test_commands_wait_for_their_commits_together(system: System) -> None:
    """A command that is not committed yet holds up no other: a hundred are under way at the same time."""
    system.desk.gate.clear()
    asked = [asyncio.create_task(system.ask("job.start")) for _ in range(100)]
    await eventually(lambda: len(system.desk.seen) == 100)
    system.desk.gate.set()
    assert await asyncio.gather(*asked) == [{"status": "accepted"}] * 100


async def test_closing_answers_what_is_under_way(system: System) -> None:
    """A command that was taken gets its reply even though the ingress is closing."""
    system.desk.gate.clear()
    asked = asyncio.create_task(system.ask("job.start"))
    await eventually(lambda: bool(system.desk.seen))
    closing = asyncio.create_task(system.ingress.close())
    system.desk.gate.set()
    assert await asked == {"status": "accepted"}
    await closing


async def test_commands_come_in_again_after_the_broker_died(system: System) -> None:
    """Killed and restarted, the broker carries commands again without anybody's help."""
    await system.ask("job.start")
    system.broker._process.kill()  # type: ignore[union-attr]

    async def answered() -> bool:
        with contextlib.suppress(NatsError):
            return await system.ask("job.start", timeout=0.5) == {"status": "accepted"}
        return False

    await eventually(lambda: system.broker.restarts == 1)
    await eventually(answered)


async def test_a_client_can_send_commands_and_nothing_else(system: System) -> None:
    """The client's account reaches neither the log nor the subjects between engine and executors."""
    engine = await connect(system.broker.engine, name="spy")
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    for subject in ("trackbook.evt.>", "trackbook.exec.>", "trackbook.live.>"):
        await engine.subscribe(subject, cb=hear)
    await engine.flush()
    for subject in ("trackbook.evt.job.j1", "trackbook.exec.gpu.launch", "trackbook.exec.gpu.report.j1"):
        await system.client.publish(subject, b"{}")
        # The reply subject of a command is the way round permissions; accounts close it.
        await system.client.publish("trackbook.cmd.job.start", b"{}", reply=subject)
    await system.client.flush()
    await eventually(lambda: len(system.desk.seen) == 3)
    await system.ask("job.start")
    await engine.flush()
    assert heard == []
    await engine.close()


async def test_a_reply_too_long_for_the_broker_is_shortened(system: System) -> None:
    """The outcome gets through; the lists that did not fit are named."""
    system.desk.reply = {
        "status": "rejected",
        "seq": 7,
        "changes": ["x" * 100] * 9000,
        "warnings": [{"code": "w"}],
        "error": {"code": "invalid", "others": [{"message": "x" * 100}] * 9000},
    }
    reply = await system.ask("job.start")
    assert reply == {
        "status": "rejected",
        "seq": 7,
        "error": {"code": "invalid"},
        "warnings": [{"code": "w"}],
        "omitted": ["changes", "others"],
    }


async def test_without_a_broker_the_ingress_says_so(tmp_path: Path) -> None:
    """Starting where nobody listens ends after the given time with words, not for ever."""
    async with EmbeddedBroker(tmp_path) as broker:
        access = broker.engine
    with pytest.raises(BrokerUnreachable, match="no broker answers"):
        await Ingress(access, "trackbook", Desk().handle, REQUESTS).start(patience=0.3)


def test_faststream_is_not_imported_before_it_is_needed() -> None:
    """Importing the module is cheap, since the CLI's short commands import what it stands beside."""
    import subprocess
    import sys

    code = f"import sys, {ingress.__name__}; sys.exit('faststream' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
