"""What was stored once is read, folded and decided the same by the code of today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trackbook.adapters.sql.ledger import Ledger
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Append
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.testing.store import MemoryBlobs, MemoryEventStore

HISTORIES = sorted(Path(__file__).parent.glob("*.jsonl"))


@asynccontextmanager
async def _aggregates(history: Path, folder: Path) -> AsyncIterator[AggregateStore]:
    store = MemoryEventStore()
    last: dict[tuple[str, str], int] = {}
    for line in history.read_text().splitlines():
        commit = json.loads(line)
        key = commit["kind"], commit["id"]
        append = Append(*key, last.get(key, 0), commit["data"].encode(), "")
        [last[key]] = await store.append(append)
    with closing(Ledger(folder / "engine.db")) as ledger:
        yield AggregateStore(store, MemoryBlobs(), ledger)


async def _states(aggregates: AggregateStore) -> dict[str, str]:
    """Return the SHA-256 of every aggregate's folded state."""
    states: dict[str, Any] = {}
    async for batch in aggregates.store.read_all(1):
        for stored in batch:
            key = f"{stored.kind}/{stored.id}"
            state = states.get(key) or KINDS[stored.kind].decider.initial(stored.id)
            states[key] = KINDS[stored.kind].take(state, await aggregates.histories.decode(stored))
    return {
        key: hashlib.sha256(msgspec.json.encode(_plain(state), order="sorted")).hexdigest()
        for key, state in states.items()
    }


def _plain(state: Any) -> Any:
    """Return a state without what only one fold knows: which mappings it may change in place."""
    if not hasattr(state, "owned"):
        return state
    return {name: value for name, value in msgspec.structs.asdict(state).items() if name != "owned"}


@pytest.mark.parametrize("history", HISTORIES, ids=lambda path: path.stem)
async def test_a_stored_history_folds_to_the_states_it_had(history: Path, tmp_path: Path) -> None:
    """Each aggregate's state has the hash that was noted when the history was recorded."""
    async with _aggregates(history, tmp_path) as aggregates:
        states = await _states(aggregates)

    assert states == json.loads(history.with_suffix(".states").read_text())


@pytest.mark.parametrize("history", HISTORIES, ids=lambda path: path.stem)
async def test_a_stored_history_is_decided_the_same_again(history: Path, tmp_path: Path) -> None:
    """Replaying each aggregate finds no divergence, and the chain of hashes holds."""
    async with _aggregates(history, tmp_path) as aggregates:
        verified = await log_checks.verify(aggregates, [])
        keys = {(stored.kind, stored.id) async for batch in aggregates.store.read_all(1) for stored in batch}

        for kind, key in keys:
            assert (await log_checks.replay(aggregates, kind, key)).divergence is None
    # The blobs of a golden history are not kept.
    assert not [each for each in verified.defects if not each.problem.endswith(": not stored")]


def test_there_is_a_history_and_it_has_seen_every_event() -> None:
    """A golden history that lacks an event would prove nothing about it."""
    from trackbook.events.job import AnyJobEvent
    from trackbook.events.pipeline import AnyNameEvent, AnyPipelineEvent

    lines = [line for path in HISTORIES for line in path.read_text().splitlines()]
    seen = {event["type"] for line in lines for event in json.loads(json.loads(line)["data"])["events"]}
    unions = (AnyJobEvent, AnyPipelineEvent, AnyNameEvent)
    known = {event.__name__ for union in unions for event in union.__args__}

    assert known - seen == {"TaskStatusReported"}  # the local executor has no states of its own
