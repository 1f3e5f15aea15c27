"""Fixtures shared by all suites, and how tests are shared among the processes of a parallel run.

Tests that share a cluster, a container engine or a module's server run in one process, so that it is
booted once. All others go to whichever process is free, the slow kinds first.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from container.engine import container_engine  # noqa: F401 - a fixture
from hypothesis import settings
from seed import SEED
from summary import Summary
from teardown_limit import TeardownLimit

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect

pytest.register_assert_rewrite("trackbook.testing.executor_contract")

_prefixes = (f"t{number}" for number in itertools.count(1))
_HERE = Path(__file__).parent
_LONG = 2700
"""Seconds that one test may take on a 26.8, where a service is healthy after four minutes, or in long runs."""
_SLOWEST_FIRST = (
    "backendai",
    "container",
    "kill",
    "damage",
    "load",
    "simulation",
    "e2e",
    "contract",
    "integration",
    "unit",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Pin all chance, and undo what a shell does to commands in the background: it has them ignore signals."""
    config.pluginmanager.register(Summary(config))
    config.pluginmanager.register(TeardownLimit())
    config.option.hypothesis_seed = str(SEED)  # as --hypothesis-seed does
    settings.register_profile("trackbook", settings(), deadline=None)  # no test fails for a busy machine
    settings.load_profile("trackbook")
    os.environ.pop("COLUMNS", None)  # workers of a parallel run have it, and tables would be cut to it
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_report_header() -> str:
    """Print the seed."""
    return f"seed: {SEED} (TRACKBOOK_SEED=NUMBER or random for another)"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares something, and start with what takes long."""
    for item in items:
        if group := _shared(item):
            item.add_marker(pytest.mark.xdist_group(group))
        if group.startswith("backendai-26") or os.environ.get("TRACKBOOK_FAULTS") == "long":
            item.add_marker(pytest.mark.timeout(_LONG))
    items.sort(key=_speed)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a parallel run that would not keep groups together: it would boot each shared thing often."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            group = _shared(item)
            assert not group or item.nodeid.endswith(f"@{group}"), (
                f"pytest-xdist does not see the group of {item.nodeid}"
            )


def _shared(item: pytest.Item) -> str:
    """Return the name of what a test has in common with others, beyond its process; empty for most tests."""
    fixtures = getattr(item, "fixturenames", ())
    callspec = getattr(item, "callspec", None)
    if "stack" in fixtures and callspec:
        # Two groups, each with an own cluster where processes are enough: one chain would be as long as the run.
        part = "-faults" if "faults" in item.path.parts else ""
        return f"backendai-{callspec.params['stack'].removesuffix('?')}{part}"
    if "container_engine" in fixtures:
        return "container"
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.values() if info else ()
    of_a_module = any(each[-1].scope == "module" and each[-1].baseid for each in definitions)
    return str(item.path.relative_to(_HERE)) if of_a_module else ""


def _speed(item: pytest.Item) -> int:
    folder = item.path.relative_to(_HERE).parts[0]
    group = _shared(item)
    kind = "backendai" if group.startswith("backendai") else group if group == "container" else folder
    return _SLOWEST_FIRST.index(kind) if kind in _SLOWEST_FIRST else len(_SLOWEST_FIRST)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole run; tests that stop or kill one start their own."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("broker"), durability="fast")
    # A loop of its own thread supervises it: the tests' loops come and go.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="broker")
    thread.start()
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result()
    yield broker
    asyncio.run_coroutine_threadsafe(broker.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def prefix() -> str:
    """A prefix of streams and subjects that no other test uses."""
    return next(_prefixes)


@pytest.fixture
async def nc(broker: EmbeddedBroker) -> AsyncIterator[Connection]:
    """A connection as the engine."""
    connection = await connect(broker.engine, name="test")
    yield connection
    await connection.close()
