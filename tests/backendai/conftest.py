"""The managers that tests here speak to: booted once a version, or running already.

TRACKBOOK_BACKENDAI names the versions, e.g. "23.09,26.8", or "none"; one with a "?" behind it may be missing, the
others fail where they can't boot. Unset, it is "23.09?".
TRACKBOOK_BACKENDAI_URL_23, …_26 give the endpoint of a manager that runs already, made by the same seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

import pytest

from backendai.cluster import Cluster, External
from backendai.stack.boot import booted
from backendai.stack.settings import VERSIONS, Unavailable

ASKED = os.environ.get("TRACKBOOK_BACKENDAI", "23.09?")
URLS = {series: os.environ.pop(f"TRACKBOOK_BACKENDAI_URL_{series}", "") for series in ("23", "26")}
"""Taken out of the environment, where they would be taken for settings of a cluster."""
FIRST = -5
"""Nice value of the stack and of its tests: they mostly wait, and a manager that other tests starve of the
processor runs into its own time limits."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run what needs a manager before other tests, and the next test of this worker as usual."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if "stack" in getattr(item, "fixturenames", ()):
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    try:
        return (yield)
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a manager."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.backendai)


def reported(config: pytest.Config) -> AbstractContextManager[None]:
    """Let progress be seen while it is made: the first boot on a machine takes a minute."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return nullcontext()
    shown: AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return shown


@pytest.fixture(scope="session", params=[word.strip() for word in ASKED.split(",")])
def stack(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a real manager of each version that was asked for; shared, so leave it as it was."""
    series = request.param.removesuffix("?")
    if series == "none":
        pytest.skip("TRACKBOOK_BACKENDAI=none")
    assert series in VERSIONS, f"TRACKBOOK_BACKENDAI: {series!r} is none of {', '.join(VERSIONS)}"
    if url := URLS[series.partition(".")[0]]:
        yield External(series, url)
        return
    with ExitStack() as rest:
        try:
            with reported(request.config):
                own = rest.enter_context(booted(series))
        except Unavailable as error:
            if request.param.endswith("?"):
                pytest.skip(f"no Backend.AI {VERSIONS[series]}: {error}")
            raise
        yield Cluster(own)
