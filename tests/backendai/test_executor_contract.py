"""The contract of executors once more, on real managers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld
from trackbook.testing.executor_contract import *  # noqa: F403 - the suite's tests


@pytest.fixture
async def world(stack: Cluster, tmp_path: Path) -> AsyncIterator[ClusterWorld]:
    """Give a world on the manager."""
    made = ClusterWorld(stack, tmp_path)
    yield made
    await made.close()
