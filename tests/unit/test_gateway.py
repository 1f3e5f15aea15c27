"""Commands are checked, answered once, and answered the same ever after."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from office import CHAIN, opened, start_job

from trackbook.adapters.nats.errors import StoreFull
from trackbook.engine.ports import Append
from trackbook.runtime.aggregate import Draft
from trackbook.runtime.commands.requests import PauseJob
from trackbook.testing.executor import Play
from trackbook.testing.store import MemoryEventStore


async def test_accepted_means_committed(tmp_path: Path) -> None:
    """A reply names the sequence at which the commit stands on the log."""
    office = await opened(tmp_path)

    reply = await office.must("pipeline.apply", yaml=CHAIN)

    assert reply["version"] == 1
    assert [stored.kind for stored in office.store.commits] == ["name", "pipeline"]
    assert reply["seq"] == 2
    await office.close()


async def test_the_same_id_has_the_same_outcome_without_a_second_effect(tmp_path: Path) -> None:
    """A command sent twice is answered twice alike and stands on the log once."""
    office = await opened(tmp_path)
    first = await office.must("pipeline.apply", yaml=CHAIN, command_id="c1")
    before = list(office.store.commits)

    again = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")

    assert again == first
    assert office.store.commits == before
    await office.close()


async def test_outcomes_outlive_a_restart_and_the_loss_of_the_ledger(tmp_path: Path) -> None:
    """With a new process and the ledger's file deleted, an id still has the outcome that it had."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain", command_id="c2")
    refused = await office.ask("job.start", pipeline="nothing", command_id="c3")
    await office.ended(started["job"])
    await office.close()
    for file in tmp_path.glob("engine.db*"):
        file.unlink()

    later = await opened(tmp_path, office.store, office.blobs)

    assert await later.ask("job.start", pipeline="chain", command_id="c2") == started
    assert await later.ask("job.start", pipeline="nothing", command_id="c3") == refused
    assert refused["error"]["code"] == "pipeline_not_found"
    await later.close()


async def test_the_same_id_with_another_payload_is_refused(tmp_path: Path) -> None:
    """An id stands for one payload; key order and who sends it don't matter."""
    office = await opened(tmp_path)
    await office.must("pipeline.create", name="a", description="x", command_id="c1")

    other = await office.ask("pipeline.create", name="b", command_id="c1")
    same = await office.ask("pipeline.create", description="x", name="a", command_id="c1", actor="ann")

    assert other["error"]["code"] == "command_id_reused"
    assert same["status"] == "accepted"
    await office.close()


async def test_a_refusal_that_depends_on_state_is_an_outcome(tmp_path: Path) -> None:
    """What was refused stays refused under its id, though it would be accepted now."""
    office = await opened(tmp_path)
    refused = await office.ask("job.start", pipeline="chain", command_id="early")
    await office.must("pipeline.apply", yaml=CHAIN)

    again = await office.ask("job.start", pipeline="chain", command_id="early")

    assert again == refused
    assert refused["seq"] == 1
    assert office.kinds()[0] == "outcome"
    await office.close()


async def test_a_refusal_of_the_payload_alone_writes_nothing(tmp_path: Path) -> None:
    """YAML that can't be read is refused with line and column, and the log stays as it was."""
    office = await opened(tmp_path)

    reply = await office.ask("pipeline.apply", yaml="name: a\ntasks:\n- {name: x, name: y}\n")

    assert reply["error"]["code"] == "yaml_duplicate_key"
    assert (reply["error"]["line"], reply["error"]["column"]) == (3, 13)
    assert not office.store.commits
    await office.close()


@pytest.mark.parametrize(
    ("command", "payload", "code", "path"),
    [
        ("pipeline.apply", {"yaml": 3}, "invalid_payload", "yaml"),
        ("pipeline.apply", {}, "invalid_payload", "yaml"),
        ("pipeline.apply", {"yaml": "name: a", "what": 1}, "invalid_payload", None),
        ("job.start", {"pipeline": "a", "parameters": {"k": 1}}, "invalid_payload", "parameters[...]"),
        ("job.fly", {}, "unknown_command", None),
        ("pipeline.create", {"name": "a", "command_id": ""}, "invalid_payload", "command_id"),
    ],
)
async def test_a_payload_of_the_wrong_form_is_refused_with_its_path(
    tmp_path: Path, command: str, payload: dict[str, object], code: str, path: str | None
) -> None:
    """The error names the place in the payload."""
    office = await opened(tmp_path)

    reply = await office.ask(command, **payload)

    assert (reply["status"], reply["error"]["code"]) == ("rejected", code)
    assert reply["error"].get("path") == path
    assert not office.store.commits
    await office.close()


async def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    """Bytes that are no JSON get a reply like any other."""
    office = await opened(tmp_path)

    reply = await office.gateway.handle("job", "start", b"{not json", "test")

    assert reply["error"]["code"] == "invalid_json"
    await office.close()


async def test_the_same_id_twice_at_once_is_decided_once(tmp_path: Path) -> None:
    """A client that sends again before the reply came gets the one outcome."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)

    replies = await asyncio.gather(
        *(office.ask("job.start", pipeline="chain", command_id="c1") for _ in range(5))
    )

    assert all(reply == replies[0] for reply in replies)
    assert replies[0]["status"] == "accepted"
    await office.close()


async def test_an_accepted_command_that_changes_nothing_commits_nothing_and_is_remembered(tmp_path: Path) -> None:
    """Applying the same YAML again leaves the version as it is, and its outcome is on the log."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)

    reply = await office.must("pipeline.apply", yaml=CHAIN, command_id="again")

    assert reply["version"] == 1
    assert office.kinds() == ["name", "pipeline", "outcome"]
    assert await office.ask("pipeline.apply", yaml=CHAIN, command_id="again") == reply
    await office.close()


