"""A thread that notices when the event loop has stopped running, says where it is stuck, and ends the process.

A loop that does not run answers nothing, not even signals, so nobody else can say what is wrong. A supervisor
restarts a process that has ended; it can't see that one is frozen.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType

import structlog

EXIT_CODE = 70
"""Of a process whose event loop never ran again (EX_SOFTWARE of sysexits.h)."""

TICK = 5.0
"""Seconds between looks; an idle process wakes this often."""

REPORT_AFTER, EXIT_AFTER = 10.0, 60.0
"""Seconds without a turn of the loop until the stacks are logged, and until the process ends."""

_LOG_WITHIN = 2.0
"""Seconds to wait for the log: its writer may be what is stuck."""

_MOST_CORES = 4
"""Cores that may be busy without the interpreter between two looks, as far as the last resort is concerned."""

log = structlog.get_logger(__name__)


class Watchdog:
    """Watches the event loop of the thread that enters it. `problem` says in words what it found, '' for nothing;
    `looks` counts how often it looked.

    Time is counted in its own ticks, which stop while the machine sleeps or the process is stopped.
    Code that never releases the interpreter keeps this thread from running as well. For that a timer of the
    process's CPU time has the kernel print the stacks and end the process with SIGPROF.
    """

    def __init__(
        self, *, tick: float = TICK, report_after: float = REPORT_AFTER, exit_after: float = EXIT_AFTER
    ) -> None:
        self._tick, self._report_after, self._exit_after = tick, report_after, exit_after
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._asked = self._answered = 0
        self._blocked = self._calm = 0.0
        self.problem = ""
        self.looks = 0

    async def __aenter__(self) -> Watchdog:
        """Begin to watch the running loop."""
        self._loop, self._watched = asyncio.get_running_loop(), threading.get_ident()
        self._arm_last_resort()
        self._thread.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join(_LOG_WITHIN)
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _run(self) -> None:
        while not self._closed.wait(self._tick):
            self.looks += 1
            self._set_last_resort()
            if self._loop.is_closed():
                return
            if self._runs():
                self._note_running()
            else:
                self._note_blocked()

    def _runs(self) -> bool:
        """Whether the loop has run since the last look. One that waits for events need not be woken."""
        if _waits_for_events(sys._current_frames().get(self._watched)):
            return True
        if runs := self._answered == self._asked:
            self._asked += 1
            try:
                self._loop.call_soon_threadsafe(self._answer, self._asked)
            except RuntimeError:  # it has just been closed
                return True
        return runs

    def _answer(self, number: int) -> None:
        self._answered = number

    def _note_running(self) -> None:
        if self._blocked >= self._report_after:
            log.warning("event_loop.runs_again", blocked_seconds=round(self._blocked))
        self._blocked = 0.0
        self._calm += self._tick
        if self._calm >= self._exit_after:
            self.problem = ""

    def _note_blocked(self) -> None:
        before, self._blocked = self._blocked, self._blocked + self._tick
        if self._blocked < self._report_after:
            return
        self._calm = 0.0
        self.problem = f"the event loop did not run for {self._blocked:g} s; the log says where it was stuck"
        if before < self._report_after:
            self._report("event_loop.blocked", f"it is ended after {self._exit_after:g} s")
        if self._blocked >= self._exit_after:
            self._report("event_loop.given_up", f"the process ends with exit code {EXIT_CODE}")
            os._exit(EXIT_CODE)

    def _report(self, event: str, then: str) -> None:
        """Log the stacks from a thread of its own: the log may be held by what is stuck."""
        values = {"seconds": round(self._blocked, 1), "then": then, "stacks": stacks()}
        writing = threading.Thread(target=log.error, args=(event,), kwargs=values, daemon=True)
        writing.start()
        writing.join(_LOG_WITHIN)

    def _arm_last_resort(self) -> None:
        if sys.__stderr__ is not None:
            faulthandler.register(signal.SIGPROF, file=sys.__stderr__, all_threads=True, chain=True)
        self._set_last_resort()

    def _set_last_resort(self) -> None:
        cores = min(os.cpu_count() or 1, _MOST_CORES)
        signal.setitimer(signal.ITIMER_PROF, self._exit_after * cores)


def _waits_for_events(frame: FrameType | None) -> bool:
    """Whether a thread is where an event loop waits for something to do."""
    if frame is None or frame.f_code.co_name != "select" or frame.f_back is None:
        return False
    return frame.f_back.f_code is asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]


def stacks() -> str:
    """Return the stacks of all threads as text, those of the caller left out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    shown = [
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    return "\n" + "\n".join(shown)
