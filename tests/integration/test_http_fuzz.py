"""Whatever a request holds, it is answered, and not with a fault of the server."""

# ruff: noqa: E501, RUF001
from __future__ import annotations

import asyncio
import logging
import re
import typing
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from histories.made import example
from histories.served import TOKEN, Site, site
from litestar.params import QueryParameter
from seed import SEED

_ROUNDS = 16
"""Requests for each method of each route."""
_FEW = 3
"""Where there is nothing to vary."""
_LEFT_OUT = "/api/projection/rebuild"
"""Takes nothing, and others would wait for it."""
_WITHIN = 30
_AT_ONCE = 16

NUMBERS = (
    "0", "-1", "1e3", "1.5", "NaN", "Infinity", "0x10", "١٢", "1_000", " 1", "+1", "", "9" * 20, "9" * 400,
    str(2**31), str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63) - 1),
)  # fmt: skip
TEXTS = (
    "", "\0", "a\0b", "\x1b[31m", "\u202e", "é", "é", "\U0010ffff", "'", '"', "%", "%00", "../..", "/", ".", "..",
    "*", "?", "\\", "a" * 5000, " ", "null", "true", "[]", "{}", "-", "--", ";", "\r\nX: y", "📦" * 100,
)  # fmt: skip
CURSORS = (
    "W10", "WzFd", "WzEsMl0", "WyJhIl0", "Wy0xXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "WzEuNV0", "bnVsbA", "e30", "W1tdXQ",
    "A", "====", "é", "WzFlNDAwXQ", "WzFd" * 40, "WzkyMjMzNzIwMzY4NTQ3NzU4MDdd", "WzkyMjMzNzIwMzY4NTQ3NzU4MDhd",
)  # fmt: skip
TIMES = (
    "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-13-01", "0000-00-00", "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1h", "-1h", "now", "12:00", "2026-W05", "1970-01-01T00:00:00Z",
)  # fmt: skip
RAW = (
    "%ff",
    "%c0%af",
    "%ed%a0%80",
    "%00",
    "%",
    "%zz",
    "%2e%2e",
    "%F0%9F",
    "%0d%0aa:b",
    "%fe%ff=%ff",
    "&&&",
    "=;=",
)
"""Parts of an address that are not text."""
KNOWN = (
    "failed-job",
    "running-job",
    "done",
    "fail",
    "a",
    "b",
    "local",
    "1",
    "2",
    "job",
    "pipeline",
    "start",
    "apply",
    "vfroot",
)
HEADERS: tuple[dict[str, bytes], ...] = (
    {"range": b"bytes=0-"}, {"range": b"bytes=-0"}, {"range": b"bytes=9-1"}, {"range": b"bytes=" + b"9" * 400 + b"-"},
    {"range": b"bytes=0-0," * 500}, {"range": b"\xff"}, {"range": b"lines=1"}, {"range": "bytes=١-".encode()},
    {"range": b"bytes=-" + b"9" * 5000}, {"if-range": b'"\xff'}, {"if-none-match": b"\xff"}, {"if-modified-since": b"x"},
    {"last-event-id": b"1.0"}, {"last-event-id": b"-1.-1"}, {"last-event-id": b"9" * 400 + b".0"}, {"last-event-id": b"\xff"},
    {"last-event-id": b"1"}, {"last-event-id": b"1.2.3"}, {"last-event-id": "١.٠".encode()}, {"last-event-id": b""},
    {"last-event-id": b"0." + b"9" * 30}, {"trackbook-actor": b"\xff\xfe"}, {"trackbook-actor": b"engine"}, {"trackbook-actor": b""},
    {"accept": b"\xff"}, {"accept": b"application/x-msgpack"}, {"accept-language": b"\xff"}, {"cookie": b"\xff=\xff"},
    {"content-type": b"text/plain"}, {"content-type": b"application/json; charset=\xff"}, {"content-type": b"\xff"},
    {"content-type": b"multipart/form-data"}, {"content-type": b"application/x-www-form-urlencoded"},
    {"content-type": b"application/octet-stream"}, {"content-encoding": b"gzip"}, {"x-forwarded-for": b"\xff"},
    {"origin": b"http://[::1"}, {"origin": b"\xff"}, {"sec-fetch-site": b"cross-site"}, {"host": b"127.0.0.1:99999999"},
)  # fmt: skip
BODIES = (
    b"", b"{}", b"[]", b"null", b"1", b'"a"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0", b"{" * 100_000, b"[" * 100_000,
    b'{"a":' * 50_000, b'{"command_id": "\\ud800"}', b'{"command_id": ' + b"9" * 5000 + b"}", b'{"a": 1, "a": 2}', b"NaN",
    b'{"x": 1e999}', '{"é": "\\u0000"}'.encode(), b"\x1f\x8b\x08\x00", b"a=b&c=%ff", b" " * 70_000 + b"{}",
)  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over two pipelines, a job that failed and one that runs."""
    async with site(await example(), tmp_path / "readmodel.db") as found:
        found.logs.write("tb-running-job-0-1", b"one\ntwo\n")
        yield found


def endpoints(served: Site) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield method, path and the names of query parameters of all that the application answers."""
    for route in served.app.app.routes:
        path = str(getattr(route, "path_format", route.path))
        for handler in getattr(route, "route_handlers", ()):
            ours = str(handler.fn.__module__).startswith("trackbook.")
            hints = typing.get_type_hints(handler.fn, include_extras=True) if ours else {}
            names = tuple(
                each.name or name
                for name, hint in hints.items()
                for each in getattr(hint, "__metadata__", ())
                if isinstance(each, QueryParameter)
            )
            for method in sorted(getattr(handler, "http_methods", ())):
                yield str(method), path, names


