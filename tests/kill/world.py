"""One installation under test: its processes in one of two topologies, and whom a kill can meet."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from kill import processes, stream
from kill.client import Client
from kill.nursery import Kept, Nursery

Topology = Literal["one", "four"]
TOPOLOGIES: tuple[Topology, ...] = ("one", "four")
ROLES = ("broker", "engine", "executor", "web")
VICTIMS: dict[Topology, tuple[str, ...]] = {
    "one": ("up", "up", "up", "nats-server", "spawner", "launcher"),
    "four": ("broker", "engine", "engine", "executor", "executor", "web", "nats-server", "spawner", "launcher"),
}
"""Whom to kill, some more often: a process, the broker's server, the executor's spawner, a launcher."""
DEADLINE = 60.0
"""Seconds within which whatever was killed works again and every job ends."""


@dataclass(frozen=True)
class Kill:
    """One kill: whom, when (seconds from the start of the world), and in what topology."""

    victim: str
    topology: Topology
    at: float
    pid: int


@dataclass
class World:
    """A data directory with its processes; `unsafe` switches a protection off for all of them."""

    folder: Path
    topology: Topology
    seed: int
    nursery: Nursery
    unsafe: str = ""
    sessions: int = 4
    look_every: float = 0.02
    kills: list[Kill] = field(default_factory=list)
    roles: dict[str, Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(f"{self.seed}/{self.topology}/kills")
        self.data = self.folder / "data"
        self.ledger = self.folder / "ledger"
        self.hits = self.data / "hits"
        self.client = Client(self.data, Random(f"{self.seed}/client"))
        self.began = time.monotonic()

    def __str__(self) -> str:
        """What is needed to understand a failure and to see it again."""
        last = ", ".join(f"{kill.victim} (pid {kill.pid}) at {kill.at:.3f} s" for kill in self.kills[-5:])
        return (
            f"seed {self.seed}, topology {self.topology}, data in {self.data}; the last kills: {last or 'none'}"
        )

    @property
    def executor(self) -> Kept:
        """The process that runs sessions."""
        return self.roles["up" if self.topology == "one" else "executor"]

    @property
    def engine(self) -> Kept:
        """The process that decides."""
        return self.roles["up" if self.topology == "one" else "engine"]

    async def start(self) -> None:
        """Start every process and wait until HTTP answers and an engine behind it."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.ledger.touch()
        if self.topology == "one":
            self.add("up", ["up"])
        else:
            for role in ROLES:
                self.add(role, ["serve", "--role", role])
        await self.ready()

    def add(self, name: str, argv: list[str], data: Path | None = None, **environment: str) -> Kept:
        """Start a process and keep it running."""
        common = ["--data", str(data or self.data), "--http", "127.0.0.1:0", "--sessions", str(self.sessions)]
        ours = {
            "TRACKBOOK_FAILPOINTS_HIT": str(self.hits),
            "TRACKBOOK_UNSAFE": self.unsafe,
            "TRACKBOOK_TRACEBACK": "1",
        }
        log = self.folder / f"{name}.log"
        kept = self.roles[name] = Kept(self.nursery, name, [*argv, *common], ours | environment, log)
        return kept

    def add_engine(self, name: str) -> Kept:
        """Start another engine on the same log, as on another machine: it has a data directory of its own."""
        reported = json.loads((self.data / "broker" / "engine.json").read_text())
        access = {f"TRACKBOOK_NATS_{key.upper()}": reported[key] for key in ("url", "user", "password")}
        return self.add(name, ["serve", "--role", "engine"], self.folder / name, **access)

    async def ready(self) -> None:
        """Wait until HTTP serves with everything behind it in order."""

        async def healthy() -> bool:
            await self.client.get("/health/ready", timeout=2)
            return True

        await self.until(healthy, "HTTP did not become ready")

    async def until(self, true: Callable[[], Awaitable[bool]], otherwise: str, within: float = DEADLINE) -> None:
        """Wait until a condition holds, that may fail in any way meanwhile."""
        problem = ""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                if await true():
                    return
            except AssertionError:
                raise
            except Exception as error:
                problem = repr(error)
            await asyncio.sleep(self.look_every)
        raise AssertionError(f"{otherwise} within {within:.0f} s ({self}) {problem}")

    async def head(self) -> int:
        """Return the last sequence of the log."""
        return await stream.head(self.data)

    async def stop(self) -> None:
        """Stop all and let go of the client."""
        await self.client.close()
        await self.halt()

    async def halt(self) -> None:
        """Stop all processes as an operator does, those that need others first; `start` starts them again."""
        for name in reversed(tuple(self.roles)):
            status = await self.roles.pop(name).stop()
            assert status == 0, f"{name} left with {status} when it was stopped ({self})"

    async def abandon(self) -> None:
        """Kill everything and wait until it is gone.

        The tasks' commands too, which outlive a killed launcher: they would write to the ledger again after the
        folder was removed. And first the processes that are about to start, which no look would show yet.
        """
        await self.client.close()
        for kept in self.roles.values():
            kept.forget()
        for kept in self.roles.values():
            await kept.end()
        while left := processes.of(self.folder):
            for process in left:
                processes.kill(process.pid, "")
            await asyncio.sleep(0.02)

    def kill(self, victim: str) -> Kill | None:
        """Kill one, at this very moment; None if there is no such process now."""
        if victim in self.roles:
            life = self.roles[victim].life
            pid = life.pid if life and life.send(signal.SIGKILL) else 0
        else:
            pid = self._kill_below(victim)
        if not pid:
            return None
        self.kills.append(Kill(victim, self.topology, time.monotonic() - self.began, pid))
        return self.kills[-1]

    def _kill_below(self, victim: str) -> int:
        look, expected = {
            "nats-server": (processes.server, "nats.conf"),
            "spawner": (processes.spawner, "box/spawner.py"),
            "launcher": (processes.launchers, "box/spawner.py"),
        }[victim]
        found = look(self.data, self.executor.pid)
        self.random.shuffle(found)
        return next((pid for pid in found if processes.kill(pid, expected)), 0)

    def complaints(self) -> list[str]:
        """Return what no process may do whatever is killed: end by itself, or write a stack trace."""
        left = [
            f"{name} left by itself with {kept.left}: {_last_errors(kept.log)}"
            for name, kept in self.roles.items()
            if kept.left
        ]
        traces = [log.name for log in self.folder.glob("*.log") if "Traceback" in log.read_text(errors="replace")]
        return left + [f"a stack trace in {name}" for name in traces]

    def lost_to_us(self) -> set[str]:
        """Return the sessions whose launchers we have killed, by what their claims say."""
        killed = {kill.pid for kill in self.kills if kill.victim == "launcher"}
        found = set()
        for claim in (self.data / "sessions").glob("*/claim"):
            try:
                said: dict[str, Any] = json.loads(claim.read_bytes().partition(b"\n")[0])
            except ValueError:
                continue
            if said.get("pid") in killed:
                found.add(claim.parent.name)
        return found


def _last_errors(log: Path, lines: int = 10) -> str:
    """Return the last lines of a log that the command line wrote about its own end."""
    text = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in text if line.startswith(("trackbook:", "  "))][-lines:])
