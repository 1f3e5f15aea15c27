"""One session in its container, from its launch to the record of its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog
from msgspec import Struct

from trackbook.adapters.container import ending, output, records
from trackbook.adapters.container.client import Client, EngineAway, EngineRefused, Seen
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.plan import Planner, container_name
from trackbook.adapters.container.records import Record
from trackbook.adapters.sessions import folders
from trackbook.engine.ports import SessionSpec
from trackbook.events.job import Fault
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_TRIES = 3
"""How often the engine may fail at what may work another time."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_SETTLES_WITHIN = 1.0
"""Seconds for a start to show that was asked for by a process which was killed then."""
_TIDYING = (0.0, 1.0, 5.0)
"""Seconds before each try to remove an ended container; what stays is found by the sweep."""
_NO_INIT = re.compile(r"catatonit|docker-init|init binary|init-path", re.IGNORECASE)


class Setting(Struct, frozen=True):
    """What all sessions of an executor have in common. Sizes are in bytes."""

    data: Path
    engine: Engine
    installation: str
    client: Client
    planner: Planner
    log_limit: int


class _Over(Exception):
    """The session has ended, or never begins."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.message)
        self.record = record


class Course:
    """What one session goes through. `tell` is given the engine's status and words to it, `began` called once.

    Where it stands is on the disk (see records.py) and at the engine, so that any process can go on with it.
    """

    def __init__(
        self, spec: SessionSpec, setting: Setting, tell: Callable[[str, str], None], began: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.started_at: datetime | None = None
        self._setting = setting
        self._client = setting.client
        self._name = container_name(setting.installation, spec.session)
        self._folder = folders.session_folder(setting.data, spec.session)
        self._tell_status = tell
        self._began = began
        self._told = ("", "")
        self._withdrawn = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._failures = 0
        note = records.read_note(self._folder)
        self._adopting = note is not None
        self._rebooted = note is not None and note.boot != records.boot()

    # What the executor asks for --------------------------------------------------------------------------------

    async def run(self) -> Record:
        """Bring the session to its end; the record that is returned is on the disk. Raises OSError."""
        try:
            record = await self._watched(await self._begun())
        except _Over as over:
            record = over.record
        finally:
            if self._stopping:
                self._stopping.cancel()
        record = await asyncio.to_thread(records.leave, self._folder, record)
        self._point("recorded")
        return record

    async def stop(self) -> None:
        """Have the session end; one whose command has not begun is taken, so that it never will."""
        record = Record(ended_at=records.now(), stopped=True, message="stopped before it began")
        if await asyncio.to_thread(records.withdraw, self._folder, record):
            self._withdrawn.set()
        elif self._stopping is None:
            await asyncio.to_thread(records.mark_stop, self._folder)
            self._stopping = asyncio.create_task(self._stop())

    async def tidy(self) -> None:
        """Remove the ended session's container."""
        if records.read_note(self._folder) is None:
            return
        for pause in _TIDYING:
            await asyncio.sleep(pause)
            try:
                await self._client.remove(self._name)
                records.drop_note(self._folder)
            except (EngineAway, EngineRefused, OSError) as error:
                _log.warning("an ended container can't be removed", container=self._name, error=str(error))
            else:
                return

    # Until it runs ---------------------------------------------------------------------------------------------

    async def _begun(self) -> Seen:
        """Return the container once it was started, by whomever. Raises _Over."""
        while True:
            self._check()
            try:
                seen = await self._step()
            except EngineAway as away:
                await self._be_patient(away)
            except EngineRefused as refused:
                await self._refused(refused.message)
            except (ValueError, OSError) as error:
                fault: Fault = "permanent" if isinstance(error, ValueError) else "operator"
                await self._give_up(f"the session could not be set up: {error}", fault)
            else:
                if seen:
                    return seen

    async def _step(self) -> Seen | None:
        """Bring the container nearer to running; return it when it was started."""
        seen = await self._client.inspect(self._name)
        self._away_since = None
        if seen and seen.waits and (self._adopting or records.claimed(self._folder)):
            seen = await self._settled()
        if seen and not seen.waits:
            return seen
        self._check()
        if records.claimed(self._folder) or self._rebooted:
            raise _Over(records.read(self._folder) or ending.gone())
        if seen is None:
            await self._create()
        else:
            await self._start()
        self._adopting = False
        return None

    async def _settled(self) -> Seen | None:
        """Give a start time to show that a process of ours asked for before it was killed."""
        deadline = time.monotonic() + _SETTLES_WITHIN
        while True:
            seen = await self._client.inspect(self._name)
            if seen is None or not seen.waits or time.monotonic() > deadline:
                return seen
            await self._rest(_PAUSE)

    async def _create(self) -> None:
        planner = self._setting.planner
        body = await asyncio.to_thread(planner.plan, self.spec, await self._client.facts())
        await asyncio.to_thread(records.take_note, self._folder, self._name)
        self._point("noted")
        try:
            await self._client.create(self._name, body)
        except EngineRefused as refused:
            if refused.status == 409:  # it is there: asked for before, and on its way
                await self._rest(_PAUSE)
            elif refused.status == 404:
                await self._pull(body["Image"])
            elif planner.init and _NO_INIT.search(refused.message):
                planner.init = False
            else:
                raise
        self._point("created")

    async def _start(self) -> None:
        try:
            await self._client.start(self._name)
        except EngineRefused as refused:
            if refused.status == 404:
                raise EngineRefused(404, "the container was removed before it was started") from None
            if self._setting.planner.init and _NO_INIT.search(refused.message):
                self._setting.planner.init = False
                return await self._client.remove(self._name)
            raise EngineRefused(refused.status, f"the container can't be started: {refused.message}") from None
        return self._point("started")

    async def _pull(self, image: str) -> None:
        """Fetch the image, unless the session is stopped meanwhile."""
        if image.startswith("localhost/"):
            raise EngineRefused(404, f"the engine has no such image: {image}, and a local one can't be fetched")
        self._tell("PULLING", f"the image {image} is fetched")
        pulling = asyncio.create_task(self._client.pull(image))
        stopped = asyncio.create_task(self._withdrawn.wait())
        try:
            await asyncio.wait((pulling, stopped), return_when=asyncio.FIRST_COMPLETED)
            self._check()
            await pulling
        except EngineRefused as refused:
            raise EngineRefused(refused.status, f"the image {image} can't be had: {refused.message}") from None
        finally:
            for task in (pulling, stopped):
                task.cancel()
            await asyncio.gather(pulling, stopped, return_exceptions=True)

    async def _be_patient(self, away: EngineAway) -> None:
        self._tell("WAITING", str(away))
        self._away_since = self._away_since or time.monotonic()
        if time.monotonic() - self._away_since > self._setting.engine.unreachable_timeout:
            found = self._setting.engine.address() is not None
            await self._give_up(f"the session did not begin: {away}", "infrastructure" if found else "operator")
        await self._rest(_LONGEST_PAUSE / 4)

    async def _refused(self, message: str) -> None:
        self._failures += 1
        fault = ending.fault_of(message)
        if fault != "infrastructure" or self._failures >= _TRIES:
            await self._give_up(message, fault)
        await self._rest(self._failures)

    async def _give_up(self, message: str, fault: Fault) -> None:
        """End the session, which has not begun; if a container was quicker, go on with that."""
        record = Record(ended_at=records.now(), message=message, fault=fault)
        try:
            if not await asyncio.to_thread(records.withdraw, self._folder, record):
                return
        except OSError as error:  # nothing ran, and the report says so
            _log.error("a session can't be claimed", session=self.spec.session, error=str(error))
        raise _Over(record)

    def _check(self) -> None:
        if self._withdrawn.is_set():
            raise _Over(records.read(self._folder) or ending.gone())

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._withdrawn.wait()

    # From then on ----------------------------------------------------------------------------------------------

    async def _watched(self, seen: Seen | None) -> Record:
        """Return how the container ended, its log complete."""
        log = output.SessionLog(folders.log_file(self._setting.data, self.spec.session), self._setting.log_limit)
        following = asyncio.create_task(output.follow(self._client, self._name, log))
        try:
            while seen is not None and not seen.over:
                self._take_start(seen)
                seen = await self._outlast(self._next)
            following.cancel()
            if seen and (problem := await output.complete(self._client, self._name, log)):
                log.write(f"\n[trackbook: the rest of the output can't be had: {problem}]\n".encode())
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            log.close()
        self._point("ended")
        return ending.conclude(seen, self.spec, self._folder, self.started_at)

    async def _next(self) -> Seen | None:
        """Return the container when it has ended, or when it may have."""
        await self._client.wait(self._name)
        seen = await self._client.inspect(self._name)
        if seen and not seen.over:
            await asyncio.sleep(_PAUSE)
        return seen

    def _take_start(self, seen: Seen) -> None:
        if self._told[0]:
            self._tell("RUNNING", "")
        if self.started_at is None and seen.started_at and not self._withdrawn.is_set():
            self.started_at = seen.started_at
            self._began()

    async def _outlast(self, call: Callable[[], Awaitable[Seen | None]]) -> Seen | None:
        """Ask until the engine answers: a session that runs is never given up."""
        pause = _PAUSE
        while True:
            try:
                return await call()
            except (EngineAway, EngineRefused) as error:
                if pause >= _LONGEST_PAUSE:
                    self._tell("UNREACHABLE", str(error))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _stop(self) -> None:
        """Have the engine end the container, until it says that it did."""
        while True:
            try:
                return await self._client.stop(self._name, self._setting.engine.grace)
            except (EngineAway, EngineRefused) as error:
                self._tell("STOPPING", str(error))
            await asyncio.sleep(_LONGEST_PAUSE)

    def _tell(self, status: str, message: str) -> None:
        if self._told != (status, message):
            self._told = (status, message)
            self._tell_status(status, message)

    @staticmethod
    def _point(name: str) -> None:
        failpoint(f"container.{name}")
