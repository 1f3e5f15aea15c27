"""Speaking to a manager: signatures, clocks, refusals, and what a cluster tells of itself."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from backendai.cases import connected, installation
from backendai.cluster import Cluster
from trackbook.adapters.backendai.api import inventory, session_calls
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Storage


def off_by(seconds: float) -> Callable[[], datetime]:
    """Return a clock that is wrong by so much."""
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


async def test_the_version_and_what_it_can(stack: Cluster) -> None:
    """Both releases are read as they are; read-only mounts came with the newer one."""
    async with connected(stack) as client:
        version = await session_calls.version(client)

    assert version.manager == stack.version
    assert version.mount_options is stack.newer


async def test_the_raw_path_is_signed(stack: Cluster) -> None:
    """Blanks, slashes, letters of other scripts and plus signs in path and query keep the signature right."""
    async with connected(stack) as client:
        groups = await client.get("/scaling-groups", {"group": "a b/c+d&e=ü%20", "none": None})
        with pytest.raises(ClusterError) as refused:
            await client.get("/session/%C3%BC%20%2B%252F", {"owner": "a+b"})

    assert "scaling_groups" in groups
    assert refused.value.kind == "permanent"


async def test_a_wrong_secret_is_for_the_operator(stack: Cluster) -> None:
    """The manager's words are reported, the secret isn't."""
    async with connected(stack, secret_key="x-wrong-secret-x") as client:
        with pytest.raises(ClusterError, match="ignature") as refused:
            await inventory.key(client)

    assert (refused.value.kind, refused.value.status, refused.value.slug) == ("operator", 401, "auth-failed")
    assert "x-wrong-secret-x" not in str(refused.value) + repr(refused.value)


@pytest.mark.parametrize("ahead", [-4000, 4000])
async def test_a_wrong_clock_is_worked_with_and_reported(stack: Cluster, ahead: int) -> None:
    """After one refusal the client dates its requests by the manager's clock, and says by how much."""
    async with connected(stack, clock=off_by(ahead)) as client:
        with capture_logs() as logged:
            first = await inventory.key(client)
            second = await inventory.key(client)

        assert first == second
        assert client.skew == pytest.approx(-ahead, abs=2)
        assert client.correction == pytest.approx(-ahead, abs=2)
    assert [entry["log_level"] for entry in logged] == ["warning"]


async def test_a_clock_within_reason_is_not_touched(stack: Cluster) -> None:
    """Ten minutes are taken by the manager; the skew is known all the same."""
    async with connected(stack, clock=off_by(-600)) as client:
        await inventory.key(client)

        assert client.correction == 0
        assert client.skew == pytest.approx(600, abs=2)


async def test_a_clock_that_can_not_be_mended(stack: Cluster) -> None:
    """Where the manager's answer tells no other time, the refusal says by how much the clocks differ."""
    jumps = itertools.cycle([4000, 8000])  # when dating a request, and when looking at its answer
    async with connected(stack, clock=lambda: datetime.now(UTC) + timedelta(seconds=next(jumps))) as client:
        with pytest.raises(ClusterError, match=r"its clock is \d+ seconds behind ours") as refused:
            await inventory.key(client)

    assert refused.value.kind == "operator"


async def test_nobody_there(stack: Cluster) -> None:
    """A manager that can't be reached is infrastructure, even for a change: nothing was sent."""
    async with connected(stack, endpoint="http://127.0.0.1:9") as client:
        with pytest.raises(ClusterError, match="can't be reached") as refused:
            await session_calls.destroy(client, "x")

    assert refused.value.kind == "infrastructure"


async def test_something_else_there(stack: Cluster) -> None:
    """An address of something else is reported as such."""
    async with connected(stack, endpoint=f"{stack.endpoint}/etc") as client:
        with pytest.raises(ClusterError):
            await session_calls.version(client)


async def test_a_wrong_query_is_permanent(stack: Cluster) -> None:
    """GraphQL's errors come with status 200."""
    async with connected(stack) as client:
        with pytest.raises(ClusterError, match="Cannot query field") as refused:
            await client.query("query{nothing}")

    assert (refused.value.kind, refused.value.slug) == ("permanent", "graphql")


async def test_what_the_cluster_has(stack: Cluster) -> None:
    """Slots, scaling groups, images with their least resources, the key's policy, projects and usage."""
    async with connected(stack) as client:
        slots = await inventory.slots(client)
        groups = await inventory.scaling_groups(client, stack.project)
        images = {image.canonical: image for image in await inventory.images(client)}
        policy = await inventory.policy(client)
        key = await inventory.key(client)
        usage = await inventory.usage(client, stack.project)

    assert slots["cpu"] == "count"
    assert slots["mem"] == "bytes"
    assert groups == [stack.scaling_group]
    assert images[stack.image].limits["cpu"][0] == "1"
    assert images[stack.image].architecture == "x86_64"
    assert policy.concurrent_sessions > 1
    assert "mount-in-session" in next(iter(policy.hosts.values()))
    assert key.active
    assert stack.project in key.projects
    assert usage.group_left[stack.scaling_group]["cpu"] > 0
    assert "cpu" not in usage.key_left, "no limit"


async def test_the_limits_of_a_small_account(stack: Cluster) -> None:
    """A key with little quota sees how little."""
    async with connected(stack, "small") as client:
        policy = await inventory.policy(client)

    assert (policy.concurrent_sessions, policy.containers_per_session) == (2, 1)
    assert policy.slots == {"cpu": "2", "mem": "2147483648"}


async def test_nothing_logged_has_a_secret(stack: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Neither ours nor the HTTP library's log, at its finest, has a key, a signature or a file's token."""
    caplog.set_level(logging.DEBUG)
    async with connected(stack, clock=off_by(4000)) as client:
        storage = Storage(client)
        with capture_logs() as logged:
            await inventory.key(client)
            folder = await storage.ensure(f"tb-test-{installation()}")
            await storage.write_small(folder.name, "a", b"x")
            await storage.read_small(folder.name, "a")
            await storage.remove(folder)

    text = caplog.text + str(logged)
    for secret in (*stack.keys[stack.key], "credential=", "token="):
        assert secret not in text
