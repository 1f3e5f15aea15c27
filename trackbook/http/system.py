"""The whole system: the runtime's roles and the web role on top; what HTTP needs is imported when it starts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack

from trackbook.runtime import app
from trackbook.runtime.system import Config, System
from trackbook.runtime.watchdog import Watchdog


def running(config: Config, watchdog: Watchdog | None = None) -> AbstractAsyncContextManager[System]:
    """Run what `config` names, the web role included (see runtime/app.py)."""
    return app.running(config, _web, watchdog)


async def _web(system: System, stack: AsyncExitStack) -> str:
    from trackbook.http.web import serve

    return await serve(system, stack)
