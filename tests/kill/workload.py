"""Jobs, one after another and several at once, given by a client that does not take silence for an answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from nats.aio.client import Client as Nats

from kill import stream
from kill.pipelines import Kind, pipeline
from kill.world import DEADLINE, World

KINDS: tuple[Kind, ...] = ("plain", "plain", "plain", "plain", "failing", "cancelled")


@dataclass
class Job:
    """A job that was started, and how it is meant to end."""

    id: str
    kind: Kind
    began: float
    seconds: float = 0.0
    end: dict[str, Any] = field(default_factory=dict)


class Workload:
    """Keeps a number of jobs running until it is asked to finish."""

    def __init__(self, world: World, at_once: int = 3) -> None:
        self.world = world
        self.jobs: list[Job] = []
        self._at_once = at_once
        self._random = Random(f"{world.seed}/{world.topology}/jobs")
        self._enough = asyncio.Event()
        self._connection: Nats | None = None
        self._connecting = asyncio.Lock()
        self._runners: list[asyncio.Task[None]] = []
        self._pipelines: dict[Kind, list[str]] = {}
        self._numbers = iter(range(1_000_000))

    async def start(self) -> None:
        """Start the first jobs, and then one for each that ends."""
        self._runners = [
            asyncio.create_task(self._run_on(), name=f"runner {place}") for place in range(self._at_once)
        ]
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Start no more jobs and wait until all have ended; raises what went wrong in any."""
        self._enough.set()
        await asyncio.gather(*self._runners)
        await self._let_go()

    async def abandon(self) -> None:
        """Let everything be: the world has failed."""
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        await self._let_go()

    def check(self) -> None:
        """Raise what went wrong so far, so that nobody waits for jobs that nobody runs."""
        for runner in self._runners:
            if runner.done() and not self._enough.is_set():
                runner.result()

    async def progress(self, lines: int = 10) -> None:
        """Wait until the commands have written more into their ledger."""
        begin = self.world.ledger.stat().st_size

        async def grown() -> bool:
            self.check()
            return self.world.ledger.stat().st_size > begin + lines * 40

        await self.world.until(grown, "no task began or ended")

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return sum(not job.end for job in self.jobs)

    def moments(self) -> Counter[int]:
        """Return how many kills met a job in each tenth of its life."""
        met = (
            (kill.at - job.began) / job.seconds
            for kill in self.world.kills
            for job in self.jobs
            if job.began <= kill.at < job.began + job.seconds
        )
        return Counter(int(10 * place) for place in met)

    async def _run_on(self) -> None:
        while not self._enough.is_set():
            await self.run_one(self._random.choice(KINDS))

    async def run_one(self, kind: Kind) -> Job:
        """Run a job to its end; half of them run a pipeline that ran before."""
        random, client = self._random, self.world.client
        name = await self._pipeline(kind)
        reply = await client.give("job", "start", pipeline=name)
        assert reply["status"] == "accepted", f"{reply} ({self.world})"
        job = Job(reply["job"], kind, time.monotonic() - self.world.began)
        self.jobs.append(job)
        if kind == "cancelled":
            await asyncio.sleep(random.uniform(0, 0.7))
            reply = await client.give("job", "cancel", job=job.id)
            assert reply["status"] == "accepted" or reply["error"]["code"] == "job_ended", (
                f"{reply} ({self.world})"
            )
        await self.ended(job)
        job.seconds = time.monotonic() - self.world.began - job.began
        if kind == "cancelled":
            reply = await client.give("job", "cancel", job=job.id)
            assert reply["error"]["code"] == "job_ended", f"{reply} ({self.world})"
        return job

    async def _pipeline(self, kind: Kind) -> str:
        random = self._random
        known = self._pipelines.setdefault(kind, [])
        if known and random.random() < 0.5:
            return random.choice(known)
        name = f"{kind}-{next(self._numbers)}"
        definition = pipeline(name, kind, self.world.ledger, random)
        reply = await self.world.client.give("pipeline", "apply", definition=definition)
        assert reply["status"] == "accepted", f"{reply} ({self.world})"
        known.append(name)
        return name

    async def ended(self, job: Job, within: float = DEADLINE) -> None:
        """Wait until the job's terminal event is on the log."""

        async def has_ended() -> bool:
            commit = await stream.last(await self._connected(), "job", job.id)
            last = commit["events"][-1] if commit else {"type": ""}
            if last["type"] in stream.ENDS:
                job.end = last
            return bool(job.end)

        await self.world.until(has_ended, f"job {job.id} did not end", within)

    async def _connected(self) -> Nats:
        if self._connection is not None and not self._connection.is_connected:
            await self._let_go()
        async with self._connecting:
            if self._connection is None:
                self._connection = await stream.opened(self.world.data)
            return self._connection

    async def _let_go(self) -> None:
        left, self._connection = self._connection, None
        if left is not None:
            await left.close()
