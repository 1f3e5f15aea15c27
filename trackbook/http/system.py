"""The whole system: the runtime's roles with the web role on top, whose imports are loaded only if it runs."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from trackbook.runtime import app
from trackbook.runtime.app import System, Web
from trackbook.runtime.process.watchdog import Watchdog
from trackbook.runtime.system import Config


def running(config: Config, watchdog: Watchdog | None = None) -> AbstractAsyncContextManager[System]:
    """Run what `config` names, the web role included (see runtime/app.py)."""
    return app.running(config, _load_web, watchdog)


def _load_web() -> Web:
    from trackbook.http.web_role import serve

    return serve
