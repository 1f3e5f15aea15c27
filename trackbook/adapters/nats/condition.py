"""What the broker reports of the two streams: lost messages and settings that let messages fall out.

Measured with nats-server 2.15.1 on a store that was damaged while the server was down:

- After a clean stop the server trusts its index. One flipped bit in a message changes nothing in the stream's
  state, at the first start and at all later ones; the message can't be read ("no message found", 10037), all
  others can.
- A bit flipped in a record's length, or a message cut off the end, takes all that follows it in the same block
  file. After a clean stop `lost.msgs` names them, at the first start only. They lie beyond `last_seq` if it was
  the last block; from the second start on `last_seq` is back and they are listed as deleted, unless something
  was appended meanwhile: then their sequences are used again.
- After kill -9 there is no index. The first bad byte of a block takes all that follows it in the block. In the
  last block nothing of that is left but `lost: {msgs: null, bytes}`, and that at the first start only.
- A write that fails (a full disk, EFBIG) freezes the stream: it acknowledges nothing more until the server is
  restarted. While it is frozen `lost.msgs` names the message that failed, which is `last_seq` + 1.
- A torn write (3 to 400 random bytes or 4,096 zeros behind the last message) is reported in the very same form:
  `msgs` null and the number of bytes.
- A block file that was removed appears as deleted messages, or as a larger `first_seq`, at every start. After
  kill -9 the removal of the last one leaves no trace.
- A stream whose `meta.inf` or `meta.sum` is damaged isn't there: StreamMissing.
- The length of a message's headers isn't covered by the server's checksum: a bit flipped there moves bytes
  between headers and data, and the message is delivered.
"""

from __future__ import annotations

from typing import Any

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.limits import changed_limits, times_restored
from trackbook.adapters.nats.reads import stream_info
from trackbook.adapters.nats.streams import wanted_streams
from trackbook.engine.store_condition import StoreCondition, StreamCondition, bounded, count_of, ranges_of


async def condition(nc: Connection, prefix: str = "trackbook", patience: float | None = None) -> StoreCondition:
    """Return the condition of both streams; waits while the broker is away, `patience` seconds at most if given.

    Raises StreamMissing, BrokerUnanswered.
    """
    events, blobs = [await _stream(nc, wanted, patience) for wanted in wanted_streams(prefix)]
    return StoreCondition(events, blobs)


async def _stream(nc: Connection, wanted: dict[str, Any], patience: float | None) -> StreamCondition:
    # Without the details the server leaves out what is lost as well.
    info = await stream_info(nc, wanted["name"], {"deleted_details": True}, patience=patience)
    config = info["config"]
    return condition_of(wanted["name"], info["state"], changed_limits(wanted, config), times_restored(config))


def condition_of(name: str, state: dict[str, Any], limits: list[str], restored: int = 0) -> StreamCondition:
    """Return a stream's condition from its state as the server reports it."""
    first, last = state["first_seq"], state["last_seq"]
    # A stream that lost everything has its first sequence behind the last; one of nothing has both at 0.
    gone = set(range(1, min(first, last + 1))) | {seq for seq in state.get("deleted") or [] if 0 < seq <= last}
    missing = ranges_of(sorted(gone))
    report = state.get("lost") or {}
    lost = ranges_of(sorted(set(report.get("msgs") or [])))
    return StreamCondition(
        name=name,
        first=first,
        last=last,
        messages=state["messages"],
        missing=bounded(missing),
        missing_count=count_of(missing),
        lost=bounded(lost),
        lost_count=count_of(lost),
        cut_bytes=0 if lost else report.get("bytes", 0),
        limits=limits,
        restored=restored,
    )
