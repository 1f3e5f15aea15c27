"""The signals that end a command in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def stop_signals() -> list[signal.Signals]:
    """Return SIGINT and SIGTERM, and SIGHUP and SIGQUIT unless the parent process ignores them (nohup)."""
    asked = [n for n in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(n) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *asked]


def on_first_signal(call: Callable[[], None]) -> None:
    """Have the running loop call `call` at the first stop signal; the next one ends the process at once."""
    import asyncio

    loop = asyncio.get_running_loop()
    numbers = stop_signals()

    def received() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        end_at_once(numbers)
        call()

    for number in numbers:
        loop.add_signal_handler(number, received)


def end_at_once(numbers: list[signal.Signals] | None = None) -> None:
    """Let stop signals end the process from now on, whatever it waits for."""
    for number in stop_signals() if numbers is None else numbers:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let other signals do what Ctrl-C does, and Ctrl-C itself where a shell has it ignored in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
