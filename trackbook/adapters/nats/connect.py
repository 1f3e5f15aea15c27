"""The connection to the broker: who we are, requests that fail at once when it goes away, and what it must be."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import msgspec
import structlog
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from trackbook.adapters.nats import allow_web_sockets
from trackbook.errors import UserError

NEEDED = (2, 14)
"""The oldest server that does what we ask: timers, atomic batches and batch direct get."""

RETRY_WAIT = 0.05  # seconds between attempts to reconnect; the client's own default of 2 s would be felt
PING_INTERVAL = 30  # seconds; twice unanswered and the connection counts as lost

# 10023 insufficient resources, 10047 storage resources exceeded, 10077 the store failed (disk, maximum bytes).
FULL = frozenset({10023, 10047, 10077})

log = structlog.get_logger("trackbook.nats")


class BrokerUnfit(UserError):
    """The broker can't be used: says what was found and what is needed."""


class BrokerUnreachable(UserError):
    """No broker answered, or the connection has been closed for good."""


class StoreFull(UserError):
    """The broker has no room for another message: says where and how much is free. Nothing was stored."""


class Unanswered(Exception):
    """A request got no answer: lost connection, no responder or too late. What it asked may have happened."""


class Nobody(Unanswered):
    """The server says that nobody answers there."""


Keeper = Callable[[bool], Awaitable[str | None]]
"""Asked when a write got no answer although the connection stands, or (True) was refused for want of room.

It puts right what it can; it returns in words why there is no hope for now, or None: try again.
"""


async def no_keeper(refused: bool) -> str | None:
    """Answer for a broker that isn't ours to look after."""
    return "the broker has no room for another message" if refused else None


class Access(Struct, frozen=True):
    """Where a broker is and how to be let in; `creds` and `nkey` name files, several URLs are split by commas.

    `inbox_prefix` begins the subjects that replies are sent to, where the usual `_INBOX` may not be listened to.
    """

    url: str
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    inbox_prefix: str = ""

    def __post_init__(self) -> None:
        if any(url.strip().startswith(("ws://", "wss://")) for url in self.url.split(",")):
            allow_web_sockets()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Access | None:
        """Return the foreign broker that TRACKBOOK_NATS_URL names, or None."""
        if not (url := env.get("TRACKBOOK_NATS_URL", "")):
            return None
        fields = ("user", "password", "token", "creds", "nkey", "inbox_prefix")
        return cls(url=url, **{name: env.get(f"TRACKBOOK_NATS_{name.upper()}", "") for name in fields})

    def options(self) -> dict[str, Any]:
        """Return the client's options for these credentials."""
        named = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": self.creds,
            "nkeys_seed": self.nkey,
            "inbox_prefix": self.inbox_prefix,
        }
        return {name: value for name, value in named.items() if value}


