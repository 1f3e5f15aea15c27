"""The two streams of an installation: the log of commits, and the blobs that are too large for one."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import BrokerUnfit
from trackbook.adapters.nats.jetstream_api import insist
from trackbook.errors import UserError
from trackbook.events.commit import FORMAT
from trackbook.events.storage_format import FormatMark, current, refuse_unreadable

STREAM_NOT_FOUND = 10059
_NAME_IN_USE = 10058
INSTALLATION = "trackbook_installation"
"""The key of the installation's id in a stream's metadata."""
_FORMAT, _RELEASE = "trackbook_format", "trackbook_release"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\Z")

LIMITS = (
    "retention",
    "discard",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "deny_delete",
    "deny_purge",
)
"""Settings that keep messages from falling out of a stream."""

REMOVERS = ("allow_rollup_hdrs", "allow_msg_ttl")
"""Settings that let a message remove others, or itself after a time."""

_FREE = ("duplicate_window",)
"""Settings that may be otherwise on a foreign broker: nothing rests on them."""


class StreamMissing(UserError):
    """The log isn't in the broker where this installation once made it."""


class StreamDamaged(UserError):
    """The log lacks a message that was read from it before, or has another one in its place."""


def events_stream(prefix: str) -> str:
    """Return the name of the stream of commits."""
    return f"{prefix}_events"


def blobs_stream(prefix: str) -> str:
    """Return the name of the stream of blobs."""
    return f"{prefix}_blobs"


def event_subject(prefix: str, kind: str, id: str) -> str:  # noqa: A002
    """Return the subject of an aggregate's commits; raises ValueError for what can't be part of one."""
    if not _TOKEN.match(id) or not _TOKEN.match(kind):
        raise ValueError(f"not a subject token: {kind!r}, {id!r}")
    return f"{prefix}.evt.{kind}.{id}"


def wanted_streams(prefix: str) -> list[dict[str, Any]]:
    """Return the configurations of the two streams, the log first."""
    # Nothing may ever fall out of either stream: no limits, no deletion, and a full store refuses new messages.
    # No compression: S2 halves the space and costs no time, but a flipped bit would then take with it a whole
    # block of some thousand commits instead of one.
    common = {
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "allow_direct": True,
        "allow_atomic": True,
        "deny_delete": True,
        "deny_purge": True,
        "duplicate_window": 120_000_000_000,
    }
    live = {"src": f"{prefix}.evt.*.*", "dest": f"{prefix}.live.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"}
    events = {"name": events_stream(prefix), "subjects": [f"{prefix}.evt.*.*"], "republish": live}
    return [common | events, common | {"name": blobs_stream(prefix), "subjects": [f"{prefix}.blob.*.*"]}]


async def ensure(nc: Connection, prefix: str = "trackbook", *, initialised: bool) -> None:
    """Create the streams where they are missing and check that those that are there can be used.

    `initialised` says that this installation has made them before: then one that is missing means a wrong store,
    a wrong key or a loss, and is never made again. `condition` reports lost messages and changed limits.
    Raises StreamMissing, NewerFormat, OlderFormat, BrokerUnfit, Unanswered.
    """
    if not _TOKEN.match(prefix):
        raise ValueError(f"not a prefix for subjects: {prefix!r}")
    for wanted in wanted_streams(prefix):
        name = wanted["name"]
        info = await insist(nc, f"STREAM.INFO.{name}")
        if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
            if initialised:
                raise StreamMissing(_missing(name))
            info = await _create(nc, wanted)
        if fault := info.get("error"):
            raise BrokerUnfit(f"stream {name}: {fault['description']} ({fault.get('err_code')})")
        await _check_format(nc, info["config"])
        _check_config(wanted, info["config"])


async def _check_format(nc: Connection, config: dict[str, Any]) -> None:
    """Raise NewerFormat or OlderFormat where the stream can't be read; mark one that has none, or a lower one."""
    metadata = config.get("metadata") or {}
    number = metadata.get(_FORMAT, "")
    if number.isdecimal():
        mark = FormatMark(int(number), metadata.get(_RELEASE, ""))
        refuse_unreadable(f"the stream {config['name']}", mark)
    if not number.isdecimal() or int(number) < FORMAT:
        marked = config | {"metadata": metadata | _format_metadata()}
        if fault := (await insist(nc, f"STREAM.UPDATE.{config['name']}", marked)).get("error"):
            raise BrokerUnfit(f"stream {config['name']}: {fault['description']} ({fault.get('err_code')})")


def _format_metadata() -> dict[str, str]:
    mark = current()
    return {_FORMAT: str(mark.format), _RELEASE: mark.release}


async def _create(nc: Connection, wanted: dict[str, Any]) -> dict[str, Any]:
    """Create a stream, which thereby gets the installation's id; another engine may be quicker."""
    name = wanted["name"]
    with_id = wanted | {"metadata": {INSTALLATION: secrets.token_hex(4)} | _format_metadata()}
    info = await insist(nc, f"STREAM.CREATE.{name}", with_id)
    if info.get("error", {}).get("err_code") == _NAME_IN_USE:
        info = await insist(nc, f"STREAM.INFO.{name}")
    return info


async def installation(nc: Connection, prefix: str = "trackbook") -> str:
    """Return the installation's id, eight hex digits that live as long as its log; raises StreamMissing.

    It is part of what executors name outside, so that two installations on one cluster never meet.
    """
    name = events_stream(prefix)
    info = await insist(nc, f"STREAM.INFO.{name}")
    if "error" in info:
        raise StreamMissing(f"the stream {name} isn't there: no engine has started on this broker yet")
    given = (info["config"].get("metadata") or {}).get(INSTALLATION)
    return str(given or hashlib.sha256(str(info["created"]).encode()).hexdigest()[:8])


async def renew_installation(nc: Connection, prefix: str = "trackbook") -> str:
    """Give the installation another id and return it; for a log that was copied.

    Raises StreamMissing, BrokerUnfit.
    """
    name = events_stream(prefix)
    info = await insist(nc, f"STREAM.INFO.{name}")
    if "error" in info:
        raise StreamMissing(_missing(name))
    new = secrets.token_hex(4)
    metadata = (info["config"].get("metadata") or {}) | {INSTALLATION: new}
    info = await insist(nc, f"STREAM.UPDATE.{name}", info["config"] | {"metadata": metadata})
    if fault := info.get("error"):
        raise BrokerUnfit(f"stream {name}: {fault['description']} ({fault.get('err_code')})")
    return new


def _missing(name: str) -> str:
    return (
        f"the stream {name} is missing, although this data directory has used it: is this the right broker, and "
        "its store directory and encryption key? It is not made again, since that would hide the loss; put the "
        "store back from a backup, or start with another data directory"
    )


def _check_config(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    differing = [
        f"{key} is {found.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value and key not in LIMITS and key not in _FREE
    ]
    if differing:
        raise BrokerUnfit(f"stream {wanted['name']} was made otherwise: {'; '.join(differing)}")