def request_for(
    draw: Random, method: str, path: str, names: tuple[str, ...]
) -> tuple[str, dict[str, Any], bytes]:
    """Return the address, headers and body of a request that is hostile somewhere."""
    parts = [
        _segment(draw) if part.startswith("{") else part for part in re.sub(r"\{[^}]*\}", "{}", path).split("/")
    ]
    query = [f"{name}={_value(draw)}" for name in names if draw.random() < 0.5]
    if draw.random() < 0.1:
        query.append(draw.choice(RAW))
    headers: dict[str, Any] = {"authorization": f"Bearer {TOKEN}"}
    body = b""
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        headers["content-type"] = draw.choice((b"application/json", b"application/octet-stream"))
        body = draw.choice(BODIES)
    if draw.random() < 0.5:
        headers |= draw.choice(HEADERS)
    return "/".join(parts) + ("?" + "&".join(query) if query else ""), headers, body


def _segment(draw: Random) -> str:
    chance = draw.random()
    if chance < 0.5:
        return draw.choice(KNOWN)
    return draw.choice(RAW[:9]) if chance < 0.6 else quote(draw.choice(NUMBERS + TEXTS + TIMES) or "x", safe="")


def _value(draw: Random) -> str:
    chance = draw.random()
    if chance < 0.1:
        return draw.choice(RAW)
    pool = draw.choice((NUMBERS, TEXTS, CURSORS, TIMES, KNOWN))
    return quote(draw.choice(pool), safe="")


async def test_no_request_is_answered_with_a_fault_of_the_server(
    served: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Each parameter, header and body that can't be decoded or is out of range gets 4xx, or is ignored."""
    draw = Random(SEED)
    todo = [
        (method, *request_for(draw, method, path, names))
        for method, path, names in endpoints(served)
        if path != _LEFT_OUT
        for _ in range(_ROUNDS if names or "{" in path else _FEW)
    ]
    faults: list[str] = []
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(method: str, target: str, headers: dict[str, Any], body: bytes) -> None:
        url = served.client.base_url.copy_with(raw_path=target.encode())
        request = httpx.Request(method, url, headers=headers, content=body or None)
        async with gate, asyncio.timeout(_WITHIN):
            try:
                answer = await served.client.send(request, stream=True)
                await answer.aclose()
            except httpx.RemoteProtocolError:
                return  # h11 refuses it before the application, and closes
        if answer.status_code >= 500:
            faults.append(f"{answer.status_code} {method} {target[:200]} {headers} {body[:60]!r}")

    with caplog.at_level(logging.CRITICAL):
        await asyncio.gather(*(ask(*each) for each in todo))

    assert len(todo) > 400
    assert not faults, "\n".join(sorted(set(faults))[:20])
    assert (await served.client.get("/health/live")).status_code == 200
