"""Proxies that the environment names, and what is said of them where a cluster can't be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.proxies import proxy_for
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.preflight.diagnose import diagnose

FAR = "http://cluster.example.org:8081"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take those away that the machine has."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def cluster(endpoint: str = FAR) -> Cluster:
    """Return a cluster at an address."""
    return Cluster(name="main", endpoint=endpoint, access_key="A", secret_key="S")


async def problem(endpoint: str = FAR) -> ClusterError:
    """Return the error of a request there."""
    client = Client(cluster(endpoint))
    try:
        with pytest.raises(ClusterError) as raised:
            await client.get("/")
    finally:
        await client.close()
    return raised.value


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen on loopback; yield the address, and the first lines of the requests that came."""
    lines: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5:", "the variable ALL_PROXY is not the address of a proxy"),
        ("all_proxy", "http://a:b:c", "the variable all_proxy is not the address of a proxy"),
        ("HTTP_PROXY", "ftp://x:s3cr3t@proxy", "the variable HTTP_PROXY names a proxy of the kind ftp"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "the variable ALL_PROXY names a SOCKS proxy"),
    ],
)
async def test_a_variable_that_no_proxy_can_be_had_from_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    """It is for the operator to mend; its value, which may have a password, is never shown."""
    monkeypatch.setattr("trackbook.adapters.backendai.api.proxies.find_spec", lambda name: None)
    monkeypatch.setenv(variable, value)
    error = await problem()
    assert (error.kind, error.slug) == ("operator", "proxy")
    assert words in str(error)
    assert "s3cr3t" not in str(error)


async def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that names it, and without its password."""
    monkeypatch.setenv("HTTP_PROXY", "http://me:s3cr3t@127.0.0.1:9")
    error = await problem()
    assert error.slug == "unreachable"
    assert "(through the proxy http://127.0.0.1:9 of the variable HTTP_PROXY)" in str(error)
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize(
    ("status", "kind"), [("407 Proxy Authentication Required", "operator"), ("502 Bad", "infrastructure")]
)
async def test_an_answer_of_a_proxy_names_it(monkeypatch: pytest.MonkeyPatch, status: str, kind: str) -> None:
    """What is not in a manager's form may be the proxy's own."""
    async with answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as (proxy, lines):
        monkeypatch.setenv("http_proxy", proxy)
        error = await problem()
    assert error.kind == kind
    assert f"(through the proxy {proxy} of the variable http_proxy)" in str(error)
    assert lines == [f"GET {FAR}/ HTTP/1.1\r\n".encode()]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Whatever the environment names."""
    monkeypatch.setenv(variable, "socks5:")
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, _):
        client = Client(cluster(endpoint))
        assert await client.get("/") == {}
        await client.close()


@pytest.mark.parametrize(
    ("excepted", "url", "direct"),
    [
        ("", FAR, False),
        ("example.org", FAR, True),
        (".example.org", FAR, True),
        ("*.example.org", FAR, True),
        ("ample.org", FAR, False),
        ("cluster.example.org:8081", FAR, True),
        ("cluster.example.org:80", FAR, False),
        ("other.org, *", FAR, True),
        ("10.0.0.0/8", "http://10.1.2.3:8081", True),
        ("10.0.0.0/8", "http://11.1.2.3:8081", False),
        ("", "http://localhost:8081", True),
        ("", "http://[::1]:8081", True),
        ("", "http://127.3.2.1:8081", True),
    ],
)
def test_hosts_without_a_proxy(monkeypatch: pytest.MonkeyPatch, excepted: str, url: str, direct: bool) -> None:
    """NO_PROXY excepts hosts, names below them and networks; this machine always is."""
    monkeypatch.setenv("ALL_PROXY", "proxy.example.net:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    found = proxy_for(httpx.URL(url))
    assert (found is None) == direct
    assert found is None or found.address == "http://proxy.example.net:3128"


async def test_doctor_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that this machine can't resolve is no fault where a proxy would resolve it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    connection = ClusterConnection(cluster(), "0123abcd")
    try:
        (finding,) = await diagnose(connection)
    finally:
        await connection.close()
    assert (finding.what, finding.verdict) == ("proxy", "fail")
    assert "of the variable HTTP_PROXY" in finding.found
    assert "NO_PROXY" in finding.hint
