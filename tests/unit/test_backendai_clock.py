"""A machine whose clock differs from the manager's by more than it takes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.config import Cluster

TAKEN = timedelta(minutes=15)
REFUSAL = {
    "type": "https://api.backend.ai/probs/auth-invalid",
    "title": "Missing or invalid authorization parameters",
    "msg": "Date/time sync error",
}


class Manager:
    """Refuses requests that are dated by another clock; the first answers come when `together` wait."""

    def __init__(self, together: int, behind: timedelta = timedelta()) -> None:
        self._together = together
        self._behind = behind
        self._all = asyncio.Event()
        self.asked = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.asked += 1
        if self.asked == self._together:
            self._all.set()
        await self._all.wait()
        now = datetime.now(UTC)
        headers = {"Date": format_datetime(now - self._behind, usegmt=True)}
        if abs(datetime.fromisoformat(request.headers["Date"]) - now) > TAKEN:
            return httpx.Response(400, json=REFUSAL, headers=headers)
        return httpx.Response(200, json={"ok": True}, headers=headers)


def connected(manager: Manager) -> Client:
    """Return a client whose clock is 20 minutes ahead."""
    cluster = Cluster(name="main", endpoint="http://manager.test", access_key="A", secret_key="S")
    client = Client(cluster, clock=lambda: datetime.now(UTC) + timedelta(minutes=20))
    client.http = httpx.AsyncClient(transport=httpx.MockTransport(manager.answer))
    return client


@pytest.mark.parametrize("together", [1, 2, 5])
async def test_requests_on_their_way_at_once_are_all_repeated_by_the_managers_time(together: int) -> None:
    """One of them corrects the time; those that are refused after that had the wrong one as well."""
    manager = Manager(together)
    client = connected(manager)

    answers = await asyncio.gather(*(client.get("/") for _ in range(together)))

    assert answers == [{"ok": True}] * together
    assert manager.asked == 2 * together
    await client.close()


async def test_a_manager_that_refuses_its_own_time_is_not_asked_for_ever() -> None:
    """Its refusal is the answer."""
    manager = Manager(1, behind=timedelta(hours=1))
    client = connected(manager)

    with pytest.raises(ClusterError) as refused:
        await client.get("/")

    assert refused.value.is_clock
    assert manager.asked < 5
    await client.close()
