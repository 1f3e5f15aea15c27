"""The tools of the log: verify finds what was changed or removed, replay finds where code decides otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from office import CHAIN, Office, opened

from trackbook.engine import job as jobs
from trackbook.engine.decider import Decider, fold
from trackbook.engine.job_state import JobState
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Stored
from trackbook.events.job import AnyJobEvent, TaskLaunchRequested
from trackbook.runtime import log_checks


async def _with_history(folder: Path) -> tuple[Office, str]:
    office = await opened(folder)
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain")
    await office.ended(started["job"])
    return office, started["job"]


async def test_a_sound_log_verifies(tmp_path: Path) -> None:
    """Everything is read, and every aggregate is held against its head."""
    office, _ = await _with_history(tmp_path)

    found = await log_checks.verify(office.aggregates, office.ledger.heads())

    assert found.ok
    assert found.commits == len(office.store.commits)
    assert found.witnessed == found.aggregates
    await office.close()


def _changed(stored: Stored) -> Stored:
    return msgspec.structs.replace(stored, data=stored.data.replace(b'"actor":"test"', b'"actor":"tesT"'))


async def test_a_changed_commit_is_found(tmp_path: Path) -> None:
    """One byte in the middle of a history breaks the chain at the next commit."""
    office, job = await _with_history(tmp_path)
    at = next(n for n, stored in enumerate(office.store.commits) if stored.id == job)
    office.store.commits[at] = _changed(office.store.commits[at])

    found = await log_checks.verify(office.aggregates, [])

    assert found.defects[0].aggregate == f"job/{job}"
    assert "hash" in found.defects[0].problem
    await office.close()


async def test_a_changed_last_commit_is_found_by_the_witness(tmp_path: Path) -> None:
    """Nothing follows a last commit that would show its change, but its head is kept outside."""
    office, _ = await _with_history(tmp_path)
    heads = office.ledger.heads()
    at = max(n for n, stored in enumerate(office.store.commits) if stored.kind == "pipeline")
    office.store.commits[at] = _changed(office.store.commits[at])

    assert (await log_checks.verify(office.aggregates, [])).ok
    assert not (await log_checks.verify(office.aggregates, heads)).ok
    await office.close()


async def test_a_removed_last_commit_and_a_removed_aggregate_are_found(tmp_path: Path) -> None:
    """Renumbering hides a gap, yet the heads know what there was."""
    office, job = await _with_history(tmp_path)
    heads = office.ledger.heads()
    whole = office.store.commits

    def renumbered(kept: list[Stored]) -> list[Stored]:
        return [msgspec.structs.replace(stored, seq=n + 1) for n, stored in enumerate(kept)]

    office.store.commits = renumbered(whole[:-1])
    shorter = await log_checks.verify(office.aggregates, heads)
    office.store.commits = renumbered([stored for stored in whole if stored.id != job])
    without = await log_checks.verify(office.aggregates, heads)

    assert [d.problem for d in shorter.defects if "removed" in d.problem]
    assert any(d.aggregate == f"job/{job}" and "removed" in d.problem for d in without.defects)
    await office.close()


async def test_missing_sequences_are_found(tmp_path: Path) -> None:
    """A hole in the stream is named."""
    office, _ = await _with_history(tmp_path)
    del office.store.commits[1]

    found = await log_checks.verify(office.aggregates, [])

    assert "sequences 2 to 2 are missing" in [d.problem for d in found.defects]
    await office.close()


async def test_today_s_code_decides_every_history_the_same(tmp_path: Path) -> None:
    """A replay of each kind of aggregate compares every event and cause and finds no difference."""
    office, _ = await _with_history(tmp_path)

    for stored in list(office.store.commits):
        found = await log_checks.replay(office.aggregates, stored.kind, stored.id)
        assert found.divergence is None, found
        assert found.commits >= 1
    await office.close()


async def test_a_patched_reaction_is_named_where_it_first_decides_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The divergence has the sequence, what the history says and what the code says now."""
    office, job = await _with_history(tmp_path)

    def due(state: JobState) -> Iterator[AnyJobEvent]:
        for fact in jobs.due(state):
            if isinstance(fact, TaskLaunchRequested) and fact.task == "second":
                yield msgspec.structs.replace(fact, session="elsewhere")
            else:
                yield fact

    how = KINDS["job"]
    patched: Decider[Any, Any, Any] = msgspec.structs.replace(how.decider, due=due)
    monkeypatch.setitem(KINDS, "job", msgspec.structs.replace(how, decider=patched))
    found = await log_checks.replay(office.aggregates, "job", job)

    assert found.divergence is not None
    assert found.divergence.expected["session"] == f"tb-{job}-1-1"
    assert found.divergence.actual["session"] == "elsewhere"
    assert office.store.commits[found.divergence.seq - 1].id == job
    await office.close()


async def test_a_job_can_be_looked_at_after_every_event(tmp_path: Path) -> None:
    """The state at an event is an independent fold of the events up to it."""
    office, job = await _with_history(tmp_path)
    decider = KINDS["job"].decider
    state = decider.initial(job)

    async for _, commit in office.aggregates.commits("job", job):
        for index, event in enumerate(commit.events):
            state = fold(decider, state, [event])
            seen = await log_checks.state_at(office.aggregates, "job", job, commit.version, index)
            assert json.loads(msgspec.json.encode(seen)) == json.loads(msgspec.json.encode(state))
    await office.close()
