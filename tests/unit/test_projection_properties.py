"""What must hold of the read model for any history: the rows are a function of the log and of nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from random import Random
from unittest.mock import patch

import msgspec
from histories.made import JOB, History, world
from histories.served import projected, written
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from trackbook.engine.job_state import LIVE, JobState
from trackbook.events.commit import Commit
from trackbook.events.job import AnyJobEvent
from trackbook.projections.views import JobMoment
from trackbook.projections.write import job_model

Commits = msgspec.json.Decoder(Commit[msgspec.Raw, AnyJobEvent])
SEEDS = st.integers(0, 10_000)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A seed can't be shrunk: any other makes another history."""


@given(SEEDS, st.lists(st.integers(1, 120), max_size=12))
@settings(max_examples=12, deadline=None, phases=PHASES)
def test_rows_do_not_depend_on_batches_restarts_or_room(seed: int, cuts: list[int]) -> None:
    """Any split into batches leads to the rows of the whole at once, with restarts and little memory as well."""

    async def check() -> None:
        history = await world(seed)
        end = len(history.store.commits)
        inside = [cut for cut in cuts if cut < end]
        with tempfile.TemporaryDirectory() as folder:
            whole = await written(history, Path(folder) / "whole.db")
            split = await written(history, Path(folder) / "split.db", inside)
            single = await written(history, Path(folder) / "single.db", range(end))
            restarted = await written(history, Path(folder) / "restarted.db", range(end), restarts=True)
            with patch.object(job_model, "_HELD", 5):  # of four jobs of six tasks, most are evicted
                crowded = await written(history, Path(folder) / "crowded.db", range(end))
        assert split == whole
        assert single == whole
        assert restarted == whole
        assert crowded == whole
        assert whole["commits"][-1][0] == end
        assert not whole["quarantine"]

    asyncio.run(check())


@given(SEEDS, st.lists(st.integers(1, 120), max_size=12))
@settings(max_examples=8, deadline=None, phases=PHASES)
def test_damaged_histories_lead_to_the_same_rows_too(seed: int, cuts: list[int]) -> None:
    """A history with commits that can't be read or can't follow has one set of rows, however it is cut."""

    async def check() -> None:
        history = await world(seed)
        await spoil(history, Random(seed))
        end = len(history.store.commits)
        with tempfile.TemporaryDirectory() as folder:
            whole = await written(history, Path(folder) / "whole.db")
            split = await written(history, Path(folder) / "split.db", [cut for cut in cuts if cut < end])
            single = await written(history, Path(folder) / "single.db", range(end))
            restarted = await written(history, Path(folder) / "restarted.db", range(end), restarts=True)
        assert split == whole
        assert single == whole
        assert restarted == whole
        assert whole["quarantine"]

    asyncio.run(check())


async def spoil(history: History, random: Random) -> None:
    """Change the bytes of some commits in ways that a fault or a newer program may."""
    commits = history.store.commits
    for index in random.sample(range(len(commits)), 3):
        old = commits[index]
        wrong = random.choice(
            (
                old.data[:-9],
                old.data.replace(b'"schema":1', b'"schema":9'),
                old.data.replace(b'"type":"Task', b'"type":"New'),
                old.data.replace(b'"task":"t', b'"task":"u'),
                old.data.replace(b'"version":', b'"version":1'),
                b"\xff\xfe",
            )
        )
        commits[index] = msgspec.structs.replace(old, data=wrong)
    commits.append(msgspec.structs.replace(commits[0], seq=len(commits) + 1, kind="fork", id="f"))


@given(SEEDS)
@settings(max_examples=8, deadline=None, phases=PHASES)
def test_a_job_at_any_event_equals_an_independent_fold(seed: int) -> None:
    """The job as shown at each event is what the engine's own fold says of the events up to there."""

    async def check() -> None:
        history = await world(seed, jobs=1, size=8)
        with tempfile.TemporaryDirectory() as folder:
            async with projected(history, Path(folder) / "r.db") as read:
                await read.settled(await history.store.head())
                state = JobState("job00")
                async for stored in history.store.read("job", "job00"):
                    commit = Commits.decode(stored.data)
                    for index, event in enumerate(commit.events):
                        state = JOB.evolve(state, event)
                        same(state, await read.job_at("job00", commit.version, index))
                    assert await read.job_at("job00", commit.version) == await read.job_at(
                        "job00", commit.version, len(commit.events) - 1
                    )
                moment = await read.job_at("job00", commit.version)
                assert moment.job == await read.job("job00")
                assert moment.tasks == (await read.tasks("job00", 100)).items

    asyncio.run(check())


@given(SEEDS)
@settings(max_examples=8, deadline=None, phases=PHASES)
def test_events_tell_the_states_that_they_lead_to(seed: int) -> None:
    """Each event of a job has the states after it: who takes them over has what the engine's own fold has."""

    async def check() -> None:
        history = await world(seed, jobs=1, size=8)
        with tempfile.TemporaryDirectory() as folder:
            async with projected(history, Path(folder) / "r.db") as read:
                await read.settled(await history.store.head())
                events = (await read.events.of("job", "job00", 1000, newest_first=False)).items
        state, shown = JobState("job00"), dict[str, str]()
        commits = [Commits.decode(stored.data) async for stored in history.store.read("job", "job00")]
        stored_events = [event for commit in commits for event in commit.events]
        for event, view in zip(stored_events, events, strict=True):
            state = JOB.evolve(state, event)
            assert view.states is not None
            shown |= view.states.tasks
            assert view.states.job == state.status
            assert {name: shown.get(name, "pending") for name in state.tasks} == {
                name: task.status for name, task in state.tasks.items()
            }

    asyncio.run(check())


def same(state: JobState, shown: JobMoment) -> None:
    """Compare the engine's state with what is shown."""
    assert shown.job.state == state.status
    assert [(task.name, task.state, task.attempt, task.session or "") for task in shown.tasks] == [
        (name, task.status, task.attempt, task.session) for name, task in state.tasks.items()
    ]
    assert [(task.executor_status or "", task.executor_message or "") for task in shown.tasks] == [
        (task.executor_status, task.executor_message) for task in state.tasks.values()
    ]
    counts = shown.job.tasks
    states = [task.status for task in state.tasks.values()]
    assert counts.running == sum(each in LIVE for each in states)
    assert counts.done == sum(each in ("succeeded", "skipped") for each in states)
    assert counts.waiting == sum(each in ("pending", "ready") for each in states)
    assert (counts.failed, counts.cancelled) == (states.count("failed"), states.count("cancelled"))
