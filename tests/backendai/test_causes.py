"""Why a task ended, or can't be seen, on a real manager: the cause that is reported is the one that there was."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backendai.cluster import Cluster
from backendai.stack.settings import KEYS
from backendai.worlds import ClusterWorld, Made, settings, spec
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session.attempt import UNREACHABLE

COUNT = "echo x >>/pipeline/vfroot/count-$TRACKBOOK_TASK"


@pytest.fixture
async def make(stack: Cluster, tmp_path: Path) -> AsyncIterator[Made]:
    """Give what makes worlds; each is looked at for what it leaves."""
    worlds: list[ClusterWorld] = []

    def new(folder: str = "", **other: Any) -> ClusterWorld:
        worlds.append(ClusterWorld(stack, tmp_path / (folder or f"data{len(worlds)}"), **other))
        return worlds[-1]

    yield new
    for world in worlds:
        await world.close()
        await world.nothing_left()


@pytest.fixture
async def admin(stack: Cluster) -> AsyncIterator[Client]:
    """Give a client with the key of an administrator."""
    key = KEYS["admin"]
    client = Client(settings(stack, access_key=key.access, secret_key=key.secret))
    yield client
    await client.close()


async def test_a_folder_that_is_deleted_under_a_task_is_named_as_the_cause(make: Made, stack: Cluster) -> None:
    """The command did run: what is lost is its exit code, and the output that was copied stays."""
    if stack.newer:
        pytest.skip("the newer manager deletes no folder that a session has mounted")
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "echo begun; sleep 8"))
    await world.logged("a", lambda log: "begun" in log)
    await world.remove_folder()
    end = await world.reports.ended("a")

    assert (end.outcome, end.fault) == ("lost", "infrastructure"), end.message
    assert "the pipeline's folder was deleted on the cluster while the task ran" in end.message
    assert "did not run" not in end.message
    assert "begun" in world.log("a")


async def test_a_revoked_key_is_reported_while_the_session_goes_on(
    make: Made, stack: Cluster, admin: Client
) -> None:
    """Nobody can say that it runs: UNREACHABLE, with the manager's reason, until the key is good again."""
    key = KEYS[stack.key if stack.newer else "small"]
    if stack.newer:
        pytest.skip("the newer manager's seed has one key that may make sessions")
    world = make(access_key=key.access, secret_key=key.secret)
    executor = await world.open()
    await executor.launch(spec("a", "until [ -e /pipeline/vfroot/go ]; do sleep 0.2; done"))
    await world.status("a", "RUNNING")
    try:
        await _activate(admin, key.access, active=False)
        await world.status("a", UNREACHABLE)
        reported = [
            why for status, why in zip(world.statuses("a"), world.whys("a"), strict=True) if status == UNREACHABLE
        ]
    finally:
        await _activate(admin, key.access, active=True)
    await world.returned("a", "RUNNING")
    await executor.stop(spec("a", ""))
    end = await world.reports.ended("a")

    assert reported[0]
    assert end.outcome == "cancelled"


async def _activate(admin: Client, key: str, *, active: bool) -> None:
    text = "mutation($k:String!,$p:ModifyKeyPairInput!){modify_keypair(access_key:$k,props:$p){ok msg}}"
    answer = await admin.query(text, k=key, p={"is_active": active})
    assert answer["modify_keypair"]["ok"], answer


async def test_what_is_ended_by_force_while_it_is_prepared_never_begins(make: Made, stack: Cluster) -> None:
    """23.09 starts its container all the same: the attempt is claimed before the job learns that it failed."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", COUNT, SIM_START_DELAY="15"))
    await world.status("a", "PREPARING", "CREATING")
    (session,) = await world.sessions()
    somebody = Client(settings(stack))
    with contextlib.suppress(ClusterError):  # the call hangs on 23.09 and is done all the same
        await session_calls.destroy(somebody, session.id, forced=True, timeout=10)
    await somebody.close()
    end = await world.reports.ended("a")
    index = spec("a", "").index
    claims = [
        path for path in world.cluster.volume.glob(f"**/.trackbook/j1/{index}-1.claim") if _is_new(path, world)
    ]

    assert (end.outcome, end.started_at) == ("failed", None), (end.message, world.statuses("a"))
    assert "not by this job" in end.message or "could not start" in end.message
    assert claims
    assert await world.runs("a") == 0


def _is_new(path: Path, world: ClusterWorld) -> bool:
    return path.stat().st_mtime > world.began
