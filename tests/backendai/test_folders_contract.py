"""The contract of folders once more, on real managers and their storage proxies."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from folder_contract import FoldersContract

from backendai.cluster import Cluster
from backendai.worlds import settings
from trackbook.adapters.backendai.client import Client
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.storage import Storage


@pytest.fixture
def pipeline() -> str:
    """The id of a pipeline."""
    return secrets.token_hex(8)


@asynccontextmanager
async def closing(client: Client) -> AsyncIterator[Client]:
    """Close a client in the end."""
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def folders(stack: Cluster, tmp_path: Path, pipeline: str) -> AsyncIterator[ClusterFolders]:
    """Give the folders of an installation of its own, which leaves none."""
    async with closing(Client(settings(stack))) as client:
        made = ClusterFolders(Storage(client), tmp_path, secrets.token_hex(4))
        yield made
        await made.purge(pipeline)


class TestClusterFolders(FoldersContract):
    """The suite on a cluster."""
