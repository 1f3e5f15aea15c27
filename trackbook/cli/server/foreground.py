"""Runs the system until a stop signal, which may come during the start."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trackbook.runtime.process.lean_imports  # noqa: F401 - before the others
from trackbook.http.system import running
from trackbook.runtime.app import System
from trackbook.runtime.process.watchdog import Watchdog
from trackbook.runtime.system import Config


async def serve_until(stop: asyncio.Event, config: Config, started: Callable[[System], None]) -> None:
    """Run the system until `stop` is set; a start under way is cancelled, and what was started is ended.

    `started` is called once the system works. Raises what the start raises.
    """
    works = False

    async def serve() -> None:
        nonlocal works
        with _start_without_collector() as collect:
            async with Watchdog() as watchdog, running(config, watchdog) as system:
                works = True
                collect()
                started(system)
                await stop.wait()

    serving = asyncio.create_task(serve(), name="system")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not works:
            serving.cancel()
        await serving
    except asyncio.CancelledError:
        if not (stop.is_set() and serving.cancelled()):
            raise
    finally:
        stopping.cancel()


@contextmanager
def _start_without_collector() -> Iterator[Callable[[], None]]:
    """Keep Python's garbage collector from running during a start; yields what lets it run from then on.

    It would look again and again through the hundred thousand objects that are made then and stay for good, which
    is a tenth of a start. Afterwards they are left out, and with them most of the work of later collections.
    """

    def collect() -> None:
        gc.freeze()
        gc.enable()

    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
