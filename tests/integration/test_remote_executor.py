"""An executor in another process, with kills at every step between the two."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from remote_process import Kept, Plan
from seed import SEED
from steps import Steps

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.engine.ports import SessionSpec


class Processes:
    """A broker here, engine and worker as processes of their own, and sessions that write into a ledger."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, count: int, failpoints: dict[str, str]) -> None:
        self.broker, self._folder = broker, folder
        self.ledger = folder / "ledger"
        sessions = [
            SessionSpec(f"tb-j1-{n}-1", "j1", "p1", "p", f"tb-j1-{n}-1", n, 1, self._command(n))
            for n in range(count)
        ]
        self.plan = Plan(broker.engine, folder, sessions)
        file = folder / "plan.json"
        file.write_bytes(msgspec.json.encode(self.plan, enc_hook=str))
        self.engine = Kept("engine", file, self._points(failpoints, "exec."))
        self.worker = Kept("worker", file, self._points(failpoints, "worker."))

    def _command(self, number: int) -> str:
        held = f"until [ -e {self._folder / 'gate'} ]; do sleep 0.05; done" if number % 10 == 0 else "true"
        return f"echo tb-j1-{number}-1 >> {self.ledger}; sleep 0.0{number % 10}; {held}"

    def open_gate(self) -> None:
        """Let every tenth session end, which waits for this."""
        (self._folder / "gate").touch()

    @staticmethod
    def _points(failpoints: dict[str, str], prefix: str) -> dict[str, str]:
        return {
            "TRACKBOOK_FAILPOINTS": ",".join(f"{k}={v}" for k, v in failpoints.items() if k.startswith(prefix))
        }

    async def all_ended(self) -> None:
        """Wait until the engine has taken the end of every session."""
        wanted = {spec.session for spec in self.plan.sessions}
        async with asyncio.timeout(60):
            while set(self.plan.ended()) != wanted:  # noqa: ASYNC110 - another process writes the journal
                await asyncio.sleep(0.02)

    def check(self) -> None:
        """No command ran twice and none was lost."""
        ran = Counter(self.ledger.read_text().split())
        assert ran == Counter(spec.session for spec in self.plan.sessions)


@asynccontextmanager
async def processes(
    folder: Path, count: int, failpoints: dict[str, str] | None = None
) -> AsyncIterator[Processes]:
    """Run the processes."""
    async with EmbeddedBroker(folder / "broker") as broker:
        running = Processes(broker, folder, count, failpoints or {})
        try:
            yield running
        finally:
            running.open_gate()  # no command outlives a test that failed
            await running.engine.close()
            await running.worker.close()


@pytest.mark.parametrize(
    "point",
    [
        "exec.launch.before",
        "exec.launch.taken",
        "exec.report.received",
        "exec.report.committed",
        "worker.launch.received",
        "worker.report.before",
        "worker.report.answered",
    ],
)
async def test_a_kill_between_the_two_ends(tmp_path: Path, point: str) -> None:
    """Whichever end is killed at whichever step, every command runs once and every end reaches the engine."""
    async with processes(tmp_path, 12, {point: "kill@5"}) as running:
        running.open_gate()
        await running.all_ended()
        running.check()
        assert running.engine.lives + running.worker.lives == 3


async def kill(broker: EmbeddedBroker) -> None:
    """Kill the broker's server, once it runs: it may just be restarted after an earlier kill."""
    async with asyncio.timeout(60):
        while True:
            if pid := broker.pid:
                with suppress(ProcessLookupError):  # it has just died, and its supervisor doesn't know yet
                    return os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(3))
async def test_kills_at_any_moment(tmp_path: Path, seed: int) -> None:
    """With engine, worker and broker killed again and again, every command runs once and every end is taken.

    Each kill comes after a number of begins and ends. What happens between two of them, the restart of what was
    killed before above all, leaves no trace to count: a part of a second is added.
    """
    chance = random.Random(f"{SEED}/{seed}")
    victims = [*("engine", "worker", "broker") * 2, chance.choice(("engine", "worker", "broker"))]
    chance.shuffle(victims)
    async with processes(tmp_path, 60) as running:
        ended = asyncio.create_task(running.all_ended())
        steps = Steps(running.ledger, running.plan.journal)
        before_the_gate = 60 + 54  # every command begins, and all but each tenth end
        for victim, moment in zip(victims, sorted(chance.sample(range(before_the_gate), 7)), strict=True):
            await steps.reach(moment, ended.done)
            await asyncio.sleep(chance.uniform(0, 0.6))
            if victim == "broker":
                await kill(running.broker)
            else:
                getattr(running, victim).kill()
        assert not ended.done()
        running.open_gate()
        await ended
        running.check()
