"""Two engines on one log: what one does not know of, it learns before it decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from office import CHAIN, Office, opened

from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Head, Note
from trackbook.engine.job import ReportTaskEnded
from trackbook.events.commit import digest
from trackbook.runtime.aggregate import outcomes
from trackbook.testing.executor import Play


async def _two(folder: Path) -> tuple[Office, Office]:
    """Return two engines that were caught up before anything was on the log; their sessions do not end."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    one = await opened(folder / "one", script=lambda _: Play(hold=True))
    return one, await opened(folder / "two", one.store, one.blobs, lambda _: Play(hold=True))


async def test_a_report_about_another_engines_job_is_not_lost(tmp_path: Path) -> None:
    """An engine that has never heard of a job takes a report about it all the same."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN)
    job = (await one.must("job.start", pipeline="chain"))["job"]

    for task in ("first", "second"):
        await two.jobs.report("local", job, ReportTaskEnded(task, 1, "succeeded", datetime.now(UTC)))

    assert (await two.ended(job)).state.status == "succeeded"
    await one.close()
    await two.close()


async def test_a_report_that_is_news_to_stale_memory_is_not_lost(tmp_path: Path) -> None:
    """An engine that missed the launch of a task does not take the report of its end for one that is stale."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN)
    job = (await one.must("job.start", pipeline="chain"))["job"]
    await two.jobs.recover()

    await one.jobs.report("local", job, ReportTaskEnded("first", 1, "succeeded", datetime.now(UTC)))
    await two.jobs.report("local", job, ReportTaskEnded("second", 1, "succeeded", datetime.now(UTC)))

    assert (await two.ended(job)).state.status == "succeeded"
    await one.close()
    await two.close()


