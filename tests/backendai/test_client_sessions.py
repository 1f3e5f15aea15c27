"""Sessions by the manager's API: made once, found by name and id, ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from backendai.cases import connected, installation, new
from backendai.cluster import Cluster
from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session


@pytest.fixture
async def client(stack: Cluster) -> AsyncIterator[Client]:
    """Give a client of the stack."""
    async with connected(stack) as made:
        yield made


@pytest.fixture
async def prefix(client: Client) -> AsyncIterator[str]:
    """Give what this test's sessions are called, and end what it left."""
    ours = names.prefix(installation())
    yield ours
    for session in await session_calls.sessions_with_prefix(client, ours):
        with suppress(ClusterError):  # 23.09 takes no end of one that starts: its command is short
            await session_calls.destroy(client, session.id)


async def seen(client: Client, session: str, what: Callable[[Session], bool], seconds: float = 60) -> Session:
    """Read the session until it is as wanted."""
    async with asyncio.timeout(seconds):
        while True:
            found = await session_calls.sessions_with_ids(client, [session], containers=True)
            if found and what(found[0]):
                return found[0]
            await asyncio.sleep(0.1)


async def output(client: Client, session: str, seconds: float = 20) -> str:
    """Read the output of an ended session as soon as the manager has stored it: 23.09 answers 500 until then."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(ClusterError):
                return await session_calls.logs(client, session)
            await asyncio.sleep(0.1)


async def test_a_session_runs_and_is_found_ended(stack: Cluster, client: Client, prefix: str) -> None:
    """It is found by id, name and prefix, with its tag, result, times and containers, after its end as well."""
    name = f"{prefix}a-0-1"
    made = new(stack, name, "echo out; exit 3", tag="hash", variables={"A": "b c"}, shmem=16 * 2**20)

    session = await session_calls.create_session(client, made)
    ended = await seen(client, session, lambda found: found.final and found.result == "FAILURE")

    assert (ended.id, ended.name, ended.tag, ended.status) == (session, name, "hash", "TERMINATED")
    assert ended.history["RUNNING"] < ended.history["TERMINATED"]
    assert ended.terminated_at
    assert ended.created_at
    assert ended.created_at < ended.terminated_at
    assert [(each.role, each.index) for each in ended.containers] == [("main", 1)]
    assert [found.id for found in await session_calls.sessions_named(client, [name, f"{prefix}b-0-1"])] == [
        session
    ]
    assert [found.id for found in await session_calls.sessions_with_prefix(client, prefix, ended=True)] == [
        session
    ]
    assert await session_calls.sessions_with_prefix(client, prefix) == []
    assert "out" in await output(client, session)


async def test_a_name_is_one_live_session(stack: Cluster, client: Client, prefix: str) -> None:
    """A second create under the name is refused with the id of the first."""
    made = new(stack, f"{prefix}a-0-1", "sleep 60")
    session = await session_calls.create_session(client, made)

    with pytest.raises(ClusterError) as refused:
        await session_calls.create_session(client, made)

    assert refused.value.slug == "session-already-exists"
    assert refused.value.existing_session == session
    assert refused.value.kind == "permanent"


async def test_six_creates_at_once_make_one_session(stack: Cluster, client: Client, prefix: str) -> None:
    """One may succeed; the others learn that nobody knows, or that it exists."""
    made = new(stack, f"{prefix}a-0-1", "sleep 60")

    outcomes = await asyncio.gather(
        *(session_calls.create_session(client, made) for _ in range(6)), return_exceptions=True
    )

    found = await session_calls.sessions_named(client, [made.name])
    assert len(found) == 1
    for outcome in outcomes:
        if isinstance(outcome, str):
            assert outcome == found[0].id
        else:
            assert isinstance(outcome, ClusterError)
            assert outcome.kind == "unknown" or outcome.existing_session == found[0].id


async def test_a_session_with_folder_cluster_and_all(stack: Cluster, client: Client, prefix: str) -> None:
    """Two nodes, a scaling group and what else there is are taken as they are sent."""
    made = new(
        stack,
        f"{prefix}a-0-1",
        "sleep 60",
        cluster_mode="multi-node",
        cluster_size=2,
        scaling_group=stack.scaling_group,
        project=stack.project,
        domain=stack.domain,
        variables={"MULTI": "line\nline 'quoted' \"ü\""},
    )

    session = await session_calls.create_session(client, made)
    found = await seen(client, session, lambda found: len(found.containers) == 2)

    assert sorted((each.role, each.index) for each in found.containers) == [("main", 1), ("sub", 1)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "nowhere/none:1"}, "No such environment image"),
        ({"resources": {"cpu": 1, "mem": 2**20}}, "smaller than the (image )?minimum"),
        ({"resources": {"cpu": 1, "mem": 2**28, "moon.device": 1}}, "moon.device|Unknown slot"),
        ({"scaling_group": "moon"}, "moon|scaling group"),
        ({"project": "moon"}, "moon|group|project"),
        ({"mounts": {"no-such-folder": "/x"}}, "No such virtual folder|no-such-folder"),
    ],
)
async def test_what_can_never_run_is_permanent(
    stack: Cluster, client: Client, prefix: str, change: dict[str, object], words: str
) -> None:
    """The manager's own words say what is wrong, and nothing is made."""
    base = {"name": f"{prefix}a-0-1", "image": stack.image, "command": "true"}
    resources = {"resources": {"cpu": 1, "mem": 2**27}}

    with pytest.raises(ClusterError, match=words) as refused:
        await session_calls.create_session(client, session_calls.NewSession(**{**base, **resources, **change}))  # type: ignore[arg-type]

    assert refused.value.kind == "permanent"
    assert await session_calls.sessions_with_prefix(client, prefix, ended=True) == []


