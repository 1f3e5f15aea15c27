"""Which brokers are taken, and in what words the others are refused."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hard_deadline import hard_deadline

from trackbook import __version__
from trackbook.adapters.nats import streams
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.condition import condition
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import BrokerUnfit, BrokerUnreachable, Unanswered
from trackbook.adapters.nats.jetstream_api import api, describe, require_server
from trackbook.adapters.nats.limits import restore_limits
from trackbook.adapters.nats.server_process import find_server
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import StreamMissing, ensure, installation, wanted_streams
from trackbook.engine.ports import Append
from trackbook.events import storage_format
from trackbook.events.commit import FORMAT
from trackbook.events.storage_format import NewerFormat, OlderFormat
from trackbook.testing.proxy import Proxy


def test_a_foreign_broker_is_named_by_the_environment() -> None:
    """TRACKBOOK_NATS_URL names a foreign broker and its companions the credentials; without it there is none."""
    env = {
        "TRACKBOOK_NATS_URL": "nats://a:4222,nats://b:4222",
        "TRACKBOOK_NATS_USER": "u",
        "TRACKBOOK_NATS_PASSWORD": "p",
    }

    assert Access.from_env(env) == Access(url="nats://a:4222,nats://b:4222", user="u", password="p")
    assert Access.from_env({"TRACKBOOK_NATS_URL": "a", "TRACKBOOK_NATS_TOKEN": "t"}) == Access(url="a", token="t")
    assert Access.from_env({"TRACKBOOK_NATS_URL": "a", "TRACKBOOK_NATS_CREDS": "f"}) == Access(url="a", creds="f")
    assert Access.from_env({}) is None


async def test_our_own_broker_is_fit(nc: Connection) -> None:
    """The embedded broker passes, and is described by version and place."""
    await require_server(nc)

    assert describe(nc).startswith("nats-server 2.")
    assert "127.0.0.1:" in describe(nc)
    assert "sync_interval: always" in describe(nc)


@asynccontextmanager
async def server(tmp_path: Path, config: str) -> AsyncIterator[str]:
    """A foreign nats-server with a configuration of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = tmp_path / "foreign.conf"
    conf.write_text(f'listen: "127.0.0.1:{port}"\nlog_file: "{tmp_path}/log"\n{config}')
    process = await asyncio.create_subprocess_exec(find_server(), "-c", conf)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.filterwarnings("ignore:parameter 'timeout'.*deprecated:DeprecationWarning")  # nats-py's own
