"""Launch a session: create its container and start it, once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from msgspec import Struct

from trackbook.adapters.container import attempt_state, outcome
from trackbook.adapters.container.client import Client, EngineAway, EngineRefused, Seen
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.plan import Planner, container_name
from trackbook.adapters.execution import folders
from trackbook.adapters.execution.back_off import wait
from trackbook.adapters.execution.boot import boot
from trackbook.adapters.execution.code_archive import BadCode, Copies
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.engine.ports import SessionSpec
from trackbook.events.job import Fault
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_TRIES = 3
"""How often the engine may fail at what may work another time."""
_PAUSE = 0.1
_ASKS_AGAIN = 0.5
"""Seconds between tries to reach an engine that is away."""
_SETTLES_WITHIN = 1.0
"""Seconds for a start to show that was asked for by a process which was killed then."""
_NO_INIT = re.compile(r"catatonit|docker-init|init binary|init-path", re.IGNORECASE)
_NO_CONTAINER = re.compile(r"no such container|no container with", re.IGNORECASE)


class ExecutorContext(Struct, frozen=True):
    """What the attempts of one executor share. Sizes are in bytes."""

    data: Path
    engine: Engine
    installation: str
    client: Client
    planner: Planner
    log_limit: int
    copies: Copies


class Ended(Exception):
    """The attempt has ended, or never begins."""

    def __init__(self, record: ExitRecord) -> None:
        super().__init__(record.message)
        self.record = record


class Launch:
    """Creates a session's container and starts it, once; `tell` is given a status and words to it.

    Set `withdrawn` once the attempt was taken so that its command never runs.
    """

    def __init__(self, spec: SessionSpec, context: ExecutorContext, tell: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.name = container_name(context.installation, spec.session)
        self.folder = folders.session_folder(context.data, spec.session)
        self.withdrawn = asyncio.Event()
        self._context = context
        self._client = context.client
        self._report_status = tell
        self._away_since: float | None = None
        self._failures = 0
        self._pulled = False
        note = attempt_state.read_note(self.folder)
        self._adopting = note is not None
        self._rebooted = note is not None and note.boot != boot()

    async def run(self) -> Seen:
        """Return the container once it was started, by whomever. Raises Over."""
        while True:
            self._check()
            try:
                seen = await self._step()
            except EngineAway as away:
                await self._wait_for_engine(away)
            except EngineRefused as refused:
                await self._handle_refusal(refused.message)
            except (ValueError, OSError) as error:
                fault: Fault = "permanent" if isinstance(error, ValueError) else "operator"
                await self._give_up(f"the session could not be set up: {error}", fault)
            else:
                if seen:
                    return seen

    async def _step(self) -> Seen | None:
        """Bring the container nearer to running; return it when it was started."""
        seen = await self._client.inspect(self.name)
        self._away_since = None
        if seen and seen.waits and (self._adopting or attempt_state.is_claimed(self.folder)):
            seen = await self._wait_for_start()
        if seen and not seen.waits:
            return seen
        self._check()
        if attempt_state.is_claimed(self.folder) or self._rebooted:
            raise Ended(attempt_state.read(self.folder) or outcome.lost_record())
        if seen is None:
            await self._create()
        else:
            await self._start()
        self._adopting = False
        return None

    async def _wait_for_start(self) -> Seen | None:
        """Give a start time to show that a process of ours asked for before it was killed."""
        deadline = time.monotonic() + _SETTLES_WITHIN
        while True:
            seen = await self._client.inspect(self.name)
            if seen is None or not seen.waits or time.monotonic() > deadline:
                return seen
            await asyncio.sleep(_PAUSE)

    async def _create(self) -> None:
        planner = self._context.planner
        if self.spec.code:
            await self._copy()
        body = await asyncio.to_thread(planner.plan, self.spec, await self._client.facts())
        await asyncio.to_thread(attempt_state.take_note, self.folder, self.name)
        point("noted")
        try:
            await self._client.create(self.name, body)
        except EngineRefused as refused:
            if refused.status == 409:  # it is there: asked for before, and on its way
                await wait(self.withdrawn, _PAUSE)
            elif refused.status == 404 and not self._pulled:
                await self._pull(body["Image"])
                self._pulled = True
            elif planner.init and _NO_INIT.search(refused.message):
                planner.init = False
            else:
                raise
        point("created")

    async def _copy(self) -> None:
        """Have the session's copy of the code; raises ValueError, OSError, Over."""
        try:
            await self._context.copies.place(self.spec, self.folder)
        except BadCode as error:
            raise ValueError(f"the code can't be unpacked: {error}") from None
        except OSError as error:
            raise OSError(f"the code can't be unpacked: {error}") from None
        self._check()

    async def _start(self) -> None:
        try:
            await self._client.start(self.name)
        except EngineRefused as refused:
            if _NO_CONTAINER.search(refused.message):
                raise EngineRefused(404, "the container was removed before it was started") from None
            if self._context.planner.init and _NO_INIT.search(refused.message):
                self._context.planner.init = False
                return await self._client.remove(self.name)
            raise EngineRefused(refused.status, f"the container can't be started: {refused.message}") from None
        return point("started")

    async def _pull(self, image: str) -> None:
        """Fetch the image, unless the session is stopped meanwhile."""
        if image.startswith("localhost/"):
            raise EngineRefused(404, f"the engine has no such image: {image}, and a local one can't be fetched")
        self._report_status("PULLING", f"the image {image} is fetched")
        pulling = asyncio.create_task(self._client.pull(image))
        stopped = asyncio.create_task(self.withdrawn.wait())
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

    async def _wait_for_engine(self, away: EngineAway) -> None:
        self._report_status("WAITING", str(away))
        self._away_since = self._away_since or time.monotonic()
        if time.monotonic() - self._away_since > self._context.engine.unreachable_timeout:
            found = self._context.engine.address() is not None
            await self._give_up(f"the session did not begin: {away}", "infrastructure" if found else "operator")
        await wait(self.withdrawn, _ASKS_AGAIN)

    async def _handle_refusal(self, message: str) -> None:
        self._failures += 1
        fault = outcome.fault_of(message)
        if fault != "infrastructure" or self._failures >= _TRIES:
            await self._give_up(message, fault)
        await wait(self.withdrawn, self._failures)

    async def _give_up(self, message: str, fault: Fault) -> None:
        """End the session, which has not begun; if a container was quicker, continue with that."""
        record = ExitRecord(ended_at=now(), message=message, fault=fault)
        try:
            if not await asyncio.to_thread(attempt_state.withdraw, self.folder, record):
                return
        except OSError as error:  # nothing ran, and the report says so
            _log.error("a session can't be claimed", session=self.spec.session, error=str(error))
        raise Ended(record)

    def _check(self) -> None:
        if self.withdrawn.is_set():
            raise Ended(attempt_state.read(self.folder) or outcome.lost_record())


def point(name: str) -> None:
    """Pass a failpoint."""
    failpoint(f"container.{name}")