class Connection(Client):
    """A NATS client that reconnects for ever and whose requests fail the moment the connection is lost."""

    def __init__(self, where: Callable[[], str] | None = None) -> None:
        super().__init__()
        self._where = where
        self._waiting: dict[str, tuple[asyncio.Future[Msg], list[Msg] | None]] = {}
        self._tokens = itertools.count(1)
        self._replies = ""
        self._skip = 0
        self._up = asyncio.Event()
        self._lost_at = 0.0
        self._opened = False
        self._refused = ""
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self.silences: dict[str, float] = {}
        """When a stream's leader last answered what a batch had left unanswered, by stream (monotonic)."""

    async def open(self, access: Access, name: str, patience: float) -> None:
        """Connect and make ready for requests, trying for `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self.connect(
                    [url.strip() for url in access.url.split(",")],
                    name=name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=cast("int", RETRY_WAIT),
                    ping_interval=PING_INTERVAL,
                    error_cb=self._failed,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                    closed_cb=self._ended,
                    **access.options(),
                )
        except TimeoutError:
            if self._refused:
                raise BrokerUnfit(self._refused) from None
            why = str(self.last_error or "") or f"nothing came within {patience:g} s"
            raise BrokerUnreachable(f"no broker answers at {access.url}: {why}") from None
        self._opened = True
        inbox = self.new_inbox()
        self._replies, self._skip = f"{inbox}.", len(inbox) + 1
        # Without limits: replies are bounded by what was asked for, and a dropped one would be a lost answer.
        await self.subscribe(f"{inbox}.*", cb=self._reply, pending_msgs_limit=0, pending_bytes_limit=0)
        self._up.set()

    async def ask(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 5.0
    ) -> Msg:
        """Send a request and return its answer; raises Unanswered after `timeout` seconds or when cut off."""
        return await self._ask(subject, payload, headers, timeout, None)

    async def tell(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a message that nobody answers; raises Unanswered when cut off."""
        if not self.is_connected:
            raise Unanswered("the broker is away")
        try:
            await self.publish(subject, payload, headers=headers)
        except NatsError as error:
            raise Unanswered(str(error) or type(error).__name__) from error

    async def collect(self, subject: str, payload: bytes, timeout: float = 5.0) -> tuple[list[Msg], Msg]:
        """Send a request with many answers; return them and the closing status message; raises Unanswered."""
        answers: list[Msg] = []
        return answers, await self._ask(subject, payload, None, timeout, answers)

    async def _ask(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, timeout: float, many: list[Msg] | None
    ) -> Msg:
        if not self.is_connected:
            raise Unanswered("the broker is away")
        loop = asyncio.get_running_loop()
        token = str(next(self._tokens))
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = (future, many)
        timer = loop.call_later(timeout, _expire, future)
        try:
            await self.publish(subject, payload, self._replies + token, headers)
            answer = await future
        except NatsError as error:
            raise Unanswered(str(error) or type(error).__name__) from error
        finally:
            timer.cancel()
            del self._waiting[token]
        if answer.headers and answer.headers.get("Status") == "503":
            raise Nobody("nobody answers there")
        return answer

    async def _reply(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject[self._skip :])
        if waiting is None:
            return
        future, many = waiting
        if many is not None and not (msg.headers and "Status" in msg.headers):
            many.append(msg)
        elif not future.done():
            future.set_result(msg)

    async def settle(self) -> None:
        """Wait until the server has taken all that was sent, subscriptions included, and for it to be back."""
        await settle(self)

    @property
    def epoch(self) -> tuple[str, int]:
        """Which connection this is: another one after each reconnect, before anything can be sent on it."""
        return str(self._server_info.get("server_id", "")), self._client_id or 0

    async def _process_connect_init(self) -> None:
        # What still waited to be sent belongs to requests that have failed with the connection. The client would
        # send it now, to a broker that may have lost what it depends on.
        self._pending.clear()
        self._pending_data_size = 0
        await super()._process_connect_init()

    async def up(self) -> None:
        """Wait until the connection stands; raises BrokerUnreachable once it has been closed for good."""
        while not self.is_connected:
            if self.is_closed:
                raise BrokerUnreachable("the connection to the broker is closed")
            self._up.clear()  # the client notices a loss before it calls `_lost`
            await self._up.wait()

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called after each reconnect; returns what ends that."""
        self._on_reconnect.append(call)
        return lambda: self._on_reconnect.remove(call)

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called once the connection is closed for good; returns what ends that."""
        self._on_close.append(call)
        return lambda: self._on_close.remove(call)

    def _fail_waiting(self, why: str) -> None:
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(Unanswered(why))

    async def _lost(self) -> None:
        self._up.clear()
        self._fail_waiting("the connection was lost")
        if not self.is_closed:
            self._lost_at = time.monotonic()
            log.warning("broker.away", hint="waiting for it to come back")

    async def _back(self) -> None:
        self._up.set()
        log.info("broker.back", seconds=round(time.monotonic() - self._lost_at, 3))
        for call in list(self._on_reconnect):
            call()

    async def _ended(self) -> None:
        self._fail_waiting("the connection is closed")
        self._up.set()
        for call in list(self._on_close):
            call()

    async def _failed(self, error: Exception) -> None:
        if self._transport is not None and not self.is_connected:
            # A failed handshake leaves its socket open otherwise.
            self._transport.close()  # type: ignore[no-untyped-call]
        if self._where and not self.is_connected and not self.is_closed:
            self.set_server_pool([self._where()])
        text = str(error)
        if not self._opened and "authorization" in text.lower():
            self._refused = f"the broker refuses these credentials: {text}"
            if self._where is None:
                raise BrokerUnfit(self._refused) from error
            # Our own broker may be away, and another program's server may have its port meanwhile.
        if self._opened and "permissions violation" in text.lower():
            log.warning("broker.forbids", error=text)


