"""The connection to the broker: it reconnects for ever, and its requests fail at once when it is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import cast

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.errors import BrokerUnfit, BrokerUnreachable, Nobody, Unanswered

RETRY_WAIT = 0.05  # seconds between attempts to reconnect; the client's own default of 2 s would be felt
PING_INTERVAL = 30  # seconds; twice unanswered and the connection counts as lost

log = structlog.get_logger("trackbook.nats")


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
        self.unanswered_batches: dict[str, float] = {}
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
