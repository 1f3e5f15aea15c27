"""A limit of time for the teardown of a test that has failed."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from pytest_timeout import Settings  # type: ignore[import-untyped]


class TeardownLimit:
    """A pytest plugin: pytest-timeout takes its timer back when a test fails, before its teardown."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """Set the timer again, to as many seconds as any test has."""
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            limit = float(item.config.getini("timeout"))
            settings = Settings(limit, "signal", func_only=False, disable_debugger_detection=False)
            item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
        yield
