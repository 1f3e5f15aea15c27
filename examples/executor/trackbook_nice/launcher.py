"""Run one attempt: claim it, run its command, leave its exit record. `python -m trackbook_nice.launcher FOLDER`.

The process that is started claims the attempt and ends; a fork of it has the claim's lock from then on. So the
claim is there when the launch returns, and the fork outlives the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.execution.shell_command import shell_argument
from trackbook_nice import attempt_state
from trackbook_nice.attempt_state import Plan

_LOOK_EVERY = 0.1
"""Seconds between looks for a request to stop."""


def main(folder: Path) -> None:
    """Claim the attempt and run it in a fork, unless somebody has claimed it."""
    plan = attempt_state.read_plan(folder)
    if attempt_state.claim(folder) is not None and os.fork() == 0:
        os.setsid()
        os.nice(plan.niceness)
        _run(folder, plan)


def _run(folder: Path, plan: Plan) -> None:
    with (folder / "log").open("ab") as log:
        command = subprocess.Popen(  # noqa: S603 - the task's own command
            ["/bin/sh", "-c", shell_argument(plan.command)],
            cwd=folder,
            env=plan.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started_at = attempt_state.mark_started(folder)
    code, stopped = _wait(command, folder, plan.grace)
    record = ExitRecord(ended_at=now(), started_at=started_at, stopped=stopped)
    if code >= 0:
        record.exit_code = code
    else:
        record.signal = -code
    attempt_state.write_record(folder, record)


def _wait(command: subprocess.Popen[bytes], folder: Path, grace: float) -> tuple[int, bool]:
    """Return the command's return code, and whether it was asked to stop."""
    kill_at: float | None = None
    while True:
        try:
            return command.wait(_LOOK_EVERY), kill_at is not None
        except subprocess.TimeoutExpired:
            if kill_at is None and attempt_state.is_stop_asked(folder):
                kill_at = time.monotonic() + grace
                os.killpg(command.pid, signal.SIGTERM)
            elif kill_at is not None and time.monotonic() > kill_at:
                os.killpg(command.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
