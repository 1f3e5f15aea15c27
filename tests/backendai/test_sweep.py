"""Sessions that were left over on a real manager: ended, and nobody else's with them."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from backendai.cluster import Cluster
from backendai.stack.settings import KEYS
from backendai.worlds import settings
from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import NewSession
from trackbook.adapters.backendai.cleanup import sweep
from trackbook.adapters.backendai.config import Cluster as Settings
from trackbook.engine.ports import Owned

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
from command_line import CommandLine


class Sessions:
    """Sessions made behind the adapter's back; all are ended at last."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.installation = secrets.token_hex(4)
        self.made: list[tuple[Settings, str]] = []

    async def make(self, session: str, *, installation: str = "", key: str = "", runs: bool = False) -> str:
        """Make a session that goes on until it is ended, and return its id; once it `runs`, or before."""
        account = KEYS[key or self.cluster.key]
        given = settings(self.cluster, access_key=account.access, secret_key=account.secret)
        client = Client(given)
        new = NewSession(
            name=names.session(installation or self.installation, session),
            image=self.cluster.image,
            command="sleep 600",
            resources={"cpu": 1, "mem": 128 << 20},
        )
        try:
            made = await session_calls.create_session(client, new, timeout=90)
            self.made.append((given, made))
            await self._reach(client, made, runs=runs)
        finally:
            await client.close()
        return made

    @staticmethod
    async def _reach(client: Client, made: str, *, runs: bool) -> None:
        async with asyncio.timeout(60):
            while runs and (await session_calls.sessions_with_ids(client, [made]))[0].status != "RUNNING":  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def running(self) -> list[str]:
        """Return those that run still, in the order in which they were made."""
        found = []
        for given, made in self.made:
            client = Client(given)
            (session,) = await session_calls.sessions_with_ids(client, [made])
            found += [] if session.final or session.status == "TERMINATING" else [made]
            await client.close()
        return found

    async def close(self) -> None:
        """End them all; one that is starting is refused to end on 23.09, for good at times: then by force."""
        for given, made in self.made:
            client = Client(given)
            try:
                async with asyncio.timeout(120):
                    await self._end(client, made)
            finally:
                await client.close()

    @staticmethod
    async def _end(client: Client, made: str) -> None:
        gentle = asyncio.get_running_loop().time() + 20
        while not (await session_calls.sessions_with_ids(client, [made]))[0].final:
            forced = asyncio.get_running_loop().time() > gentle
            with suppress(ClusterError):  # a forced end is noted at once, and its answer may never come
                await session_calls.destroy(client, made, forced=forced, timeout=5 if forced else 60)
            await asyncio.sleep(0.3)


@pytest.fixture
async def sessions(stack: Cluster) -> AsyncIterator[Sessions]:
    """Give the sessions of an installation of its own."""
    made = Sessions(stack)
    yield made
    await made.close()


@pytest.fixture
async def connection(stack: Cluster, sessions: Sessions) -> AsyncIterator[ClusterConnection]:
    """Give the installation's link to the cluster."""
    made = ClusterConnection(settings(stack), sessions.installation)
    yield made
    await made.close()


def _owning(*owned: str) -> Callable[[], Awaitable[Owned]]:
    async def live() -> Owned:
        return Owned(set(owned))

    return live


async def test_only_what_no_attempt_owns_is_ended(sessions: Sessions, connection: ClusterConnection) -> None:
    """A live attempt's session and another installation's run on; plain looking ends nothing."""
    left = await sessions.make("tb-0a-0-1", runs=True)
    owned = await sessions.make("tb-0a-1-1")
    foreign = await sessions.make("tb-0a-0-1", installation=secrets.token_hex(4))
    live = _owning("tb-0a-1-1")

    reported = await sweep(connection, live, end=False)
    before = await sessions.running()
    ended = await sweep(connection, live, end=True)
    after = await sessions.running()
    again = await sweep(connection, live, end=True)

    assert [each.verdict for each in reported] == ["warn"]
    assert names.session(connection.installation, "tb-0a-0-1") in reported[0].found
    assert before == [left, owned, foreign]
    assert [each.verdict for each in ended] == ["ok"]
    assert after == [owned, foreign]
    assert again == []


async def test_a_session_of_a_job_that_the_log_does_not_know_is_only_reported(
    sessions: Sessions, connection: ClusterConnection
) -> None:
    """A copy of the data directory may own it: it is ended on request alone."""
    copys = await sessions.make("tb-0b-0-1", runs=True)
    left = await sessions.make("tb-0a-0-1", runs=True)

    async def live() -> Owned:
        return Owned(set(), lambda job: job == "0a")

    reported = await sweep(connection, live, end=True)
    spared = await sessions.running()
    await sweep(connection, live, end=True, unknown=True)

    assert [(each.verdict, "does not know its job" in each.hint) for each in reported] == [
        ("warn", True),
        ("ok", False),
    ]
    assert spared == [copys]
    assert left not in spared
    assert await sessions.running() == []


