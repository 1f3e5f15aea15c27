"""Installations on the cluster that are cleaned up, whatever becomes of the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from kill.conftest import UNCLOSED
from kill.nursery import Nursery
from kill.world import Topology
from seed import SEED

from backendai.cluster import Cluster
from backendai.faults.examine import all_is_well
from backendai.faults.site import Site

LONG = os.environ.get("TRACKBOOK_FAULTS") == "long"
only_long = pytest.mark.skipif(not LONG, reason="TRACKBOOK_FAULTS=long makes it")
SECTION = "on a cluster"
Sites = Callable[..., AbstractAsyncContextManager[Site]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let go of warnings about sockets that nats-py leaves when its broker dies."""
    for item in items:
        if "sites" in getattr(item, "fixturenames", ()):
            for mark in UNCLOSED:
                item.add_marker(mark)


@pytest.fixture
def seed() -> int:
    """The seed of all chance in a test."""
    return SEED


@pytest.fixture
def sites(stack: Cluster, seed: int) -> Sites:
    """Return what makes an installation; at its end all must be well, and nothing left on the cluster."""

    @asynccontextmanager
    async def new(topology: Topology = "one", endpoint: str = "", **settings: str) -> AsyncIterator[Site]:
        assert stack.own
        folder = Path(tempfile.mkdtemp(prefix=f"trackbook-faults-{seed}-"))
        async with Nursery() as nursery:
            site = Site(
                folder, topology, seed, nursery, look_every=0.1,
                cluster=stack, settings=settings, endpoint=endpoint,
            )  # fmt: skip
            try:
                await site.start()
                yield site
                await all_is_well(site)
                await site.stop()
            except BaseException:
                print(f"seed {seed}: {folder}")
                await site.abandon()
                await asyncio.to_thread(site.sweep)
                raise
        if "TRACKBOOK_KEEP" not in os.environ:
            shutil.rmtree(folder)

    return new
