"""Watching the sessions of a cluster, whatever the cluster answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.events import Hint
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import watch
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.adapters.backendai.session.watch import Watch, Watched

CLUSTER = Cluster(name="main", endpoint="http://127.0.0.1:9", access_key="A", secret_key="S", poll_interval=0.1)


async def test_an_answer_that_nobody_foresaw_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions are read on after an answer that can't be understood, else none would be seen to end."""
    asked = 0
    read = asyncio.Event()

    async def answers(client: Client, ids: Iterable[str]) -> list[Session]:
        nonlocal asked
        asked += 1
        if asked <= 2:  # the look when it is added, and the first poll
            raise TypeError("'NoneType' object is not subscriptable")
        read.set()
        return []

    async def silence(client: Client, prefix: str = "") -> AsyncGenerator[Hint, None]:
        await asyncio.Event().wait()
        yield Hint("")

    monkeypatch.setattr(session_calls, "sessions_with_ids", answers)
    monkeypatch.setattr(watch, "hints", silence)
    monkeypatch.setattr(watch, "_AGAIN", 0.01)
    cluster = ClusterConnection(CLUSTER, "0123abcd")
    watching = Watch(cluster, PipelineFolders(cluster, tmp_path))
    session = SimpleNamespace(id="s1", running=False, may_have_begun=False, observe=lambda session: None)
    watched: dict[str, Watched] = {"s1": session}
    monkeypatch.setattr(watching, "_watched", watched)
    watching.start()
    try:
        async with asyncio.timeout(30):
            await read.wait()
    finally:
        await watching.close()
        await cluster.close()