async def test_destroying_is_well_whatever_is_there(stack: Cluster, client: Client, prefix: str) -> None:
    """A running one ends; one that ended, and one that never was, are no errors."""
    session = await session_calls.create_session(client, new(stack, f"{prefix}a-0-1", "sleep 60"))
    await seen(client, session, lambda found: found.status == "RUNNING")

    await session_calls.destroy(client, session)
    ended = await seen(client, session, lambda found: found.final)
    await session_calls.destroy(client, session)
    await session_calls.destroy(client, str(uuid.uuid4()))

    assert (ended.status, ended.status_info) == ("TERMINATED", "user-requested")


async def test_a_session_that_waits_is_cancelled(stack: Cluster, client: Client, prefix: str) -> None:
    """What is too big for any agent stays pending, and can be cancelled."""
    huge = new(stack, f"{prefix}a-0-1", resources={"cpu": 100000, "mem": 2**30})
    session = await session_calls.create_session(client, huge)
    waiting = (await session_calls.sessions_with_prefix(client, prefix))[0]

    await session_calls.destroy(client, session)
    ended = await seen(client, session, lambda found: found.final)

    assert waiting.status in ("PENDING", "SCHEDULED")
    assert ended.status == "CANCELLED"
    # What the scheduler says of it may come later than the request, on 23.09.
    assert ended.status_info in ("user-requested", "no-available-instances")


async def test_two_hundred_sessions_are_read_in_one_request(stack: Cluster, client: Client, prefix: str) -> None:
    """By names and by ids alike, whether they are there or not."""
    requested: list[str] = []
    session = await session_calls.create_session(client, new(stack, f"{prefix}a-0-1", "sleep 60"))
    client.http.event_hooks["request"] = [lambda request: _note(requested, request.url.path)]
    names_asked = [f"{prefix}a-{index}-1".ljust(64, "x") for index in range(199)] + [f"{prefix}a-0-1"]
    ids_asked = [str(uuid.uuid4()) for _ in range(199)] + [session]

    by_name = await session_calls.sessions_named(client, names_asked)
    by_id = await session_calls.sessions_with_ids(client, ids_asked)
    by_prefix = await session_calls.sessions_with_prefix(client, prefix)

    assert requested == ["/admin/gql"] * 3
    assert [each.id for each in by_name] == [each.id for each in by_id] == [session]
    assert [each.id for each in by_prefix] == [session]


async def _note(requested: list[str], path: str) -> None:
    requested.append(path)


async def test_pages_are_put_together(
    stack: Cluster, client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list longer than a page is read whole."""
    monkeypatch.setattr(session_calls, "_PAGE", 2)
    monkeypatch.setattr(session_calls, "_NAMES", 3)
    wanted = [f"{prefix}a-{index}-1" for index in range(5)]
    for name in wanted:
        await session_calls.create_session(client, new(stack, name))

    found = await session_calls.sessions_with_prefix(client, prefix, ended=True)
    assert sorted(session.name for session in found) == wanted
    assert {session.name for session in await session_calls.sessions_named(client, wanted)} == set(wanted)


async def test_prefixes_are_taken_by_the_letter(stack: Cluster, client: Client) -> None:
    """`_` and `%` in a prefix stand for themselves."""
    ours = installation()
    session = await session_calls.create_session(client, new(stack, f"tb-{ours}-x"))

    found = [
        await session_calls.sessions_with_prefix(client, f"tb-{ours}{each}", ended=True)
        for each in ("_", "%", "-", "\\", '"')
    ]

    assert [[each.id for each in one] for one in found] == [[], [], [session], [], []]
