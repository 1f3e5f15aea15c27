"""Damage to the log: a loss is in the way of every command, what can't follow stops its own history only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from office import CHAIN, Office, opened

from trackbook.engine.ports import Stored
from trackbook.engine.store_condition import RestoredLimits, StoreCondition
from trackbook.runtime import aggregate_store, log_checks
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.integrity.evidence import LogDamaged
from trackbook.testing.executor import Play
from trackbook.testing.store import MemoryEventStore


async def _with_history(folder: Path) -> Office:
    office = await opened(folder)
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain")
    await office.ended(started["job"])
    return office


async def _restarted(office: Office) -> Office:
    """Return another engine on the same log and ledger."""
    await office.close()
    return await opened(office.folder, office.store, office.blobs)


async def _refused(office: Office, kind: str) -> str:
    """Return the message with which a command is refused; there is one piece of evidence, of this kind."""
    assert [each.kind for each in office.aggregates.integrity.open] == [kind]
    reply = await office.ask("pipeline.create", name="other")
    assert reply["error"]["code"] == "log_damaged"
    assert "accept-loss" in reply["error"]["hint"]
    return str(reply["error"]["message"])


async def test_a_log_that_ends_before_what_was_written_takes_no_commands(tmp_path: Path) -> None:
    """A broker that lost the end of the log is noticed at the start, before anything is decided on it."""
    office = await _with_history(tmp_path)
    await office.close()
    office.store.commits.pop()

    office = await opened(tmp_path, office.store, office.blobs)

    assert "the log ends at sequence" in await _refused(office, "tail")
    assert not (await log_checks.verify(office.aggregates, [])).ok
    await office.close()


async def test_a_log_whose_message_was_exchanged_takes_no_commands(tmp_path: Path) -> None:
    """The message at the checkpoint has to be the one that was written."""
    office = await _with_history(tmp_path)
    await office.close()
    last = office.store.commits[-1]
    office.store.commits[-1] = msgspec.structs.replace(last, data=last.data + b" ")

    office = await opened(tmp_path, office.store, office.blobs)

    assert "is not the one that" in await _refused(office, "replaced")
    await office.close()


async def test_an_accepted_loss_lets_commands_in_again(tmp_path: Path) -> None:
    """After `log.accept-loss` the log verifies, what is left is decided on, and a later start says nothing."""
    office = await _with_history(tmp_path)
    await office.close()
    lost = office.store.commits.pop()
    office.store._last[lost.kind, lost.id] = max(
        stored.seq for stored in office.store.commits if stored.id == lost.id
    )
    office = await opened(tmp_path, office.store, office.blobs)

    accepted = await office.must("log.accept-loss")

    assert "the log ends at sequence" in accepted["changes"][0]
    assert (await office.must("pipeline.create", name="other"))["seq"] > accepted["seq"] == lost.seq
    assert (await log_checks.verify(office.aggregates, office.ledger.heads())).ok
    await office.close()
    again = await opened(tmp_path, office.store, office.blobs)
    assert not again.aggregates.integrity.open
    await again.close()


async def test_a_hole_in_a_history_stops_it_and_is_evidence_of_loss(tmp_path: Path) -> None:
    """A pipeline whose third version is gone takes no version five again; others go on once that is accepted."""
    office = await opened(tmp_path)
    for number in range(5):
        await office.must("pipeline.apply", yaml=CHAIN.replace("red", f"red{number}"))
    third = next(
        stored for stored in office.store.commits if stored.kind == "pipeline" and b'"version":3' in stored.data
    )
    office.store.commits.remove(third)
    office = await _restarted(office)

    assert "sequence" in await _refused(office, "gap")
    await office.must("log.accept-loss")
    refused = await office.ask("pipeline.apply", yaml=CHAIN)
    assert refused["error"]["code"] == "history_damaged"
    assert f"quarantine show pipeline/{third.id}" in refused["error"]["hint"]
    await office.must("pipeline.create", name="other")

    released = await office.must("quarantine.release", kind="pipeline", id=third.id)

    assert [line[:8] for line in released["changes"]] == ["left out"] * 2
    assert (await office.must("pipeline.apply", yaml=CHAIN))["version"] == 3
    assert (await log_checks.verify(office.aggregates, office.ledger.heads())).ok
    office = await _restarted(office)
    assert (await log_checks.verify(office.aggregates, office.ledger.heads())).ok
    await office.close()


AT = b'"at":"2026-01-01T00:00:00Z"'
FOREIGN = {
    "garbage": b"\x00garbage",
    "empty": b"",
    "deep": b"[" * 5000 + b"]" * 5000,
    "another schema": b'{"schema":99,"kind":"job","id":"j1","version":1,%b,"prev":""}' % AT,
    "no first version": b'{"schema":1,"kind":"job","id":"j1","version":7,%b,"prev":"ab"}' % AT,
    "cannot follow": (
        b'{"schema":1,"kind":"job","id":"j1","version":1,"at":"2026-01-01T00:00:00Z","prev":"",'
        b'"inputs":[{"actor":"user:x","command":{"type":"CancelJob","reason":"x"}}],'
        b'"events":[{"type":"TaskStarted","task":"x","attempt":1,"at":"2026-01-01T00:00:00Z"}],"causes":[0]}'
    ),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
async def test_a_foreign_message_stops_its_own_aggregate_only(tmp_path: Path, data: bytes) -> None:
    """Whatever stands on the event stream, other aggregates go on, and a later start does; verify names it."""
    office = await _with_history(tmp_path)
    office.store.commits.append(Stored(len(office.store.commits) + 1, "job", "j1", data))

    for _ in range(2):
        await office.must("pipeline.apply", yaml=CHAIN)
        cancelled = await office.ask("job.cancel", job="j1")
        assert cancelled["status"] == "rejected"
        assert not office.aggregates.integrity.open
        office = await _restarted(office)

    found = await log_checks.verify(office.aggregates, office.ledger.heads())
    assert {defect.aggregate for defect in found.defects} <= {"job/j1"}
    assert not found.ok or data == FOREIGN["cannot follow"]
    await office.must("quarantine.release", kind="job", id="j1")
    assert (await log_checks.verify(office.aggregates, office.ledger.heads())).ok
    await office.close()


async def test_half_of_a_batch_is_evidence(tmp_path: Path) -> None:
    """A name that belongs to a pipeline that is not there was half of one decision."""
    office = await _with_history(tmp_path)
    pipeline = next(stored for stored in office.store.commits if stored.kind == "pipeline")
    name = next(stored for stored in office.store.commits if stored.kind == "name")
    later = office.store.commits
    await office.close()
    (tmp_path / "engine.db").unlink()
    later.remove(pipeline)
    later[:] = [msgspec.structs.replace(stored, seq=n) for n, stored in enumerate(later, 1)]  # no gap tells of it

    office = await opened(tmp_path, office.store, office.blobs)

    assert f"half of an atomic batch is missing: pipeline/{pipeline.id}/1" in await _refused(office, "batch")
    found = await log_checks.verify(office.aggregates, [])
    assert (f"pipeline/{pipeline.id}", 1) in [(defect.aggregate, defect.version) for defect in found.defects]
    assert name.seq < pipeline.seq
    await office.close()


async def test_a_lost_last_commit_is_no_shorter_history(tmp_path: Path) -> None:
    """Where the last version of a pipeline is gone, reading it says so; it is no version that never was."""
    office = await _with_history(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN.replace("red", "blue"))
    office.store.commits.pop()

    with pytest.raises(HistoryDamaged, match="version 2 was written"):
        await log_checks.state_at(office.aggregates, "pipeline", (await _ids(office, "pipeline"))[0], 2)
    await _refused(office, "history")
    await office.close()


async def test_a_history_that_is_known_to_be_cut_short_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica may lag behind a commit that is missed for the first time; after that each read is one."""
    office = await _with_history(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN.replace("red", "blue"))
    office.store.commits.pop()
    pipeline = (await _ids(office, "pipeline"))[0]
    reads: list[str] = []
    read = office.store.read

    def counted(kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        reads.append(id)
        return read(kind, id, from_seq)

    monkeypatch.setattr(office.store, "read", counted)
    monkeypatch.setattr(aggregate_store, "_LAGS", (0, 0, 0))
    for count in (3, 4, 5):
        with pytest.raises(HistoryDamaged, match="version 2 was written"):
            await office.aggregates.load("pipeline", pipeline)
        assert len(reads) == count
    await office.close()


async def _ids(office: Office, kind: str) -> list[str]:
    return [stored.id for stored in office.store.commits if stored.kind == kind]


async def test_nothing_is_launched_or_ended_while_evidence_is_open(tmp_path: Path) -> None:
    """What was lost may be a launch: sessions are neither adopted nor swept until the loss is accepted."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain")
    await office.close()
    office.aggregates.integrity.add_evidence("gap", "1-1", "sequence 1 is missing", 1)
    evidence = office.aggregates.integrity.open
    again = Office(tmp_path, office.store, office.blobs, office.executors)
    again.aggregates.integrity.add_evidence("gap", "1-1", "sequence 1 is missing", 1)
    launched = len(office.executor.launches)
    await again.open()

    assert len(again.executor.launches) == launched
    with pytest.raises(LogDamaged):
        await again.jobs.live("local")

    await again.must("log.accept-loss", evidence=[evidence[0].id])
    assert f"tb-{started['job']}-0-1" in (await again.jobs.live("local")).sessions
    await again.close()


async def test_the_sessions_of_a_job_in_quarantine_are_not_ended(tmp_path: Path) -> None:
    """The log can't tell what such a job owns, so a sweep takes its sessions for those of an unknown job."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain")
    office.store.commits.append(Stored(len(office.store.commits) + 1, "job", started["job"], b"garbage"))
    office = await _restarted(office)

    owned = await office.jobs.live("local")

    assert not owned.knows_job(started["job"])
    await office.close()


async def test_another_engine_takes_up_what_was_decided(tmp_path: Path) -> None:
    """A release that one engine wrote is heeded by the others, whose ledgers are made again."""
    office = await _with_history(tmp_path)
    (other_folder := tmp_path / "other").mkdir()
    office.store.commits.append(Stored(len(office.store.commits) + 1, "job", "j1", b"garbage"))
    other = await opened(other_folder, office.store, office.blobs)
    asked: list[int] = []
    other.ledger.on_damage = lambda: asked.append(1)
    await office.aggregates.keep_up()
    assert other.ledger.faults() == office.ledger.faults() != []

    await office.must("quarantine.release", kind="job", id="j1")
    await other.aggregates.keep_up()

    assert asked == [1]
    await other.aggregates.rebuild_ledger()
    assert other.ledger.faults() == office.ledger.faults() == []
    await other.close()
    await office.close()


class Loose(MemoryEventStore):
    """A store with settings that let messages fall out, some of which the broker does not put back."""

    def __init__(self, *stubborn: str) -> None:
        super().__init__()
        self.limits: list[str] = []
        self.stubborn = list(stubborn)
        self.times = 0

    async def condition(self) -> StoreCondition:
        """Return the settings as well."""
        found = await super().condition()
        events = msgspec.structs.replace(found.events, limits=list(self.limits), restored=self.times)
        return StoreCondition(events, found.blobs)

    async def restore_limits(self) -> list[RestoredLimits]:
        """Put back what is not stubborn."""
        done = [each for each in self.limits if each not in self.stubborn]
        self.limits = list(self.stubborn)
        self.times += not self.limits
        return [RestoredLimits("events", done)] + (
            [RestoredLimits("events", self.limits, "no way")] if self.limits else []
        )


@pytest.mark.parametrize("stubborn", [[], ["ttl is on"]])
async def test_accepted_limits_are_put_back(tmp_path: Path, stubborn: list[str]) -> None:
    """The reply says what was put back and what could not be; a later start says nothing of either."""
    store = Loose(*stubborn)
    office = await opened(tmp_path, store)
    await office.must("pipeline.apply", yaml=CHAIN)
    store.limits = ["max_age is 5, not 0", *stubborn]
    office = await _restarted(office)
    assert "max_age is 5" in await _refused(office, "limits")

    accepted = await office.must("log.accept-loss")

    assert accepted["changes"][1] == "put back: limits of the stream events: max_age is 5, not 0"
    assert [each["code"] for each in accepted.get("warnings", [])] == ["limits_not_restored"] * len(stubborn)
    office = await _restarted(office)
    await office.must("pipeline.create", name="other")
    await office.close()


async def test_limits_that_are_changed_again_are_evidence_again(tmp_path: Path) -> None:
    """The very same change is no known one once it was put back."""
    store = Loose()
    office = await opened(tmp_path, store)
    for _ in range(3):
        store.limits = ["max_age is 5, not 0"]
        office = await _restarted(office)
        await _refused(office, "limits")
        await office.must("log.accept-loss")
        await office.must("pipeline.apply", yaml=CHAIN)
    await office.close()
