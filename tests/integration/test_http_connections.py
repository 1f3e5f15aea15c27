"""Connections over HTTP: how many there are, and how long one may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from histories.made import History
from histories.served import TOKEN, Site, site

from trackbook.http.transport import connections
from trackbook.http.transport.connections import most_connections

HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
POST = b"POST /api/commands/job/start HTTP/1.1\r\nContent-Type: application/json\r\n"
PATIENCE = 30


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server that waits a quarter of a second for a request, and takes three connections."""
    monkeypatch.setattr(connections, "REQUEST_WITHIN", 0.25)
    monkeypatch.setattr(connections, "BODY_PAUSE", 0.25)
    async with site(History(), tmp_path / "readmodel.db") as found:
        found.server.connections.most = 3
        yield found


async def opened(served: Site, sends: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send something."""
    address = served.client.base_url
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(sends)
    await writer.drain()
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the server closes the connection."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    "sends",
    [
        b"",
        b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        POST + b"Content-Length: 99\r\n" + HEAD + b"\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n" + HEAD + b"\r\n1\r\n{\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half of its chunks"],
)
async def test_what_does_not_arrive_is_given_up(served: Site, sends: bytes) -> None:
    """The server closes a connection that says nothing, or stops in the middle."""
    reader, writer = await opened(served, sends)

    await rest(reader)
    writer.close()

    assert served.server.connections.open == set()


async def test_an_answer_may_take_as_long_as_it_does(served: Site) -> None:
    """A stream on which nothing happens is in use, not idle."""
    reader, writer = await opened(served, b"GET /api/events HTTP/1.1\r\n" + HEAD + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    slow, other = await opened(served, b"")
    await rest(slow)

    assert head.startswith(b"HTTP/1.1 200")
    assert len(served.server.connections.open) == 1
    writer.close()
    other.close()


async def test_at_the_limit_those_that_wait_make_room(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that waited longest is closed; a request is answered."""
    monkeypatch.setattr(connections, "REQUEST_WITHIN", 60)
    idle = [await opened(served, b"") for _ in range(3)]

    assert (await served.client.get("/health/live")).status_code == 200
    assert await rest(idle[0][0]) == b""
    assert len(served.server.connections.open) == 3
    assert served.server.connections.warnings()
    assert served.server.connections.problems() == []
    for _, writer in idle:
        writer.close()


async def test_at_the_limit_with_all_in_use_others_are_refused(served: Site) -> None:
    """Three streams leave no room for a fourth request: it is to come back later, and health says so."""
    streams = [await opened(served, b"GET /api/events HTTP/1.1\r\n" + HEAD + b"\r\n") for _ in range(3)]
    for reader, _ in streams:
        await reader.readuntil(b"\r\n\r\n")

    reader, writer = await opened(served, b"")

    assert (await rest(reader)).startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
    assert served.server.connections.problems()
    for _, other in (*streams, (reader, writer)):
        other.close()


async def test_running_out_of_descriptors_is_reported_and_logged_once(
    served: Site, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What asyncio says for each connection that it can't accept is one line of the log, and a problem."""
    loop = asyncio.get_running_loop()
    for _ in range(50):
        loop.call_exception_handler({"message": "socket.accept() out of system resource"})

    said = caplog.text + "".join(capsys.readouterr())
    assert said.count("out of system resource") == 0
    assert "ran out of descriptors" in served.server.connections.problems()[0]


def test_most_descriptors_are_for_other_things() -> None:
    """Connections leave at least half of the descriptors to tasks, files and the broker."""
    assert [most_connections(limit) for limit in (64, 256, 1024, 8192)] == [8, 64, 256, 3584]
    assert all(2 * most_connections(limit) + 128 <= limit for limit in (256, 1024, 65536))