async def test_a_refusal_by_one_engine_is_the_outcome_at_the_other(tmp_path: Path) -> None:
    """A command that one engine has refused is not accepted by another, though it could be by now."""
    one, two = await _two(tmp_path)
    refused = await one.ask("job.start", pipeline="chain", command_id="c1")
    await one.must("pipeline.apply", yaml=CHAIN)

    assert await two.ask("job.start", pipeline="chain", command_id="c1") == refused
    assert refused["error"]["code"] == "pipeline_not_found"
    await one.close()
    await two.close()


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("pipeline.create", {"name": "new"}),
        ("pipeline.apply", {"yaml": CHAIN.replace("chain", "new")}),
        ("pipeline.apply", {"yaml": CHAIN.replace("echo two", "echo four")}),
        ("pipeline.edit", {"pipeline": "chain", "changes": [{"op": "remove_task", "task": "second"}]}),
        ("pipeline.rename", {"pipeline": "chain", "name": "other"}),
        ("pipeline.restore", {"pipeline": "chain", "version": 1}),
        ("pipeline.delete", {"pipeline": "chain"}),
        ("job.start", {"pipeline": "chain"}),
        ("job.cancel", {"job": "JOB"}),
    ],
)
async def test_a_command_that_reaches_both_engines_has_one_outcome(
    tmp_path: Path, command: str, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other engine carries out just after this one looked is answered as the other answered it."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN)
    await one.must("pipeline.apply", yaml=CHAIN.replace("echo two", "echo three"))
    job = (await one.must("job.start", pipeline="chain"))["job"]
    given = {key: job if value == "JOB" else value for key, value in payload.items()} | {"command_id": "c1"}
    for office in (one, two):
        monkeypatch.setattr(office.executor, "stop", AsyncMock())  # a job that is cancelled is slow to end
    replies: list[dict[str, Any]] = []
    keep_up = one.aggregates.keep_up

    async def then_the_other() -> None:
        await keep_up()
        if not replies:
            replies.append(await two.must(command, **given))

    monkeypatch.setattr(one.aggregates, "keep_up", then_the_other)

    assert await one.ask(command, **given) == replies[0]
    commits = [await one.aggregates.histories.decode(stored) for stored in one.store.commits]
    assert [found.command_id for commit in commits for found in outcomes(commit, 0)].count("c1") == 1
    await one.close()
    await two.close()


async def test_an_outcome_is_known_although_its_job_has_gone_further(tmp_path: Path) -> None:
    """An engine that has continued another one's job still learns what that one had answered."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN)
    reply = await one.must("job.start", pipeline="chain", command_id="c1")
    await two.jobs.report("local", reply["job"], ReportTaskEnded("first", 1, "succeeded", datetime.now(UTC)))

    assert await two.ask("job.start", pipeline="chain", command_id="c1") == reply
    await two.close()
    again = await opened(tmp_path / "two", one.store, one.blobs, lambda _: Play(hold=True))
    assert await again.ask("job.start", pipeline="chain", command_id="c1") == reply
    assert one.kinds().count("outcome") == 0
    await again.close()
    await one.close()


async def test_commands_at_one_engine_see_what_the_other_did(tmp_path: Path) -> None:
    """A job that another engine started can be cancelled, and a version that it made is the one that runs."""
    one, two = await _two(tmp_path)
    await two.must("pipeline.apply", yaml=CHAIN)
    await one.must("pipeline.apply", yaml=CHAIN.replace("echo two", "echo three"))

    started = await two.must("job.start", pipeline="chain")
    cancelled = await one.ask("job.cancel", job=started["job"])

    assert started["version"] == 2
    assert cancelled["status"] == "accepted"
    await one.close()
    await two.close()


async def test_what_another_engine_launched_is_handed_on_when_an_executor_comes_back(tmp_path: Path) -> None:
    """Whichever engine an executor attaches to hands on all that is outstanding, by the log and not by memory."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN)
    known = (await two.must("job.start", pipeline="chain"))["job"]
    unknown = (await one.must("job.start", pipeline="chain"))["job"]
    await one.jobs.report("local", known, ReportTaskEnded("first", 1, "succeeded", datetime.now(UTC)))

    await two.jobs.recover("local")

    async with asyncio.timeout(60):
        wanted = {f"tb-{known}-1-1", f"tb-{unknown}-0-1"}
        while not wanted <= {spec.session for spec in two.executor.launches}:  # noqa: ASYNC110 - as each turn may
            await asyncio.sleep(0)
    await one.close()
    await two.close()


def _note(seq: int) -> Note:
    return Note(Head("job", f"j{seq}", 1, seq, seq, digest(b"%d" % seq), True), [])


def test_the_checkpoint_never_passes_a_commit_that_was_not_noted(tmp_path: Path) -> None:
    """Commits are acknowledged out of order: one that is missing when the ledger is written is read later."""
    ledger = Ledger(tmp_path / "engine.db")
    for seq in (1, 2, 4, 5):
        ledger.note(_note(seq))
    ledger.flush()
    assert ledger.checkpoint() == (2, digest(b"2"))

    ledger.note(_note(3))
    ledger.flush()

    assert ledger.checkpoint() == (5, digest(b"5"))
    assert len(ledger.open_heads("job")) == 5
    ledger.close()


def test_what_is_noted_is_written_before_it_grows_long(tmp_path: Path) -> None:
    """A process that is killed has little to read again, and its witness lacks little."""
    ledger = Ledger(tmp_path / "engine.db")
    for seq in range(1, 1001):
        ledger.note(_note(seq))

    assert ledger.checkpoint()[0] > 700
    ledger.close()


@pytest.fixture
async def lagging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Office, Office]]:
    """Two engines and a pipeline `iris`; the first has a free `moon` in memory, and learns nothing of names."""
    one, two = await _two(tmp_path)
    await one.must("pipeline.apply", yaml=CHAIN.replace("chain", "moon"))
    await one.must("pipeline.delete", pipeline="moon")
    await one.must("pipeline.apply", yaml=CHAIN.replace("chain", "iris"))
    heads = {head.id: head for head in one.ledger.heads() if head.kind == "name"}
    head = one.ledger.head

    def known(kind: str, id: str) -> Head | None:  # noqa: A002
        return heads.get(id) if kind == "name" else head(kind, id)

    monkeypatch.setattr(one.ledger, "head", known)
    yield one, two
    await one.close()
    await two.close()


async def test_a_name_that_another_engine_gave_a_pipeline_goes_with_it(lagging: tuple[Office, Office]) -> None:
    """A name that seems to be free already is looked at again before its pipeline is deleted."""
    one, two = lagging
    await two.must("pipeline.rename", pipeline="iris", name="moon")
    (pipeline,) = [head.id for head in two.ledger.heads() if head.kind == "pipeline" and head.open]

    await one.must("pipeline.delete", pipeline=pipeline)

    assert (await two.must("pipeline.apply", yaml=CHAIN.replace("chain", "moon")))["version"] == 1


async def test_a_name_that_another_engine_set_free_is_not_refused(lagging: tuple[Office, Office]) -> None:
    """A name that seems to be taken is looked at again before a pipeline is refused for it."""
    one, two = lagging
    await two.must("pipeline.rename", pipeline="iris", name="sand")

    assert (await one.must("pipeline.apply", yaml=CHAIN.replace("chain", "iris")))["version"] == 1
