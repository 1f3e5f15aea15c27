"""Runs the whole system inside a command, on a thread with its own event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trackbook.cli.client.address import Address
from trackbook.cli.server.stop_signals import end_at_once, interruptible
from trackbook.cli.terminal.error_messages import describe
from trackbook.cli.terminal.streams import say

if TYPE_CHECKING:
    from trackbook.runtime.app import System


class Host:
    """The system on its thread. Raises what the system raised where it did not start."""

    def __init__(self, data: Path, durability: str, *, reading: bool) -> None:
        self._data, self._durability, self._reading = data, durability, reading
        self._address: Future[Address] = Future()
        self._stop = asyncio.Event()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="trackbook")

    def start(self) -> Address:
        """Start it and return its address once it serves; a signal ends the start, a second one the process."""
        self._thread.start()
        try:
            with interruptible():
                return self._address.result()
        except KeyboardInterrupt:
            end_at_once()
            self.stop()
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, also while it starts, and wait until it has."""
        self._stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as problem:  # it is raised again where the system was asked for
            if self._address.done():
                said = describe(problem)[0].removeprefix("trackbook: ")
                say(f"trackbook: the embedded system failed: {said}; see {self._data}/trackbook.log")
            else:
                self._address.set_exception(problem)

    async def _serve(self) -> None:
        from trackbook.cli.server.foreground import serve_until
        from trackbook.runtime.process import log_output
        from trackbook.runtime.process.start_phase import StartLimits
        from trackbook.runtime.system import Config

        self._loop = asyncio.get_running_loop()
        if self._stopped:  # before there was a loop to receive it
            self._stop.set()
        log_output.configure(self._data / log_output.LOG_FILE)
        config = Config(
            data=self._data,
            http="127.0.0.1:0",
            durability=self._durability,
            takes_up_jobs=not self._reading,
            for_command=True,
            start_limits=StartLimits(say=lambda what: say(f"trackbook: waiting for {what} …")),
        )
        await serve_until(self._stop, config, self._started)

    def _started(self, system: System) -> None:
        self._address.set_result(Address(system.url, system.base.token))
