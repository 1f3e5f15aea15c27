"""More launches at once than the spawner's socket holds: all begin, without one that has to end first."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from conditions import holds

from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.job import ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.testing.reports import Reports

SESSIONS = 16


async def test_what_the_spawners_socket_does_not_hold_is_sent_later(tmp_path: Path) -> None:
    """While the spawner is slow, requests wait for it; each session begins once, though none of them ends yet."""
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    os.mkfifo(gate)
    executor = LocalExecutor(tmp_path / "data", limit=SESSIONS, grace=1, durable=False)
    executor.use_private_root = False
    reports = Reports()
    await executor.start(reports)
    assert executor._spawner._socket is not None
    executor._spawner._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: a few

    os.kill(executor.spawner_pid, signal.SIGSTOP)
    for number in range(SESSIONS):
        command = f"echo {number} >> {ledger}; read < {gate}; exit 0"
        await executor.launch(
            SessionSpec(f"tb-q{number}-{os.getpid()}", "j1", "p1", "pipe", f"t{number}", number, 1, command)
        )
    assert len(executor._running) < SESSIONS
    os.kill(executor.spawner_pid, signal.SIGCONT)
    await holds(lambda: ledger.exists() and len(ledger.read_text().split()) == SESSIONS)

    with gate.open("w") as opened:
        opened.write("go\n" * SESSIONS)
        opened.flush()
        await holds(lambda: len(ends(reports)) == SESSIONS)
    assert sorted(ledger.read_text().split(), key=int) == [str(number) for number in range(SESSIONS)]
    assert {end.outcome for end in ends(reports)} == {"succeeded"}
    await executor.close(cancel=True)


def ends(reports: Reports) -> list[ReportTaskEnded]:
    """Return the ends that were reported."""
    return [report for _, report in reports.all if isinstance(report, ReportTaskEnded)]
