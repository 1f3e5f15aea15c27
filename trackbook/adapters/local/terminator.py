"""Terminate a session of this machine by its launcher."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from trackbook.adapters.local import attempt_state


def terminate(folder: Path) -> None:
    """Ask the session's launcher to stop it: at once if it lives, else when it has claimed the attempt."""
    attempt_state.mark(folder, "stop")
    state = attempt_state.examine(folder)
    handle = attempt_state.watch(folder, state.pid) if state.name == "alive" else None
    if handle is not None:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        os.close(handle)
