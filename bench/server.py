"""A Trackbook of its own for a benchmark, and a bare NATS client of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

START_WITHIN = 30.0


class Trackbook:
    """A running server and a client that speaks the public subjects only."""

    def __init__(self, data: Path, process: subprocess.Popen[bytes], nc: Client) -> None:
        self.data, self.process, self.nc = data, process, nc
        self._ends: dict[str, asyncio.Future[float]] = {}
        self._commits: dict[str, list[dict[str, Any]]] = {}

    async def follow(self) -> None:
        """Keep what happens to jobs from now on."""
        await self.nc.subscribe(
            "trackbook.live.job.*", cb=self._live, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await self.nc.flush()

    async def _live(self, message: Msg) -> None:
        now = time.perf_counter()
        commit = json.loads(message.data)
        self._commits.setdefault(commit["id"], []).append(commit)
        if any(event["type"] in _ENDS for event in commit.get("events", [])):
            self._end(commit["id"]).set_result(now)

    def _end(self, job: str) -> asyncio.Future[float]:
        return self._ends.setdefault(job, asyncio.get_running_loop().create_future())

    async def ask(self, command: str, **payload: Any) -> dict[str, Any]:
        """Give a command by request and reply; it has to be accepted."""
        body = json.dumps({"command_id": uuid.uuid4().hex, **payload}).encode()
        reply = dict(json.loads((await self.nc.request(f"trackbook.cmd.{command}", body, timeout=60)).data))
        if reply["status"] != "accepted":
            raise RuntimeError(reply["error"])
        return reply

    async def run(self, pipeline: str) -> str:
        """Start a job and return its id once it has ended; raises where it didn't succeed."""
        job = str((await self.ask("job.start", pipeline=pipeline))["job"])
        await self._end(job)
        last = self._commits[job][-1]["events"][-1]
        if last["type"] != "JobSucceeded":
            raise RuntimeError(last)
        return job

    def events(self, job: str) -> list[dict[str, Any]]:
        """Return the events of a job that was followed."""
        return [event for commit in self._commits[job] for event in commit["events"]]

    def memory(self) -> dict[str, float]:
        """Return the memory of the server and all its children in MB: resident, and with shared pages once."""
        return {"rss_mb": resident(self.process.pid), "pss_mb": resident(self.process.pid, shared_once=True)}

    def stored(self) -> dict[str, int]:
        """Return the bytes on disk: the broker's store, the read model, the engine's ledger, session files."""
        return {
            "log": size(self.data / "broker" / "store"),
            "read model": sum(size(path) for path in self.data.glob("readmodel.db*")),
            "ledger": sum(size(path) for path in self.data.glob("engine.db*")),
            "sessions": size(self.data / "sessions") + size(self.data / "pipelines"),
        }


_ENDS = ("JobSucceeded", "JobFailed", "JobCancelled")


@asynccontextmanager
async def trackbook(data: Path, *options: str) -> AsyncIterator[Trackbook]:
    """Start `trackbook up` on an empty directory and connect as a client."""
    command = [sys.executable, "-m", "trackbook", "up", "--data", str(data), "--http", "127.0.0.1:0", *options]
    with (data.parent / f"{data.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - nothing else waits
    nc = Client()
    try:
        await _ready(data, process)
        access = json.loads((data / "nats.json").read_text())
        await nc.connect(access["url"], **_client(access))
        server = Trackbook(data, process, nc)
        await server.follow()
        yield server
    finally:
        await nc.close()
        process.terminate()
        process.wait(30)


async def _ready(data: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if json.loads((data / "server.json").read_text())["url"] and await _commands_answered(data):
                return
        except (OSError, ValueError, KeyError):
            pass
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the server did not start; see {data}.log")


async def _commands_answered(data: Path) -> bool:
    access = json.loads((data / "nats.json").read_text())
    nc = Client()
    await nc.connect(access["url"], **_client(access), allow_reconnect=False)
    try:
        await nc.request("trackbook.cmd.job.cancel", b'{"job": "none", "command_id": "ready?"}', timeout=5)
    except Exception:
        return False
    finally:
        await nc.close()
    return True


def _client(access: dict[str, str]) -> dict[str, Any]:
    """Return what nats.json says of its user, as options of the client."""
    return {name: access[name] for name in ("user", "password", "inbox_prefix")}


_PAGE = os.sysconf("SC_PAGESIZE") // 1024


def _share(process: Path) -> int:
    """Return a process's proportional set size in kB."""
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def size(path: Path) -> int:
    """Return the bytes of all files below a path (what they hold, not the blocks they take)."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def resident(pid: int, *, shared_once: bool = False) -> float:
    """Return the resident memory of a process and its descendants in MB, shared pages once if so said."""
    children: dict[int, list[int]] = {}
    kilobytes: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(stat[1]), []).append(int(folder.name))
                kilobytes[int(folder.name)] = _share(folder) if shared_once else int(stat[21]) * _PAGE
            except (OSError, IndexError, StopIteration):
                continue
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        total += kilobytes.get(one, 0)
        todo += children.get(one, [])
    return round(total / 1024, 1)
