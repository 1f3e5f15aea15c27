"""Idle costs nothing: without work nothing is published and nothing runs by the clock."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from command_line import CommandLine
from nats.aio.client import Client
from nats.aio.msg import Msg

MINUTE = 60.0
WAKE_UPS = 60
"""Voluntary switches in a minute of all threads; the clients' keep-alive pings (two a minute each) take some."""


async def test_a_minute_without_work_publishes_nothing_and_runs_no_periodic_query(tmp_path: Path) -> None:
    """After a job has ended, nothing is said on any subject of the engine, and no thread wakes regularly."""
    trackbook = CommandLine(tmp_path)
    with trackbook.up():
        trackbook("run", trackbook.pipeline("once", a="true"))
        pid = trackbook.server_pid()
        heard: list[str] = []
        nc = await _listening(trackbook.data, heard)
        await _settled(pid, heard)
        heard.clear()
        before = _wake_ups(pid)

        await asyncio.sleep(MINUTE)  # the claim is about a minute: there is no condition to wait for

        woken = _wake_ups(pid) - before
        await nc.close()
    assert heard == []
    assert woken < WAKE_UPS


async def _listening(data: Path, heard: list[str]) -> Client:
    """Hear every subject of the engine's account, requests to JetStream included."""
    password = json.loads((data / "broker" / "credentials.json").read_text())["engine"]
    nc = Client()
    await nc.connect(json.loads((data / "nats.json").read_text())["url"], user="engine", password=password)

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    await nc.subscribe(">", cb=hear)
    await nc.flush()
    return nc


async def _settled(pid: int, heard: list[str]) -> None:
    """Return once a second went by in which nothing was published and the server hardly woke."""
    async with asyncio.timeout(60):
        while True:
            heard.clear()
            before = _wake_ups(pid)
            await asyncio.sleep(1)
            if not heard and _wake_ups(pid) - before < 5:
                return


def _wake_ups(pid: int) -> int:
    """Return how often the threads of a process gave up their processor of their own accord, since its start."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        total += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total
