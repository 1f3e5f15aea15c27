"""The rule for one history, and for atomic batches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackbook.events.chain import BatchCheck, Link, fault
from trackbook.events.commit import SCHEMA, Commit


def _commit(**changed: Any) -> Commit[Any, Any]:
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "job",
        "id": "j",
        "version": 3,
        "at": datetime.now(UTC),
        "prev": "abc",
    }
    return Commit(**(fields | changed))


def test_the_next_version_with_the_hash_of_the_last_follows() -> None:
    """What the engine writes itself is no fault."""
    assert not fault(Link(2, "abc"), "job", "j", _commit())


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"schema": SCHEMA + 1}, "schema"),
        ({"id": "k"}, "belongs to job/k"),
        ({"kind": "name"}, "belongs to name/j"),
        ({"version": 4}, "version 4 can't follow version 2"),
        ({"version": 2}, "version 2 can't follow version 2"),
        ({"prev": "abd"}, "hash"),
        ({"prev": ""}, "hash"),
    ],
)
def test_anything_else_is_a_fault(changed: dict[str, Any], word: str) -> None:
    """Each thing that ties a commit to the one before it is looked at, and named."""
    assert word in fault(Link(2, "abc"), "job", "j", _commit(**changed))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_what_is_missing_of_a_batch_is_named(sizes: list[int], data: st.DataObject) -> None:
    """Of batches that lost some members and kept others, exactly the lost ones are named."""
    stream, batches = [], []
    for number, size in enumerate(sizes):
        members = [f"name/{number}-{place}/1" for place in range(size)] if size > 1 else []
        batches.append(members)
        stream += [(member, members) for member in members] or [(f"job/{number}/1", [])]
    lost = data.draw(st.sets(st.integers(0, len(stream) - 1), max_size=3))
    check, found = BatchCheck(), list[str]()
    for place, (member, batch) in enumerate(stream):
        if place not in lost:
            found += check.take(member, batch)
    found += check.end()
    gone = {stream[place][0] for place in lost}
    halves = [batch for batch in batches if 0 < len(gone & set(batch)) < len(batch)]
    assert sorted(found) == sorted(member for batch in halves for member in batch if member in gone)
