"""Hints of the event stream: prompt, opened again, and never trusted to be whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from backendai.cases import connected, installation, new
from backendai.cluster import Cluster
from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.events import Hint, hints


@pytest.fixture
async def client(stack: Cluster) -> AsyncIterator[Client]:
    """Give a client of the stack."""
    async with connected(stack) as made:
        yield made


async def until(stream: AsyncGenerator[Hint, None], *kinds: str, seconds: float = 60) -> list[Hint]:
    """Take hints until one of the kinds comes; return all."""
    seen: list[Hint] = []
    async with asyncio.timeout(seconds):
        async for hint in stream:
            seen.append(hint)
            if hint.kind in kinds:
                break
    return seen


async def test_a_session_is_hinted_at_from_start_to_end(stack: Cluster, client: Client) -> None:
    """Opening the stream is reported first; then what happens to sessions of the prefix, and of no other."""
    prefix = names.prefix(installation())
    async with aclosing(hints(client, prefix)) as stream:
        opened = await until(stream, "connected")
        await session_calls.create_session(client, new(stack, f"{names.prefix(installation())}a-0-1"))
        session = await session_calls.create_session(client, new(stack, f"{prefix}a-0-1", "exit 3"))
        seen = await until(stream, "session_terminated")

    assert opened == [Hint("connected")]
    assert {hint.session_id for hint in seen} == {session}
    assert {hint.session_name for hint in seen} == {f"{prefix}a-0-1"}
    assert "kernel_started" in {hint.kind for hint in seen}
    codes = {hint.exit_code for hint in seen if hint.kind == "session_failure"}
    assert codes <= ({None} if stack.newer else {3})


async def test_a_silent_connection_is_given_up(stack: Cluster, client: Client) -> None:
    """Where nothing comes for too long, not even a comment, the stream is opened again and says so."""
    async with aclosing(hints(client, "none-", silence=1, longest_pause=0.1)) as stream:
        async with asyncio.timeout(20):
            seen = [await anext(stream) for _ in range(3)]

    assert seen == [Hint("connected")] * 3


async def test_comments_keep_a_quiet_stream(stack: Cluster, client: Client) -> None:
    """The manager's comments, one in 15 seconds, count as life."""
    async with aclosing(hints(client, "none-", silence=18)) as stream:
        await anext(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(22):
                await anext(stream)


async def test_the_stream_outlives_the_manager(stack: Cluster) -> None:
    """Cut by a manager that stops, it is open again soon after that is back, tells the gap, and goes on."""
    _ = stack.own
    prefix = names.prefix(installation())
    async with connected(stack) as client, aclosing(hints(client, prefix, longest_pause=1)) as stream:
        await anext(stream)
        following = asyncio.ensure_future(until(stream, "session_terminated", seconds=240))
        try:
            await asyncio.to_thread(stack.stop, "manager")
        finally:
            await asyncio.to_thread(stack.start, "manager")
        session = await session_calls.create_session(client, new(stack, f"{prefix}a-0-1"))
        seen = await following

    assert seen[0] == Hint("connected")
    assert {hint.session_id for hint in seen if hint.kind != "connected"} == {session}


async def test_an_unknown_key_is_no_storm(stack: Cluster) -> None:
    """Refused, it is asked again at longer and longer intervals, and nothing is hinted."""
    asked: list[str] = []

    async def note(request: object) -> None:
        asked.append(str(request))

    async with connected(stack, secret_key="wrong") as client:
        client.http.event_hooks["request"] = [note]
        async with aclosing(hints(client)) as stream:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await anext(stream)

    assert 2 <= len(asked) <= 8