async def test_two_engines_given_the_same_command_have_one_outcome(tmp_path: Path) -> None:
    """Ids of what is created follow from the command's id, so both meet at one subject and one of them yields."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = await opened(tmp_path / "a")
    two = await opened(tmp_path / "b", one.store, one.blobs)

    first = await one.must("pipeline.apply", yaml=CHAIN, command_id="c1")
    second = await two.ask("pipeline.apply", yaml=CHAIN, command_id="c1")
    third = await one.must("job.start", pipeline="chain", command_id="c2")
    fourth = await two.ask("job.start", pipeline="chain", command_id="c2")

    assert (second["pipeline"], second["version"]) == (first["pipeline"], 1)
    assert fourth["job"] == third["job"]
    assert one.kinds().count("pipeline") == 1
    await one.close()
    await two.close()


class _FailingStore(MemoryEventStore):
    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.error: Exception = OSError("no answer")

    async def append(self, *commits: Append) -> list[int]:
        if self.broken:
            raise self.error
        return await super().append(*commits)


async def test_a_command_that_can_t_be_carried_out_now_may_be_sent_again(tmp_path: Path) -> None:
    """When the log can't be written the reply says so, nothing is remembered, and the same id works later."""
    store = _FailingStore()
    office = await opened(tmp_path, store)
    store.broken = True
    refused = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")
    store.broken = False

    accepted = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")

    assert refused["error"]["code"] == "unavailable"
    assert "no answer" in refused["error"]["message"]
    assert accepted["status"] == "accepted"
    await office.close()


@pytest.mark.parametrize(
    "problem", [StoreFull("the disk of /data is full"), OSError(errno.ENOSPC, "No space left")]
)
async def test_a_full_disk_is_named(tmp_path: Path, problem: Exception) -> None:
    """A command without room is refused as disk_full, with what to do; with room again the same id works."""
    store = _FailingStore()
    office = await opened(tmp_path, store)
    store.broken, store.error = True, problem
    refused = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")
    store.broken = False

    accepted = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")

    assert refused["error"]["code"] == "disk_full"
    assert "Free some space" in refused["error"]["hint"]
    assert "same command_id" in refused["error"]["hint"]
    assert accepted["status"] == "accepted"
    await office.close()


async def test_an_outcome_that_another_engine_wrote_first_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines that refuse the same command at once leave one outcome, and both give it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = await opened(tmp_path / "one")
    two = await opened(tmp_path / "two", one.store, one.blobs)
    await one.must("pipeline.create", name="a")
    write = one.aggregates.write
    replies: list[dict[str, Any]] = []

    async def after_the_other(*drafts: Draft) -> int:
        if not replies:
            replies.append(await two.ask("job.start", pipeline="b", command_id="c1"))
        return await write(*drafts)

    monkeypatch.setattr(one.aggregates, "write", after_the_other)

    assert await one.ask("job.start", pipeline="b", command_id="c1") == replies[0]
    assert one.kinds().count("outcome") == 1
    await one.close()
    await two.close()


async def test_the_engine_gives_a_command_on_a_client_s_path(tmp_path: Path) -> None:
    """It is the actor, the commit says what the command follows from, and its id has one outcome."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    job = await start_job(office)
    pause = PauseJob(job=job, command_id="due-1")

    first = await office.gateway.give(pause, "schedule/s/3/0")
    again = await office.gateway.give(pause, "schedule/s/3/0")

    commits = [json.loads(stored.data) for stored in office.store.commits if stored.id == job]
    given = [each for commit in commits for each in commit["inputs"] if each.get("id") == "due-1"]
    assert first == again
    assert first["status"] == "accepted"
    assert [(each["actor"], each["causation"]) for each in given] == [("engine", "schedule/s/3/0")]
    await office.close()


@pytest.mark.parametrize("claimed", ["engine", "executor:local", "Executor:local", "executor", " engine:x"])
async def test_no_client_may_act_as_a_part_of_trackbook(tmp_path: Path, claimed: str) -> None:
    """Neither a payload nor what carried it in may name the engine or an executor as the actor."""
    office = await opened(tmp_path)

    by_payload = await office.ask("pipeline.apply", yaml=CHAIN, actor=claimed)
    by_carrier = await office.gateway.handle("pipeline", "apply", b"{}", claimed)

    for reply in (by_payload, by_carrier):
        assert (reply["status"], reply["error"]["code"]) == ("rejected", "reserved_actor")
    assert office.store.commits == []
    await office.close()


@pytest.mark.parametrize(
    "payload", [b'{"name": "\xff"}', b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"{", b"\xfe\xff"]
)
async def test_what_cannot_be_decoded_is_refused_for_good(tmp_path: Path, payload: bytes) -> None:
    """Invalid UTF-8 and endless nesting are no trouble of the server's: nobody is asked to send them again."""
    office = await opened(tmp_path)

    reply = await office.gateway.handle("pipeline", "create", payload, "http")

    assert (reply["status"], reply["error"]["code"]) == ("rejected", "invalid_json")
    await office.close()
