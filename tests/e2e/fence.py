"""Runs a program and, once that has ended, ends everything that it left behind: `python fence.py PROGRAM …`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from trackbook.adapters.local.box.calls import become_subreaper
from trackbook.adapters.local.box.tree import kill_below


def main() -> int:
    """Return the program's exit code; SIGTERM ends all of it early."""
    become_subreaper()  # so that servers and sessions that were detached stay below this process
    signal.signal(signal.SIGTERM, _stop)
    try:
        return subprocess.run(sys.argv[1:], check=False).returncode
    finally:
        end_all()


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def end_all() -> None:
    """Kill every descendant and wait until none is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            kill_below(os.getpid())
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.01)  # what was forked while it was killed is found in the next round


if __name__ == "__main__":
    sys.exit(main())
