"""Two engines with the real owner on a log that fails at random: clients were answered what the log says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from office import CHAIN, Office, opened
from progress import loop_turns
from seed import SEED
from structlog.testing import capture_logs

from trackbook.adapters.sql.ledger import Ledger
from trackbook.engine.ports import Append, Stored, StoreUnanswered
from trackbook.runtime import log_checks, owner, session_dispatcher
from trackbook.runtime.aggregate import outcomes
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.testing.executor import Play, ScriptedExecutor
from trackbook.testing.store import MemoryEventStore

WORLDS, CLIENTS, COMMANDS = 20, 5, 12
NAMES = ["iris", "moon", "sand"]
AGAIN = {"unavailable", "store_unanswered"}
"""Refusals after which the same command is sent again."""


class Faulty(MemoryEventStore):
    """Is slow, leaves reads unanswered, and loses commits or their acknowledgements, until `heal` is called."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._faults = 0.06

    def heal(self) -> None:
        """Fail no more."""
        self._faults = 0

    async def _delay(self) -> None:
        await loop_turns(self._random.randrange(6))

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none; which of it, one may not learn."""
        await self._delay()
        if self._random.random() < self._faults:
            raise OSError("it was not stored")
        seqs = await super().append(*commits)
        await self._delay()
        if self._random.random() < self._faults:
            raise OSError("no acknowledgement came")
        return seqs

    async def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits, or give up."""
        await self._delay()
        if self._random.random() < self._faults / 4:
            raise StoreUnanswered("no answer")
        async for stored in super().read(kind, id, from_seq):
            yield stored


class World:
    """Two engines, one executor, and clients that send each command until it is accepted or rejected for good."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.folder = Random(seed), folder
        self.store = Faulty(self.random)
        self.executor = ScriptedExecutor(self._play, limit=50)
        self.engines: list[Office] = []
        self.crashed: dict[Office, asyncio.Future[None]] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.jobs: list[str] = []

    def _play(self, _spec: Any) -> Play:
        return Play(exit_code=int(self.random.random() < 0.2), silent=self.random.random() < 0.5)

    async def open(self, name: str) -> None:
        """Start an engine, or the next one on the same ledger."""
        (self.folder / name).mkdir(exist_ok=True)
        blobs = self.engines[0].blobs if self.engines else None
        while True:
            try:
                found = await opened(self.folder / name, self.store, blobs, played={"local": self.executor})
            except (OSError, StoreUnanswered):
                continue
            self.engines.append(found)
            self.crashed[found] = asyncio.get_running_loop().create_future()
            return

    async def crash(self) -> None:
        """End the first engine in the middle of its work, and start it again."""
        victim = self.engines.pop(0)
        await victim.owner.close()
        await victim.sessions.close()
        victim.ledger.close()
        self.crashed[victim].set_result(None)
        await self.open(victim.folder.name)

    def command(self) -> tuple[str, dict[str, Any]]:
        """Return something that a client may ask for."""
        name, other = self.random.choice(NAMES), self.random.choice(NAMES)
        variable = {"op": "set_variable", "variable": "V", "value": str(self.random.randrange(9))}
        yaml = CHAIN.replace("chain", name).replace("echo two", f"echo {self.random.randrange(3)}")
        asked: list[tuple[str, dict[str, Any]]] = [
            ("pipeline.apply", {"yaml": yaml}),
            ("pipeline.apply", {"yaml": yaml}),
            ("pipeline.create", {"name": name}),
            ("pipeline.edit", {"pipeline": name, "changes": [variable]}),
            ("pipeline.rename", {"pipeline": name, "name": other}),
            ("pipeline.restore", {"pipeline": name, "version": 1}),
            ("pipeline.delete", {"pipeline": name}),
            ("job.start", {"pipeline": name}),
            ("job.start", {"pipeline": name}),
        ]
        if self.jobs:
            asked += [
                (f"job.{verb}", {"job": self.random.choice(self.jobs)}) for verb in ("pause", "resume", "cancel")
            ]
        return self.random.choice(asked)

    async def client(self, number: int) -> None:
        """Give commands, each again after it was answered, to either engine."""
        for turn in range(COMMANDS):
            command, payload = self.command()
            payload["command_id"] = f"c{number}-{turn}"
            first = await self.send(command, payload)
            assert await self.send(command, payload) == first, (command, payload)
            self.replies[payload["command_id"]] = first
            if command == "job.start" and "job" in first:
                self.jobs.append(first["job"])

    async def send(self, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send until there is an outcome."""
        while True:
            engine = self.random.choice(self.engines)
            times = self.random.choice((1, 2))
            answers = asyncio.gather(*(engine.ask(command, **payload) for _ in range(times)))
            either: list[asyncio.Future[Any]] = [answers, self.crashed[engine]]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                answers.cancel()
                continue
            found = [one for one in answers.result() if one.get("error", {}).get("code") not in AGAIN]
            if found:
                assert found == [found[0]] * len(found), (command, payload)
                return found[0]

    async def settle(self) -> None:
        """Let everything end once faults have stopped."""
        self.store.heal()
        for engine in self.engines:
            await engine.jobs.recover()
        for job in self.jobs:
            await self.send("job.resume", {"job": job, "command_id": f"resume-{job}"})
        for job in self.jobs:
            await self.engines[-1].ended(job)


