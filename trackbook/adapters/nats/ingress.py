"""Where commands come in over NATS: request/reply on `<prefix>.cmd.<kind>.<verb>`, JSON in and JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.endpoints import close_endpoints, endpoint, new_broker, open_endpoints

if TYPE_CHECKING:
    from faststream.nats import NatsBroker

QUEUE = "engine"
"""The queue group of all engine processes: each request reaches one of them."""

AT_ONCE = 256
"""Requests under way per kind of command; more wait. Each is there until its commit is on the log."""

REPLY_LIMIT = 512 * 1024
"""Bytes; a reply above it leaves out its lists one by one, since the broker would not carry it."""

Handle = Callable[[str, str, bytes, str], Awaitable[dict[str, Any]]]
"""Answers a command: kind, verb, JSON payload, who carried it in."""


class Ingress:
    """Carries commands to `handle`, which reads and checks them, and its replies back.

    `requests` says which commands there are and what they hold, for the specification alone.
    """

    def __init__(
        self, access: Access, prefix: str, handle: Handle, requests: Mapping[tuple[str, str], type[Struct]]
    ) -> None:
        self._handle = handle
        self._root = f"{prefix}.cmd."
        self._broker = command_broker(access, prefix, requests, self._answer)

    async def start(self, patience: float = 10.0) -> None:
        """Connect within `patience` seconds (raises BrokerUnreachable) and take commands from then on."""
        await open_endpoints(self._broker, patience)

    async def close(self) -> None:
        """Take no more commands; those under way are answered first."""
        await close_endpoints(self._broker)

    async def _answer(self, message: Msg) -> bytes:
        kind, _, verb = message.subject.removeprefix(self._root).partition(".")
        return _fitting(await self._handle(kind, verb, message.data, "nats"))


def command_broker(
    access: Access,
    prefix: str,
    requests: Mapping[tuple[str, str], type[Struct]],
    answer: Callable[[Msg], Awaitable[bytes]],
) -> NatsBroker:
    """Return the broker object with an endpoint for each command, and one for commands that there are not.

    The last one's subject matches the others' too. A queue group is one across all subjects that match a message
    and only one member gets it, so nothing is handled twice, and either may answer any command.
    """
    broker = new_broker(access, "trackbook commands")
    for (kind, verb), payload in requests.items():
        endpoint(
            broker,
            f"{prefix}.cmd.{kind}.{verb}",
            QUEUE,
            answer,
            payload=payload,
            title=f"{kind}.{verb}",
            description=_summary(payload),
            at_once=AT_ONCE,
        )
    endpoint(broker, f"{prefix}.cmd.>", QUEUE, answer, at_once=AT_ONCE)
    return broker


def _summary(payload: type[Struct]) -> str:
    text = " ".join((payload.__doc__ or "").split("\n\n")[0].split())
    return text.partition(": ")[2] or text


def _fitting(reply: dict[str, Any]) -> bytes:
    """Return the reply in JSON; what makes it too long is left out and named in `omitted`."""
    data = msgspec.json.encode(reply)
    for name in ("summary", "changes", "others", "warnings", "findings"):
        if len(data) <= REPLY_LIMIT:
            break
        reply = _without(reply, name)
        data = msgspec.json.encode(reply)
    return data


def _without(reply: dict[str, Any], name: str) -> dict[str, Any]:
    shorter = {key: value for key, value in reply.items() if key != name}
    if name == "others" and "error" in reply:
        shorter["error"] = {key: value for key, value in reply["error"].items() if key != name}
    return shorter if shorter == reply else shorter | {"omitted": [*reply.get("omitted", []), name]}
