"""Commands over HTTP, and what stands before them: hosts, origins, types, sizes and names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from histories.made import History
from histories.served import Site, site

from trackbook.http.transport.listener import BindRefusedError
from trackbook.http.transport.server import HttpServer

START = "/api/commands/job/start"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over an empty log."""
    async with site(History(), tmp_path / "readmodel.db") as found:
        yield found


async def test_a_command_reaches_the_gateway_as_it_was_sent(served: Site) -> None:
    """The gateway gets kind, verb, the very bytes and the actor; its reply is the answer."""
    body = b'{ "pipeline": "train",  "command_id": "c-1" }'

    answer = await served.client.post(
        START, content=body, headers={"content-type": "application/json", "trackbook-actor": "user:ann"}
    )

    assert (answer.status_code, answer.json()) == (200, served.gateway.reply)
    assert served.gateway.asked == [("job", "start", body, "user:ann")]


async def test_an_actor_that_is_not_named_is_http(served: Site) -> None:
    """Without a name of its own a command comes from `http`; an empty body is left to the gateway."""
    await served.client.post(START, json={})
    await served.client.post("/api/commands/pipeline/apply")

    assert [asked[2:] for asked in served.gateway.asked] == [(b"{}", "http"), (b"", "http")]


REJECTIONS = (
    ("pipeline_not_found", 404),
    ("job_not_found", 404),
    ("unknown_command", 404),
    ("job_ended", 409),
    ("job_exists", 409),
    ("pipeline_name_taken", 409),
    ("pipeline_deleted", 409),
    ("command_id_reused", 409),
    ("version_conflict", 409),
    ("invalid_json", 400),
    ("invalid_payload", 422),
    ("dependency_cycle", 422),
    ("unavailable", 503),
    ("store_unanswered", 503),
    ("outcome_unknown", 503),
    ("not_a_file", 503),
    ("disk_full", 503),
)


async def test_a_rejection_is_the_reply_with_a_fitting_status(served: Site) -> None:
    """A rejected command answers with the contract's reply, and a status by its code."""
    for code, status in REJECTIONS:
        served.gateway.reply = {"command_id": "c", "status": "rejected", "error": {"code": code, "message": "no"}}

        answer = await served.client.post(START, json={})

        assert (answer.status_code, answer.json()) == (status, served.gateway.reply)


STRANGERS: tuple[tuple[dict[str, str], int, str], ...] = (
    ({"host": "evil.example"}, 421, "unknown_host"),
    ({"host": "127.0.0.1.evil.example:80"}, 421, "unknown_host"),
    ({"host": "[::1"}, 421, "unknown_host"),
    ({"host": "user@evil.example"}, 421, "unknown_host"),
    ({"origin": "http://evil.example"}, 403, "foreign_origin"),
    ({"origin": "null"}, 403, "foreign_origin"),
    ({"origin": "http://127.0.0.1:1"}, 403, "foreign_origin"),
    ({"sec-fetch-site": "cross-site"}, 403, "foreign_origin"),
    ({"sec-fetch-site": "same-site"}, 403, "foreign_origin"),
    ({"content-type": "text/plain"}, 415, "not_json"),
    ({"content-type": "application/x-www-form-urlencoded"}, 415, "not_json"),
    ({"content-type": ""}, 415, "not_json"),
    ({"trackbook-actor": "a b"}, 400, "invalid_parameter"),
    ({"trackbook-actor": "x" * 65}, 400, "invalid_parameter"),
)


async def test_strangers_commands_are_refused(served: Site) -> None:
    """Another host, a page of another site, another type of body or an odd name never reach the gateway."""
    for odd, status, code in STRANGERS:
        headers = {"content-type": "application/json"} | odd

        answer = await served.client.post(START, content=b"{}", headers=headers)

        assert (odd, answer.status_code, answer.json()["error"]["code"]) == (odd, status, code)
    assert served.gateway.asked == []


async def test_reads_are_guarded_against_other_names_too(served: Site) -> None:
    """A page whose name was made to point at loopback can't read either; the names of loopback can."""
    port = served.server.url.rpartition(":")[2]
    for host, status in (("evil.example", 421), (f"localhost:{port}", 200), (f"[::1]:{port}", 200), ("", 421)):
        answer = await served.client.get("/api/jobs", headers={"host": host})

        assert answer.status_code == status, host


async def test_our_own_page_may_post(served: Site) -> None:
    """A page that this server sent may give commands."""
    headers = {"origin": served.server.url, "sec-fetch-site": "same-origin"}

    answer = await served.client.post(START, json={}, headers=headers)

    assert answer.status_code == 200


async def test_bodies_have_a_limit(served: Site) -> None:
    """A body of more than 16 MiB is refused, also when its length isn't announced."""
    large = b" " * (16 * 1024 * 1024 + 1)
    headers = {"content-type": "application/json"}

    async def piecemeal() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1024 * 1024

    reported = await served.client.post(START, content=large, headers=headers)
    unreported = await served.client.post(START, content=piecemeal(), headers=headers)
    fitting = await served.client.post(START, content=large[1:], headers=headers)

    assert (reported.status_code, reported.json()["error"]["code"]) == (413, "too_large")
    assert (unreported.status_code, unreported.json()["error"]["code"]) == (413, "too_large")
    assert fitting.status_code == 200


async def test_other_methods_are_reported(served: Site) -> None:
    """Reading a command's address or writing a read's is 405."""
    assert (await served.client.get(START)).status_code == 405
    answer = await served.client.put("/api/jobs", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_only_loopback_is_served(host: str) -> None:
    """Tokens go over HTTP in the clear, so an address that other machines reach is refused in words."""
    with pytest.raises(BindRefusedError, match=r"127\.0\.0\.1"):
        await HttpServer(None, host, 0).start()  # type: ignore[arg-type]


async def test_a_taken_port_is_reported_in_words(served: Site) -> None:
    """A port that is in use is named, with what to do about it."""
    port = int(served.server.url.rpartition(":")[2])

    with pytest.raises(BindRefusedError, match=f"127.0.0.1:{port} can't be served: .*--http"):
        await HttpServer(served.app, port=port).start()


async def test_the_server_is_silent_and_at_rest_between_requests(
    served: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """Requests leave no line behind, and the server schedules nothing while nobody asks."""
    answer = await served.client.get("/api/jobs", headers={"connection": "close"})
    loop: Any = asyncio.get_running_loop()
    await asyncio.sleep(0)

    assert answer.status_code == 200
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    assert "date" not in answer.headers
    assert "server" not in answer.headers
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("uvicorn.access").propagate