def _expire(future: asyncio.Future[Msg]) -> None:
    if not future.done():
        future.set_exception(Unanswered("no answer in time"))


async def connect(
    access: Access, *, name: str = "trackbook", patience: float = 10.0, where: Callable[[], str] | None = None
) -> Connection:
    """Connect; raises BrokerUnreachable after `patience` seconds, BrokerUnfit for refused credentials.

    `where` tells the URL of a broker that may come back on another port; it is asked while the broker is away.
    """
    if access.creds or access.nkey:
        try:
            import nkeys  # type: ignore[import-not-found,unused-ignore] # noqa: F401
        except ImportError:
            raise BrokerUnfit("credentials by NKey need the nkeys package: pip install nkeys") from None
    nc = Connection(where)
    try:
        await nc.open(access, name, patience)
    except BaseException:
        await nc.close()
        raise
    return nc


async def settle(nc: Client) -> None:
    """Wait until the server has taken all that was sent; raises BrokerUnreachable once the connection is closed.

    The client's own flush writes its PING ahead of what still waits to be sent; by the time a first one is
    answered that has gone out, so the second is a true barrier. It does not notice either that the connection is
    lost and its PONG with it, so each gets a second; after a reconnect all has been sent again.
    """
    answered = 0
    while answered < 2:
        if nc.is_closed:
            raise BrokerUnreachable("the connection to the broker is closed")
        if not nc.is_connected:
            answered = 0
            await asyncio.sleep(RETRY_WAIT)
            continue
        try:
            await nc.flush(timeout=1)
            answered += 1
        except NatsError:
            answered = 0


async def api(nc: Connection, request: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask JetStream's own API and return its answer, an `error` in it included; raises Unanswered."""
    answer = await nc.ask(f"$JS.API.{request}", msgspec.json.encode(body) if body else b"")
    return cast("dict[str, Any]", msgspec.json.decode(answer.data))


async def insist(
    nc: Connection, request: str, body: Mapping[str, Any] | None = None, patience: float = 10.0
) -> dict[str, Any]:
    """Ask JetStream's own API, again while the broker is away; raises Nobody, Unanswered after `patience` s."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return await api(nc, request, body)
        except Nobody:
            raise
        except Unanswered:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_WAIT)


async def require_server(nc: Connection) -> None:
    """Raise BrokerUnfit unless the broker is new enough and has JetStream."""
    found = nc.connected_server_version
    need = ".".join(map(str, NEEDED))
    if (found.major, found.minor) < NEEDED:
        raise BrokerUnfit(f"the broker is nats-server {_version(nc)}; {need} or newer is needed")
    try:
        answer = await insist(nc, "INFO")
    except Unanswered as error:
        raise BrokerUnfit(
            f"nats-server {_version(nc)} has no JetStream for this account ({error}); enable JetStream in it"
        ) from error
    if fault := answer.get("error"):
        raise BrokerUnfit(f"nats-server {_version(nc)}: {fault['description']}; JetStream is needed")


def describe(nc: Connection) -> str:
    """Return in words which broker this is; for `trackbook doctor`."""
    url = nc.connected_url
    where = f"{url.hostname}:{url.port}" if url else "away"
    return (
        f"nats-server {_version(nc)} at {where}; whether it syncs every write to disk (sync_interval: always) "
        "can't be seen from a client: ask whoever runs it"
    )


def _version(nc: Connection) -> str:
    return str(nc.connected_server_version).removeprefix("<nats server v").removesuffix(">")
