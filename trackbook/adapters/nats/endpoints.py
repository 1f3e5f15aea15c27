"""Request/reply endpoints by FastStream: handlers get the message raw, and the specification shows what it holds.

FastStream is imported when an endpoint is made: it takes 0.4 s, which commands that need none should not pay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.connection import RETRY_WAIT, settle
from trackbook.adapters.nats.errors import BrokerUnreachable

if TYPE_CHECKING:
    from faststream.nats import NatsBroker
    from faststream.security import BaseSecurity

GRACE = 5.0
"""Seconds that handlers under way get to answer when their endpoints are closed."""

JSON = {"content-type": "application/json"}

log = structlog.get_logger("trackbook.nats")


class Shown:
    """Marks a handler's parameter: the specification shows `payload`'s name for what the handler takes raw.

    FastStream asks pydantic for schemas and pydantic knows no msgspec structs (ag2ai/faststream#2101), so that
    only the name goes through it; `asyncapi.py` puts msgspec's own schema in its place.
    """

    def __init__(self, payload: type[Struct]) -> None:
        self.payload = payload

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let everything pass: the handler decodes the message and refuses it in its own words."""
        from pydantic_core import core_schema

        return core_schema.any_schema()

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Return a place to put the schema in."""
        return {"type": "object"}


def import_library() -> None:
    """Import FastStream, so that making an endpoint is quick; may be called on another thread."""
    import faststream.nats  # noqa: F401


def new_broker(access: Access, name: str) -> NatsBroker:
    """Return a broker object, not connected yet, that will reconnect for ever."""
    from faststream.nats import NatsBroker

    return NatsBroker(
        access.url.split(","),
        name=name,
        security=_security(access),
        inbox_prefix=access.inbox_prefix or "_INBOX",
        max_reconnect_attempts=-1,
        reconnect_time_wait=RETRY_WAIT,  # type: ignore[arg-type]  # a whole number by its annotation only
        graceful_timeout=GRACE,
        apply_types=False,  # nothing is injected or validated: a third of FastStream's time per request saved
        decoder=_raw,
        error_cb=_failed,
        logger=_quiet(),
    )


def endpoint(
    broker: NatsBroker,
    subject: str,
    queue: str,
    handle: Callable[[Msg], Awaitable[bytes]],
    *,
    payload: type[Struct] | None = None,
    title: str = "",
    description: str = "",
    at_once: int,
) -> None:
    """Answer requests on `subject` with the JSON that `handle` returns, `at_once` of them concurrently.

    Without `payload` the endpoint stays out of the specification.
    """
    from faststream.nats import NatsResponse
    from pydantic import Field

    async def answer(message: Any) -> NatsResponse:
        return NatsResponse(await handle(message), headers=JSON)

    shown = Annotated[Any, Shown(payload), Field(title=payload.__name__)] if payload else Any
    answer.__annotations__ = {"message": shown, "return": Any}
    broker.subscriber(
        subject,
        queue,
        max_workers=at_once,
        title=title or None,
        description=description or None,
        include_in_schema=payload is not None,
    )(answer)


async def open_endpoints(broker: NatsBroker, patience: float) -> None:
    """Connect within `patience` seconds, raises BrokerUnreachable, and return once requests can arrive."""
    try:
        async with asyncio.timeout(patience):
            await broker.start()
            assert broker._connection is not None
            await settle(broker._connection)  # so that the server knows of every subscription
    except TimeoutError:
        raise BrokerUnreachable(f"no broker answers within {patience:.0f} s") from None


async def close_endpoints(broker: NatsBroker) -> None:
    """Answer what is under way, for GRACE seconds at most, and disconnect."""
    connection = broker._connection
    await asyncio.gather(*(_stop(subscriber) for subscriber in broker.subscribers))
    with contextlib.suppress(NatsError, TimeoutError):
        await broker.stop()
    if connection is not None and not connection.is_closed:
        await connection.close()


async def _stop(subscriber: Any) -> None:
    with contextlib.suppress(NatsError):  # the broker may be gone already
        await subscriber.stop()
    for stream in ("send_stream", "receive_stream"):  # FastStream leaves them open where stopping fails
        if hasattr(subscriber, stream):
            getattr(subscriber, stream).close()


def _quiet() -> logging.Logger:
    """Return a logger for what goes wrong; FastStream would write two lines for every message."""
    logger = logging.getLogger("trackbook.faststream")
    logger.setLevel(logging.WARNING)
    return logger


async def _raw(message: Any) -> Msg:
    raw: Msg = message.raw_message
    return raw


async def _failed(error: Exception) -> None:
    log.warning("endpoint.connection", error=str(error) or type(error).__name__)


def _security(access: Access) -> BaseSecurity | None:
    from faststream.nats import security

    if access.creds:
        return security.NatsCredentials.from_file(access.creds)
    if access.nkey:
        return security.NatsNKey.from_file(access.nkey)
    if access.token:
        return security.NatsToken(access.token)
    return security.NatsUserPassword(access.user, access.password) if access.user else None
