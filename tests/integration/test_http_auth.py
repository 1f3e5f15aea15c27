"""Whoever asks over HTTP shows the server's token: every user of the machine can reach loopback."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from histories.made import History
from histories.served import TOKEN, Site, site

from trackbook.http.transport.guard import OPEN

WRONG: tuple[dict[str, str], ...] = (
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN},
    {"cookie": f"token={TOKEN}"},
    {"x-token": TOKEN},
)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server of which the client knows no token."""
    async with site(History(), tmp_path / "read.db") as opened:
        del opened.client.headers["authorization"]
        yield opened


def routes(served: Site) -> Iterator[tuple[str, str]]:
    """Yield method and path of everything that the application answers, parameters filled in."""
    for route in served.app.app.routes:
        path = re.sub(r"\{[^}]*\}", "1", str(getattr(route, "path_format", route.path)))
        for method in sorted({*getattr(route, "methods", ()), "OPTIONS"}):
            yield str(method), path


async def test_every_route_asks_for_the_token(served: Site) -> None:
    """Without the token each route answers 401 and says how to show it; the two of health are open."""
    seen: list[tuple[str, str]] = []
    for method, path in routes(served):
        if path in OPEN and method in ("GET", "HEAD"):
            continue
        answer = await served.client.request(method, path)

        assert (method, path, answer.status_code) == (method, path, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="trackbook"'
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "unauthorized"
        seen.append((method, path))

    assert {("GET", "/"), ("GET", "/metrics"), ("GET", "/api/events"), ("POST", "/api/commands/1/1")} <= {*seen}
    assert ("GET", "/schema/openapi.json") in seen
    assert served.gateway.asked == []


async def test_health_is_asked_to_anybody(served: Site) -> None:
    """Whether the server lives and works can be watched without the token."""
    for path in OPEN:
        assert (await served.client.get(path)).status_code == 200


async def test_only_the_very_token_opens(served: Site) -> None:
    """Anything but the whole token in its header is refused; the token opens, however the scheme is spelled."""
    for headers in WRONG:
        assert (await served.client.get("/api/jobs", headers=headers)).status_code == 401, headers
    assert (await served.client.get("/api/jobs", params={"token": TOKEN})).status_code == 401
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await served.client.get("/api/jobs", headers={"authorization": f"{scheme} {TOKEN}"})
        assert answer.status_code == 200


async def test_a_token_that_is_no_text_is_refused(served: Site) -> None:
    """Bytes that no token holds are compared and refused like any other."""
    answer = await served.client.get("/api/jobs", headers=[(b"authorization", b"Bearer \xff\xfe\x80")])

    assert answer.status_code == 401


async def test_unknown_paths_tell_strangers_nothing(served: Site) -> None:
    """Without the token, what isn't there looks like what is."""
    assert (await served.client.get("/api/nothing-here")).status_code == 401
    assert (await served.client.get("/health/live/../../api/jobs")).status_code == 401
    assert (await served.client.get("/health/live/")).status_code == 401
    assert (await served.client.post("/health/live")).status_code == 401


async def test_no_page_of_another_origin_is_let_in(served: Site) -> None:
    """No answer grants another origin anything, a preflight's included."""
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    token = {"authorization": f"Bearer {TOKEN}"}
    for method, headers in (
        ("OPTIONS", asked),
        ("OPTIONS", asked | token),
        ("GET", asked),
        ("GET", asked | token),
    ):
        answer = await served.client.request(method, "/api/jobs", headers=headers)

        assert [name for name in answer.headers if name.startswith("access-control-")] == []
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_token_is_not_logged(
    served: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is logged of a request that fails, and what is answered, does not hold the token."""
    caplog.set_level(logging.DEBUG)

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(served.read, "jobs", broken)
    answers = [
        await served.client.get("/api/jobs", headers={"authorization": f"{scheme} {TOKEN}"})
        for scheme in ("Bearer", "Basic")
    ]

    assert [answer.status_code for answer in answers] == [500, 401]
    assert "failed" in caplog.text
    own = [record for record in caplog.records if not record.name.startswith(("http", "asyncio"))]
    assert TOKEN not in "".join([record.getMessage() for record in own] + [answer.text for answer in answers])
