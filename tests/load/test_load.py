"""A burst of jobs from many clients at once, and what the server is like during it and after it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from load.running import Running, ask, running

JOBS, CLIENTS = 10_000, 64
WARM = 4_000
"""Jobs after which buffers, caches and the allocator's arenas have their size."""

PER_JOB = 1024
"""Bytes that memory may grow by for each job after that; what is kept for good of a job takes more."""

ALLOWANCE = 12 * 2**20
"""Bytes that memory may differ by at any two moments: bounded buffers are full or empty, freed pages stay."""

AT_A_TIME = 16 * CLIENTS
"""Starts that may be answered while one request for /health/live waits: so often may each client come first."""

PATIENCE = 900.0
TRIVIAL = {"name": "trivial", "tasks": [{"name": "a", "command": "true"}]}
LIFE = [
    ["JobCreated", "TaskLaunchRequested"],
    ["TaskStarted", "JobStarted"],
    ["AttemptSucceeded", "TaskSucceeded", "JobSucceeded"],
]
"""The events of a job of one task, commit by commit."""


class Load:
    """Starts jobs, and follows the live commits and the server's health meanwhile."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._left = 0
        self._ended = asyncio.Event()
        self.started: list[str] = []
        self.lives: dict[str, list[list[str]]] = {}
        self.out_of_order: list[str] = []
        self.ended = 0
        self.looks = 0
        self.longest_gap = 0

    async def follow(self, nc: Client) -> None:
        """Follow the commits of all jobs from now on."""
        await nc.subscribe("trackbook.live.job.*", cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await nc.flush()

    async def _take(self, message: Msg) -> None:
        commit: dict[str, Any] = json.loads(message.data)
        life = self.lives.setdefault(commit["id"], [])
        life.append([event["type"] for event in commit["events"]])
        if commit["version"] != len(life):
            self.out_of_order.append(commit["id"])
        if "JobSucceeded" in life[-1]:
            self.ended += 1
            self._ended.set()

    async def start(self, clients: list[Client], jobs: int) -> None:
        """Start so many jobs as fast as the clients can, and wait until all jobs have ended."""
        self._left = jobs
        watching = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._start(nc) for nc in clients))
        while self.ended < len(self.started):
            self._ended.clear()
            await self._ended.wait()
        watching.cancel()
        with suppress(asyncio.CancelledError):  # and nothing else: it may have failed before
            await watching

    async def _start(self, nc: Client) -> None:
        while self._left:
            self._left -= 1
            self.started.append((await ask(nc, "job.start", pipeline="trivial"))["job"])

    async def _watch(self) -> None:
        """Ask for /health/live again and again, and count what is answered meanwhile."""
        while True:
            before = len(self.started)
            assert await self._server.get("/health/live") == {"status": "live"}
            self.looks += 1
            self.longest_gap = max(self.longest_gap, len(self.started) - before)


async def test_a_burst_of_jobs(tmp_path: Path) -> None:
    """10,000 jobs from 64 clients: the server answers throughout, each job ends in order, memory stays flat.

    A start without a read model then makes it again from 30,000 commits.
    """
    data = tmp_path / "data"
    async with asyncio.timeout(PATIENCE), running(data) as server:
        load = Load(server)
        clients = [await server.client() for _ in range(CLIENTS)]
        await load.follow(follower := await server.client())
        await ask(follower, "pipeline.apply", definition=TRIVIAL)
        await load.start(clients, WARM)
        await server.projected()
        warm = server.resident()
        await load.start(clients, JOBS - WARM)
        commits = await server.projected()
        growth = server.resident() - warm
        for nc in (*clients, follower):
            await nc.close()
    print(f"{warm:,} bytes, {growth:,} more; {load.looks} looks at health, {load.longest_gap} starts during one")

    assert commits >= 3 * JOBS
    assert len(set(load.started)) == JOBS
    assert not load.out_of_order
    assert set(load.started) == load.lives.keys()
    assert [life for life in load.lives.values() if life != LIFE] == []
    assert load.longest_gap <= AT_A_TIME
    assert growth < ALLOWANCE + PER_JOB * (JOBS - WARM)

    for file in data.glob("readmodel.db*"):
        file.unlink()
    async with asyncio.timeout(PATIENCE), running(data) as server:
        assert await server.projected() == commits
        assert await _succeeded(server) == set(load.started)


async def _succeeded(server: Running) -> set[str]:
    """Return the jobs that the read model says have succeeded."""
    found: set[str] = set()
    cursor = ""
    while True:
        page = await server.get(f"/api/jobs?state=succeeded&limit=500{cursor}")
        found |= {job["id"] for job in page["items"]}
        if not page["next"]:
            return found
        cursor = f"&cursor={page['next']}"
