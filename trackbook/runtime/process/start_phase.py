"""StartLimits of a start: each is named, reported while it lasts, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from msgspec import Struct

from trackbook.errors import UserError

_LOOKS = 20
"""Looks at the progress within the bound of a wait, at least."""
_LONGEST_LOOK = 0.5  # seconds

log = structlog.get_logger(__name__)


class StartTimedOut(UserError):
    """A start waited for something that did not come."""


class StartLimits(Struct, frozen=True, kw_only=True):
    """How a start waits, in seconds: it reports a wait after `report_after`, then at intervals that double up to
    `longest_pause`, and gives up `within` seconds after the last progress.

    `say` is given what is waited for, beside the log.
    """

    report_after: float = 2.0
    longest_pause: float = 30.0
    within: float = 60.0
    say: Callable[[str], None] | None = None


@asynccontextmanager
async def phase(
    what: str, hint: str = "", *, limits: StartLimits, progress: Callable[[], int] | None = None
) -> AsyncIterator[None]:
    """Report and bound a wait for `what`; raises StartTimedOut with `hint` where it lasts too long.

    The bound counts from the last change of `progress`, if that is given. Time is counted while the event loop
    runs: a process that is stopped for a while loses nothing.
    """
    watching: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(None) as bound:
            task = asyncio.current_task()
            assert task is not None
            watching = asyncio.create_task(_watch(what, task, bound, limits, progress or (lambda: 0)))
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise StartTimedOut(f"the start waited {limits.within:g} s for {what}, and gave up", hint) from None
    finally:
        if watching is not None:
            watching.cancel()


async def _watch(
    what: str, task: asyncio.Task[Any], bound: asyncio.Timeout, limits: StartLimits, progress: Callable[[], int]
) -> None:
    look = min(_LONGEST_LOOK, limits.within / _LOOKS, limits.report_after or _LONGEST_LOOK)
    since = idle = 0.0
    report_at = pause = limits.report_after
    at = progress()
    while idle < limits.within:
        await asyncio.sleep(look)
        if task.cancelling():  # the start was given up: what it began is being ended
            return
        since, idle = since + look, idle + look
        if (now := progress()) != at:
            at, idle = now, 0.0
        if since >= report_at:
            _report(what, since, at, limits)
            pause = min(2 * pause, limits.longest_pause)
            report_at = since + pause
    bound.reschedule(asyncio.get_running_loop().time())


def _report(what: str, since: float, at: int, limits: StartLimits) -> None:
    done = {"at": at} if at else {}
    log.info("start.waiting", what=what, since=f"{since:.0f} s", **done)
    if limits.say is not None:
        limits.say(what)
