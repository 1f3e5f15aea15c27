"""Executors on a real manager, for tests: each world has an installation of its own, and leaves no session."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.stack.settings import KEYS
from trackbook.adapters.backendai import config
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.testing.reports import Reports

PATIENCE = 90.0


def settings(cluster: Cluster, **other: Any) -> config.Cluster:
    """Return the adapter's settings for a cluster; quick ones where tests wait."""
    key = KEYS[cluster.key]
    made = config.Cluster(
        name="main",
        endpoint=cluster.endpoint,
        access_key=key.access,
        secret_key=key.secret,
        project=cluster.project,
        domain=cluster.domain,
        image=cluster.image,
        poll_interval=2.0,
        stop_timeout=20.0,
    )
    return replace(made, **other)


class ClusterWorld:
    """Executors that follow one another on the same sessions."""

    def __init__(self, cluster: Cluster, folder: Path, **other: Any) -> None:
        self.reports = Reports(PATIENCE)
        self.installation = secrets.token_hex(4)
        self.settings = settings(cluster, **other)
        self.folder = folder
        self._executors: list[BackendAIExecutor] = []

    async def open(self, limit: int | None = None) -> BackendAIExecutor:
        """Open another executor on the same data directory."""
        self._executors.append(BackendAIExecutor(self.settings, self.folder, self.installation, limit=limit))
        await self._executors[-1].start(self.reports)
        return self._executors[-1]

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)
