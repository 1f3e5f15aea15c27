"""The signals that end a command in good order."""

from __future__ import annotations

import signal


def stop_signals() -> list[signal.Signals]:
    """Return SIGINT and SIGTERM, and SIGHUP and SIGQUIT unless the parent process ignores them (nohup)."""
    asked = [n for n in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(n) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *asked]
