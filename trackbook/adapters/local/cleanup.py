"""Clean up after a killed launcher: find the processes that it left, by what they inherited, and kill them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path

import structlog

from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.box import tree

_log = structlog.get_logger(__name__)


async def clean_up(session: str, folder: Path, record: ExitRecord | None = None) -> ExitRecord:
    """Kill what a lost attempt left running, and leave and return its exit record.

    `record` says why it is lost where its launcher did not simply die.
    """
    killed = await asyncio.to_thread(kill, session)
    left = f", and {killed} processes that it left were killed" if killed else ""
    why = record.message if record else "the session's launcher died before the command's end was known"
    record = ExitRecord(
        ended_at=now(),
        started_at=None if record else attempt_state.read_claim(folder).started_at,
        lost=True,
        message=f"{why}{left}; it is not run again",
    )
    try:
        attempt_state.leave_record(folder, record)
    except OSError as error:  # the claim alone says as much
        _log.error("a lost session can't be recorded", session=session, error=str(error))
    return record


def find(session: str) -> list[int]:
    """Return living processes of a session: they carry its name in their environment, or descend from one.

    The name is in TRACKBOOK_SESSION, which only a process that clears its environment sheds; such a one is still
    found below, or in the session and group of, one that did not.
    """
    marker = f"\0TRACKBOOK_SESSION={session}\0".encode()
    table = tree.processes()
    marked = [pid for pid, fields in table.items() if tree.living(fields) and marker in _environment(pid)]
    sessions = {table[pid][3] for pid in marked} - {str(os.getsid(0)).encode(), b"0"}
    found = {pid for pid, fields in table.items() if fields[3] in sessions and tree.living(fields)}
    for pid in marked:
        found.update((pid, *tree.below(pid, table)))
    return sorted(found - {os.getpid()})


def _environment(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def kill(session: str) -> int:
    """Kill all that is left of a session and return how many, once they are gone. Blocks; for a thread."""
    killed: set[int] = set()
    while left := find(session):
        handles = []
        for pid in left:
            with contextlib.suppress(OSError):
                handles.append(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        _wait(handles)
    return len(killed)


def _wait(handles: list[int]) -> None:
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    poll.poll(1000)
    for handle in handles:
        os.close(handle)