async def check_log(world: World) -> None:
    """Check what must hold of the log, whatever happened."""
    office = world.engines[0]
    ledger = Ledger(world.folder / "checked.db")
    aggregates = AggregateStore(world.store, office.blobs, ledger)
    await aggregates.catch_up()
    assert (await log_checks.verify(aggregates, [])).defects == []
    commits = [await aggregates.histories.decode(stored) for stored in world.store.commits]
    found = [(each.command_id, each.reply) for at, c in enumerate(commits, 1) for each in outcomes(c, at)]
    assert [id_ for id_, times in Counter(id_ for id_, _ in found).items() if times > 1] == []
    on_log = dict(found)
    for command_id, reply in world.replies.items():
        if command_id in on_log:
            assert json.loads(json.dumps(on_log[command_id])) == reply
        else:
            assert reply["status"] == "rejected"  # for its payload alone
    pipelines = {c.id for c in commits if c.kind == "pipeline"}
    states = [(await aggregates.load("pipeline", id_)).state for id_ in pipelines]
    names = {c.id: (await aggregates.load("name", c.id)).state for c in commits if c.kind == "name"}
    bearers = {state.pipeline for state in names.values()} - {None}
    assert bearers == {state.id for state in states if not state.deleted}
    living = [state.name for state in states if not state.deleted]
    assert len(living) == len(set(living))
    for kind, id_ in {(c.kind, c.id) for c in commits if c.kind in ("pipeline", "job")}:
        assert (await log_checks.replay(aggregates, kind, id_)).divergence is None
    ledger.close()


async def _run(world: World) -> None:
    async def crashes() -> None:
        for _ in range(2):
            await loop_turns(400)
            await world.crash()

    async with asyncio.timeout(120):
        await asyncio.gather(*(world.client(number) for number in range(CLIENTS)), crashes())
        await world.settle()


@pytest.mark.parametrize("number", range(WORLDS))
async def test_what_clients_were_answered_is_what_the_log_says(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through conflicts, lost acknowledgements and crashes a command has one outcome, a session runs once."""
    monkeypatch.setattr(owner, "_RETRY", 0.001)
    monkeypatch.setattr(session_dispatcher, "_FIRST_WAIT", 0.001)
    world = World(tmp_path, SEED + number)
    for name in ("one", "two"):
        await world.open(name)

    with capture_logs():  # each fault is logged with its traceback
        await _run(world)

    assert set(world.executor.runs.values()) <= {1}
    for engine in world.engines:
        assert [kind for kind, _ in engine.owner._mailboxes.all()].count("job") <= len(world.jobs)
    await check_log(world)
    for engine in world.engines:
        await engine.close()
