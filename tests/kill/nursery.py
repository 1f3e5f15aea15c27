"""Processes of the system under test: started from one nursery, started again whenever they die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROGRAM = Path(__file__).with_name("nursery_program.py")


@dataclass
class Life:
    """One process, from its start to its end; `ended` gives its exit code, or minus the signal that killed it."""

    pid: int
    ended: asyncio.Future[int]

    def send(self, number: int) -> bool:
        """Send a signal; False if it is gone."""
        if self.ended.done():
            return False
        try:
            os.kill(self.pid, number)  # it can't be another process: the nursery reaps it and then tells us
        except ProcessLookupError:
            return False
        return True


class Nursery:
    """The process from which all others are forked."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._started: deque[asyncio.Future[Life]] = deque()
        self._living: dict[int, Life] = {}
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(_PROGRAM), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            await self._process.stdout.readline()
        self._listening = asyncio.create_task(self._listen(self._process.stdout))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._listening is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening

    async def start(self, argv: list[str], env: Mapping[str, str], log: Path) -> Life:
        """Start `trackbook` with these arguments, and the environment beside the test's own."""
        assert self._process is not None
        assert self._process.stdin is not None
        started: asyncio.Future[Life] = asyncio.get_running_loop().create_future()
        self._started.append(started)
        request = {"argv": argv, "env": dict(env), "log": str(log)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await started

    async def _listen(self, output: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while line := await output.readline():
            news = json.loads(line)
            if pid := news.get("started"):
                life = self._living[pid] = Life(pid, loop.create_future())
                self._started.popleft().set_result(life)
            else:
                self._living.pop(news["ended"]).ended.set_result(news["status"])


class Kept:
    """A process that is started again whenever it dies, as a service manager does.

    `planned` holds environments for its next lives, the first for the next one; afterwards it has `environment`.
    """

    def __init__(
        self, nursery: Nursery, name: str, argv: list[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.environment = dict(environment)
        self.planned: deque[Mapping[str, str]] = deque()
        self.life: Life | None = None
        self.lives = 0
        self.left: list[int] = []
        self._nursery, self._argv = nursery, argv
        self._wanted = True
        self._next: asyncio.Future[Life] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {name}")

    @property
    def pid(self) -> int:
        """The process id, 0 while there is none."""
        return self.life.pid if self.life and not self.life.ended.done() else 0

    async def alive(self) -> Life:
        """Return the process that lives, or the next one."""
        while self.life is None or self.life.ended.done():
            await self._next
        return self.life

    async def _keep(self) -> None:
        while self._wanted:
            extra = self.planned.popleft() if self.planned else {}
            self.life = await self._nursery.start(self._argv, self.environment | dict(extra), self.log)
            self.lives += 1
            born, self._next = self._next, asyncio.get_running_loop().create_future()
            born.set_result(self.life)
            status = await self.life.ended
            if status != -signal.SIGKILL:
                self.left.append(status)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it for good and return its exit status."""
        async with asyncio.timeout(60):
            life = await self.alive()
            self.forget()
            life.send(number)
            await self._keeping
        return life.ended.result()

    def forget(self) -> None:
        """Start it no more."""
        self._wanted = False

    async def end(self) -> None:
        """Kill it and wait until it is gone, one whose start is under way as well; `forget` comes before."""
        while not self._keeping.done():
            if self.life:
                self.life.send(signal.SIGKILL)
            await asyncio.wait((self._keeping, self._next), timeout=1, return_when=asyncio.FIRST_COMPLETED)

    async def again(self, environment: Mapping[str, str]) -> Life:
        """Kill it, and return its next life, which has this environment as well."""
        async with asyncio.timeout(60):
            life = await self.alive()
            self.planned.append(environment)
            life.send(signal.SIGKILL)
            return await self._next
