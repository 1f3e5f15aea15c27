"""What is read from a stream's state, as the server reports it."""

from __future__ import annotations

from typing import Any

import pytest

from trackbook.adapters.nats.condition import condition_of
from trackbook.engine.store_condition import MOST_RANGES, Ranges, bounded, count_of


@pytest.mark.parametrize(
    ("state", "missing", "lost"),
    [
        ({"first_seq": 0, "last_seq": 0, "messages": 0}, [], []),
        ({"first_seq": 0, "last_seq": 0, "messages": 0, "num_deleted": 1, "deleted": [0]}, [], []),
        ({"first_seq": 1, "last_seq": 9, "messages": 9}, [], []),
        ({"first_seq": 1, "last_seq": 9, "messages": 8, "deleted": [4]}, [(4, 4)], []),
        ({"first_seq": 1, "last_seq": 9, "messages": 6, "deleted": [8, 3, 4]}, [(3, 4), (8, 8)], []),
        ({"first_seq": 3, "last_seq": 9, "messages": 7}, [(1, 2)], []),
        ({"first_seq": 3, "last_seq": 9, "messages": 5, "deleted": [3, 4]}, [(1, 4)], []),
        ({"first_seq": 10, "last_seq": 9, "messages": 0}, [(1, 9)], []),
        ({"first_seq": 1, "last_seq": 9, "messages": 9, "lost": {"msgs": [9], "bytes": 5}}, [], [(9, 9)]),
        ({"first_seq": 1, "last_seq": 9, "messages": 9, "lost": {"msgs": [10, 11], "bytes": 5}}, [], [(10, 11)]),
        ({"first_seq": 1, "last_seq": 9, "messages": 9, "lost": {"msgs": None, "bytes": 400}}, [], []),
    ],
)
def test_what_a_stream_lacks_is_read_from_its_state(state: dict[str, Any], missing: Ranges, lost: Ranges) -> None:
    """Missing ranges, and what the broker lists as lost; beyond the end, or as bytes, that alone is no loss."""
    found = condition_of("events", state, [])

    assert (found.missing, found.lost) == (missing, lost)
    assert (found.missing_count, found.lost_count) == (count_of(missing), count_of(lost))
    assert bool(found.problems()) is bool(missing or [each for each in lost if each[0] <= found.last])


def test_many_ranges_are_bounded() -> None:
    """The last of many ranges reaches over all that follow."""
    ranges = [(seq, seq) for seq in range(1, 1000, 2)]

    kept = bounded(ranges)

    assert len(kept) == MOST_RANGES
    assert (kept[0], kept[-1]) == ((1, 1), (2 * MOST_RANGES - 1, 999))
    assert bounded(ranges[:5]) == ranges[:5]