async def test_a_broker_is_reached_by_web_sockets(tmp_path: Path) -> None:
    """A ws:// address works, though nothing else imports what it needs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with server(tmp_path, f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}'):
        nc = await connect(Access(f"ws://127.0.0.1:{port}"))
        assert nc.connected_url is not None
        assert nc.connected_url.scheme == "ws"
        await nc.close()


async def test_a_broker_without_jetstream_is_refused(tmp_path: Path) -> None:
    """A server without JetStream is refused by name, with what to do."""
    async with server(tmp_path, "") as url:
        nc = await connect(Access(url))
        with pytest.raises(BrokerUnfit, match=r"nats-server 2\.\S+ has no JetStream"):
            await require_server(nc)
        await nc.close()


async def test_an_account_without_jetstream_is_refused(tmp_path: Path) -> None:
    """A server whose JetStream is not for this account is refused with its own words."""
    accounts = "accounts { A: {users: [{user: u, password: p}]}, B: {jetstream: enabled, users: [{user: x}]} }"
    async with server(tmp_path, f'jetstream {{ store_dir: "{tmp_path}/store" }}\n{accounts}') as url:
        nc = await connect(Access(url, user="u", password="p"))
        with pytest.raises(BrokerUnfit, match="JetStream"):
            await require_server(nc)
        await nc.close()


async def test_an_old_broker_is_refused() -> None:
    """A server before 2.14 is refused with the version found and the version needed."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"version": "2.10.22", "headers": True, "max_payload": 1 << 20, "server_id": "x"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    listener = await asyncio.start_server(speak, "127.0.0.1", 0)
    nc = await connect(Access(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"))

    with pytest.raises(BrokerUnfit, match=r"nats-server 2\.10\.22; 2\.14 or newer is needed"):
        await require_server(nc)

    await nc.close()
    listener.close()


async def test_nobody_there_is_reported() -> None:
    """Where no broker listens, the connection fails in time and says where it looked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=rf"no broker answers at 127\.0\.0\.1:{port}.*refused|failed"):
            await connect(Access(f"127.0.0.1:{port}"), patience=0.2)


async def test_wrong_credentials_are_reported(tmp_path: Path) -> None:
    """A server that refuses the credentials is not asked for ever."""
    async with server(tmp_path, "authorization { token: right }") as url:
        with pytest.raises(BrokerUnfit, match="refuses these credentials"):
            await connect(Access(url, token="wrong"))
        nc = await connect(Access(url, token="right"))
        await nc.close()


async def test_a_stranger_on_the_port_of_our_broker_is_not_the_last_word(tmp_path: Path) -> None:
    """While our broker is away another server may have its port: its refusal counts once patience has run out."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "ours").mkdir()
    async with (
        server(tmp_path / "stranger", "authorization { token: other }") as stranger,
        server(tmp_path / "ours", "authorization { token: right }") as ours,
    ):
        places = iter([stranger, stranger, ours])
        nc = await connect(Access(stranger, token="right"), where=lambda: next(places, ours))
        assert nc.connected_url is not None
        assert nc.connected_url.netloc == ours.removeprefix("nats://")
        await nc.close()

        with pytest.raises(BrokerUnfit, match="refuses these credentials"):
            await connect(Access(stranger, token="right"), where=lambda: stranger, patience=0.5)


async def test_a_lost_connection_fails_requests_at_once(broker: EmbeddedBroker) -> None:
    """Who waits for an answer when the connection breaks learns it then, not after the timeout."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        nc = await connect(Access(proxy.url, broker.engine.user, broker.engine.password))
        await nc.subscribe("silent")
        await nc.settle()
        asking = asyncio.create_task(nc.ask("silent", timeout=60))
        await nc.settle()

        proxy.cut()

        with pytest.raises(Unanswered, match="connection was lost"):
            await asking
        await nc.up()
        assert (await api(nc, "INFO"))["type"].endswith("account_info_response")
        await nc.close()


async def test_a_lost_connection_does_not_hold_up_a_barrier(broker: EmbeddedBroker) -> None:
    """Who waits for the server to have taken everything, when the connection breaks, waits for the next one."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        nc = await connect(Access(proxy.url, broker.engine.user, broker.engine.password))
        proxy.deaf = True
        settling = asyncio.create_task(nc.settle())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(settling), 0.1)  # the answer is swallowed

        proxy.cut()

        async with asyncio.timeout(5):  # the client's own flush waits for the lost answer for ten
            await settling
        assert nc.is_connected
        await nc.close()


async def test_streams_are_made_once(nc: Connection, prefix: str) -> None:
    """The first start makes the streams; later ones find them as they are."""
    await ensure(nc, prefix, initialised=False)
    made = [(await api(nc, f"STREAM.INFO.{prefix}_{name}"))["config"] for name in ("events", "blobs")]

    await ensure(nc, prefix, initialised=True)
    await ensure(nc, prefix, initialised=False)

    assert made[0]["deny_delete"] is made[0]["deny_purge"] is made[1]["deny_delete"] is True
    assert made == [(await api(nc, f"STREAM.INFO.{prefix}_{name}"))["config"] for name in ("events", "blobs")]


@pytest.mark.parametrize("gone", ["events", "blobs"])
async def test_a_lost_stream_is_never_made_again(nc: Connection, prefix: str, gone: str) -> None:
    """Where a stream was and is no more, the start is refused instead of beginning an empty log."""
    await ensure(nc, prefix, initialised=False)
    await api(nc, f"STREAM.DELETE.{prefix}_{gone}")

    with pytest.raises(StreamMissing, match=f"{prefix}_{gone} is missing"):
        await ensure(nc, prefix, initialised=True)

    assert "error" in await api(nc, f"STREAM.INFO.{prefix}_{gone}")


async def test_another_stream_of_that_name_is_refused(nc: Connection, prefix: str) -> None:
    """A stream that was made otherwise is refused, each difference named."""
    await api(
        nc, f"STREAM.CREATE.{prefix}_events", {"name": f"{prefix}_events", "subjects": [f"{prefix}.evt.*.*"]}
    )

    with pytest.raises(BrokerUnfit, match=r"made otherwise.*allow_atomic is None, not True"):
        await ensure(nc, prefix, initialised=False)


async def test_changed_limits_are_part_of_the_condition(nc: Connection, prefix: str) -> None:
    """A stream that was given limits is used all the same; its condition names each of them."""
    await ensure(nc, prefix, initialised=False)
    assert (await condition(nc, prefix)).problems() == []
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    changed = {"max_age": 3_600_000_000_000, "max_msgs_per_subject": 5, "discard": "old"}
    assert "error" not in await api(nc, f"STREAM.UPDATE.{prefix}_events", config | changed)

    await ensure(nc, prefix, initialised=True)
    found = await condition(nc, prefix)

    assert found.events.limits == [
        "discard is 'old', not 'new'",
        "max_age is 3600000000000, not 0",
        "max_msgs_per_subject is 5, not -1",
    ]
    assert found.blobs.limits == []
    assert found.problems() == [f"the stream {prefix}_events may lose messages: {'; '.join(found.events.limits)}"]


async def test_changed_limits_are_put_back(nc: Connection, prefix: str) -> None:
    """Each setting is as it was made, every message is still there, and how often that happened is known."""
    await ensure(nc, prefix, initialised=False)
    await NatsEventStore(nc, prefix).append(Append("job", "a", 0, b"<commit>", "m"))
    assert await restore_limits(nc, prefix) == []
    before = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    changed = {"max_age": 3_600_000_000_000, "max_msgs_per_subject": 5, "max_bytes": 1 << 20, "discard": "old"}
    for times in (1, 2):
        config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
        assert "error" not in await api(nc, f"STREAM.UPDATE.{prefix}_events", config | changed)

        [restored] = await restore_limits(nc, prefix)
        found = (await condition(nc, prefix)).events

        assert (restored.stream, len(restored.settings), restored.problem) == (f"{prefix}_events", 4, "")
        assert (found.limits, found.restored, found.messages) == ([], times, 1)
    after = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    assert after | {"metadata": 0} == before | {"metadata": 0}
    assert after["metadata"].items() >= before["metadata"].items()


async def test_what_the_broker_does_not_put_back_is_named(nc: Connection, prefix: str) -> None:
    """All else is put back; what is left is returned with the broker's words."""
    await ensure(nc, prefix, initialised=False)
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    loose = {"allow_msg_ttl": True, "max_age": 3_600_000_000_000}
    assert "error" not in await api(nc, f"STREAM.UPDATE.{prefix}_events", config | loose)

    done, left = await restore_limits(nc, prefix)

    assert (done.settings, done.problem) == (["max_age is 3600000000000, not 0"], "")
    assert left.settings == ["allow_msg_ttl is on"]
    assert "TTL" in left.problem
    assert (await condition(nc, prefix)).events.limits == left.settings


async def test_a_stream_that_may_be_purged_is_part_of_the_condition(nc: Connection, prefix: str) -> None:
    """Whatever allows to remove messages is named."""
    events = wanted_streams(prefix)[0]
    loose = {"deny_delete": False, "deny_purge": False, "allow_rollup_hdrs": True}
    await api(nc, f"STREAM.CREATE.{prefix}_events", events | loose)
    await ensure(nc, prefix, initialised=False)

    assert (await condition(nc, prefix)).events.limits == [
        "deny_delete is False, not True",
        "deny_purge is False, not True",
        "allow_rollup_hdrs is on",
    ]
    [restored] = await restore_limits(nc, prefix)
    assert (restored.problem, (await condition(nc, prefix)).problems()) == ("", [])


async def test_waiting_for_the_broker_lets_others_run_before_the_loss_is_announced(
    broker: EmbeddedBroker,
) -> None:
    """Who waits in the moment between a loss and the client's word of it does not block the event loop."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        nc = await connect(Access(proxy.url, broker.engine.user, broker.engine.password))
        with hard_deadline(30):
            proxy.cut()
            while bool(nc.is_connected):  # noqa: ASYNC110 - the very turn of the loop matters
                await asyncio.sleep(0)

            await nc.up()
            assert (await api(nc, "INFO"))["type"].endswith("account_info_response")
        await nc.close()


async def test_streams_of_a_newer_release_are_refused(nc: Connection, prefix: str) -> None:
    """A log in a format that this release does not know is not touched; both releases are named."""
    await ensure(nc, prefix, initialised=False)
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    assert config["metadata"]["trackbook_format"] == str(FORMAT)
    newer = {"trackbook_format": str(FORMAT + 1), "trackbook_release": "9.8.7"}
    await api(nc, f"STREAM.UPDATE.{prefix}_events", config | {"metadata": config["metadata"] | newer})

    with pytest.raises(NewerFormat, match=rf"9\.8\.7 \(format {FORMAT + 1}\); this is {__version__}"):
        await ensure(nc, prefix, initialised=True)


async def test_streams_of_a_format_that_is_no_longer_read_are_refused(nc: Connection, prefix: str) -> None:
    """A log with a lower mark than is read is not touched."""
    await ensure(nc, prefix, initialised=False)
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    older = config["metadata"] | {"trackbook_format": "1"}
    await api(nc, f"STREAM.UPDATE.{prefix}_events", config | {"metadata": older})

    with pytest.raises(OlderFormat, match=r"an earlier Trackbook \(format 1\)"):
        await ensure(nc, prefix, initialised=True)


async def test_streams_of_an_earlier_format_are_marked(
    nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that raises the format marks the log at its first start, and keeps the installation's id."""
    await ensure(nc, prefix, initialised=False)
    before = await installation(nc, prefix)
    for module in (streams, storage_format):
        monkeypatch.setattr(module, "FORMAT", FORMAT + 1)

    await ensure(nc, prefix, initialised=True)

    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    assert config["metadata"]["trackbook_format"] == str(FORMAT + 1)
    assert await installation(nc, prefix) == before
