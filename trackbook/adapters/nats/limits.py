"""Settings of a stream that let messages fall out or be removed: found where they were changed, and put back."""

from __future__ import annotations

from typing import Any

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import Unanswered
from trackbook.adapters.nats.jetstream_api import insist
from trackbook.adapters.nats.reads import stream_info
from trackbook.adapters.nats.streams import LIMITS, REMOVERS, wanted_streams
from trackbook.engine.store_condition import RestoredLimits

_RESTORED = "trackbook_limits_restored"
"""Key in a stream's metadata: how often limits were put back. The same change is new evidence after that."""


def changed_limits(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return in words which settings of a stream let messages fall out or be removed."""
    changed = [
        f"{key} is {found.get(key)!r}, not {wanted[key]!r}" for key in LIMITS if found.get(key) != wanted[key]
    ]
    return changed + [f"{key} is on" for key in REMOVERS if found.get(key)]


def times_restored(config: dict[str, Any]) -> int:
    """Return how often limits of the stream were put back."""
    number = (config.get("metadata") or {}).get(_RESTORED, "0")
    return int(number) if number.isdecimal() else 0


async def restore_limits(
    nc: Connection, prefix: str = "trackbook", patience: float | None = None
) -> list[RestoredLimits]:
    """Put back what was changed in both streams. Only limits that Trackbook does without are taken away.

    So no message is removed by it. The broker refuses some changes for good, such as the end of `allow_msg_ttl`;
    these are returned with its words. Raises StreamMissing, and
    BrokerUnanswered where no answer comes for `patience` seconds, if given.
    """
    return [each for wanted in wanted_streams(prefix) for each in await _restore(nc, wanted, patience)]


async def _restore(nc: Connection, wanted: dict[str, Any], patience: float | None) -> list[RestoredLimits]:
    name = wanted["name"]
    right = dict.fromkeys(REMOVERS, False) | {key: wanted[key] for key in LIMITS}  # roll-ups end before purges
    config = (await stream_info(nc, name, patience=patience))["config"]
    changed = changed_limits(wanted, config)
    if not changed:
        return []
    number = {_RESTORED: str(times_restored(config) + 1)}
    whole = config | right | {"metadata": (config.get("metadata") or {}) | number}
    if not (problem := await _update(nc, name, whole)):
        return [RestoredLimits(name, changed)]
    for key, value in right.items():  # the others by themselves
        config = (await stream_info(nc, name, patience=patience))["config"]
        if (config.get(key) or False) != (value or False):
            await _update(nc, name, config | {key: value})
    left = changed_limits(wanted, (await stream_info(nc, name, patience=patience))["config"])
    done = [each for each in changed if each not in left]
    return [*([RestoredLimits(name, done)] if done else []), RestoredLimits(name, left, problem)]


async def _update(nc: Connection, name: str, config: dict[str, Any]) -> str:
    """Change a stream's settings; returns why the broker refuses that, '' where it does not."""
    try:
        fault = (await insist(nc, f"STREAM.UPDATE.{name}", config)).get("error")
    except Unanswered as error:
        return str(error)
    return str(fault["description"]) if fault else ""
