"""The contract of folders once more, on real managers and their storage proxies."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from folder_contract import FoldersContract, put

from backendai.cluster import Cluster
from backendai.worlds import settings
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.folders import ClusterFolders


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

    sets_modes = False


async def test_programs_that_tasks_made_are_listed_as_such(
    folders: ClusterFolders, pipeline: str, stack: Cluster
) -> None:
    """Storage proxies tell modes, each version in its own way."""
    name = secrets.token_hex(8)
    await put(folders, pipeline, f"vfroot/{name}", b"#!/bin/sh\n")
    (there,) = stack.volume.glob(f"**/vfroot/{name}")
    there.chmod(0o755)

    assert (await folders.stat(pipeline, f"vfroot/{name}")).executable
