"""The outcome of an attempt, from the end of its container or the engine's refusal."""

from __future__ import annotations

import re
import signal
from datetime import datetime
from pathlib import Path

from trackbook.adapters.container import attempt_state
from trackbook.adapters.container.client import Seen
from trackbook.adapters.container.plan import REFUSES
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.engine.ports import SessionSpec
from trackbook.events.clock_jump import TOLERANCE
from trackbook.events.job import Fault

_MIB = 2**20
_BY_SIGNAL = 128
_SAID: tuple[tuple[Fault, str], ...] = (
    (
        "infrastructure",
        (
            r"dial tcp|timeout|timed out|refused|no such host|handshake|unreachable|temporar|\beof\b|too ?many"
            r"|server misbehaving|cannot allocate|was removed"
        ),
    ),
    ("operator", r"no space left|permission denied|netavark|\bcni\b|iptables|cgroup|quota"),
    (
        "permanent",
        (
            r"not found|no such|unknown|denied|unauthorized|invalid|does not exist|could not select"
            r"|minimum memory|range of cpus|executable file|not supported|reference format"
        ),
    ),
)
"""Whose failure a refusal is, by what engines and registries say; the first that fits."""


def fault_of(message: str) -> Fault:
    """Return whose failure a refusal is; what nobody knows may work another time."""
    for fault, pattern in _SAID:
        if re.search(pattern, message, re.IGNORECASE):
            return fault
    return "infrastructure"


def conclude(seen: Seen | None, spec: SessionSpec, folder: Path, started_at: datetime | None) -> ExitRecord:
    """Return how a session ended whose container has ended, or is there no more."""
    asked = attempt_state.stop_requested_at(folder)
    if seen is None:
        if asked:
            return ExitRecord(ended_at=now(), started_at=started_at, stopped=True)
        message = "the container was removed before its end was known; it is not run again"
        return ExitRecord(ended_at=now(), started_at=started_at, lost=True, message=message)
    started_at = seen.started_at or started_at
    ended_at = seen.ended_at or now()
    if not attempt_state.is_claimed(folder):
        message = f"the command never began: {_why_not(seen)}"
        return ExitRecord(ended_at=ended_at, message=message, fault="permanent")
    record = ExitRecord(ended_at=_after(started_at, ended_at), started_at=started_at, exit_code=seen.exit_code)
    if attempt_state.was_refused(folder):
        record.lost, record.exit_code = True, None
        record.message = "somebody started the ended container again, so that its command's end is not known"
    elif asked and asked <= ended_at:
        record.stopped = True
    else:
        record.message = _cause(seen, spec)
    return record


def _after(started_at: datetime | None, ended_at: datetime) -> datetime:
    """Return an end that is not before the start, unless the clock was set meanwhile.

    Podman notes a start once its runtime has returned, and an end by the time of a file, whose clock is some
    milliseconds behind: a short command ends before its start (by 8 ms in Podman 4.3).
    """
    if started_at and -TOLERANCE <= (ended_at - started_at).total_seconds() < 0:
        return started_at
    return ended_at


def lost_record(started_at: datetime | None = None) -> ExitRecord:
    """Return the record of a session that was begun, as its claim says, and whose container is gone."""
    message = "the session was begun, and the engine knows nothing of its end; it is not run again"
    return ExitRecord(ended_at=now(), started_at=started_at, lost=True, message=message)


def _why_not(seen: Seen) -> str:
    if seen.exit_code == REFUSES:
        return (
            "its account can't write to /pipeline/.session, nor to /pipeline/outputs (see `user` in the settings)"
        )
    return seen.problem or f"the container ended with exit code {seen.exit_code}"


def _cause(seen: Seen, spec: SessionSpec) -> str:
    """Return why the command failed, '' where its exit code says it all."""
    limit = int(spec.resources.get("mem") or 0)
    limited = f"its limit is {limit / _MIB:,.0f} MiB"
    if seen.out_of_memory and seen.exit_code != 0:
        return f"the command ran out of memory{': ' + limited if limit else ''} (exit code {seen.exit_code})"
    name = _signal_name(seen.exit_code - _BY_SIGNAL)
    if not name:
        return ""
    perhaps = f"; it may have run out of memory; {limited}" if limit and name == "SIGKILL" else ""
    return f"the command ended with exit code {seen.exit_code}, which stands for {name}{perhaps}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