async def test_another_users_session_is_nobody_elses(sessions: Sessions, stack: Cluster) -> None:
    """An admin's key sees all sessions; one of our name that another key made is not ours."""
    if stack.newer:
        pytest.skip("the newer manager's seed lets the admin alone create sessions")
    theirs = await sessions.make("tb-0b-0-1", key="user")
    admin = KEYS["admin"]
    connection = ClusterConnection(
        settings(stack, access_key=admin.access, secret_key=admin.secret), sessions.installation
    )
    found = await sweep(connection, _owning(), end=True)
    await connection.close()

    assert found == []
    assert await sessions.running() == [theirs]


async def test_what_is_launched_meanwhile_is_never_taken_for_left_over(
    sessions: Sessions, connection: ClusterConnection
) -> None:
    """Sessions are listed before the log is asked: one made after the list isn't looked at."""
    await sessions.make("tb-0c-0-1")

    async def live() -> Owned:
        await sessions.make("tb-0c-1-1")
        return Owned({"tb-0c-0-1"})

    assert await sweep(connection, live, end=True) == []
    assert len(await sessions.running()) == 2


async def test_without_the_log_nothing_is_ended(sessions: Sessions, connection: ClusterConnection) -> None:
    """A job that can't be read may own anything."""
    left = await sessions.make("tb-0d-0-1")

    async def live() -> Owned:
        raise LookupError("a job can't be read")

    with pytest.raises(LookupError):
        await sweep(connection, live, end=True)

    assert await sessions.running() == [left]


async def test_one_that_goes_by_itself_is_left_to_it(sessions: Sessions, connection: ClusterConnection) -> None:
    """An attempt that has just ended leaves its session a moment behind: nobody reports it."""
    left = await sessions.make("tb-0e-0-1")

    async def live() -> Owned:
        await session_calls.destroy(connection.client, left)
        return Owned(set())

    async with asyncio.timeout(60):
        found = await sweep(connection, live, end=True)

    assert [each.verdict for each in found] in ([], ["ok"])
    assert await sessions.running() == []


WAITS = """\
name: waits
tasks:
- {name: wait, command: "until [ -e /pipeline/vfroot/go ]; do sleep 0.2; done", resources: {cpu: 1, mem: 128m}}
"""


async def test_a_running_job_is_never_swept(stack: Cluster, sessions: Sessions, tmp_path: Path) -> None:
    """While a job runs, `doctor` tells of what is left over, `--sweep` ends that alone, and the job succeeds."""
    line = CommandLine(tmp_path)
    key = KEYS[stack.key]
    line.environment |= {
        "TRACKBOOK_BACKENDAI_ENDPOINT": stack.endpoint,
        "TRACKBOOK_BACKENDAI_ACCESS_KEY": key.access,
        "TRACKBOOK_BACKENDAI_SECRET_KEY": key.secret,
        "TRACKBOOK_BACKENDAI_IMAGE": stack.image,
        "TRACKBOOK_EXECUTOR": "backendai/main",
    }
    (tmp_path / "waits.yaml").write_text(WAITS)
    (tmp_path / "go").write_text("")
    with line.up():  # which blocks the loop, on which nothing else goes on
        line("pipeline", "apply", "waits.yaml")
        job = json.loads(line("job", "start", "waits", "--json"))["job"]
        left = await sessions.make("tb-0f-0-1", installation=await _installation(stack, job))
        found = [json.loads(line("doctor", *end, "--json")) for end in ((), ("--sweep",), ("--sweep",))]
        running = await sessions.running()
        line("files", "put", "go", "waits:vfroot/go")
        line("job", "watch", job)

    about = [[each["verdict"] for each in one if each["what"].endswith("session")] for one in found]
    assert about == [["warn"], ["ok"], []]
    assert left not in running


async def _installation(stack: Cluster, job: str) -> str:
    """Return the installation's id, from the name of the job's session once that is there."""
    client = Client(settings(stack))
    query = "query($f:String!){compute_session_list(limit:1,offset:0,filter:$f){items{name}}}"
    items: list[dict[str, str]] = []
    async with asyncio.timeout(60):
        while not items:
            found = await client.query(query, f=f'name like "tb-%-{job}-0-1"')
            items = found["compute_session_list"]["items"]
    await client.close()
    return items[0]["name"].split("-")[1]
