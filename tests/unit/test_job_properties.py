"""What holds for every job, whatever its graph and whatever is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from growth import growth
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.core import REAL
from simulation.story import JOB, at

from trackbook.engine.decider import Decider, Decision, answer, fold, next_due, take_due
from trackbook.engine.job import (
    AnyJobCommand,
    CancelJob,
    Report,
    ReportTaskEnded,
    ReportTaskStarted,
    ReportTaskStatus,
    StartJob,
)
from trackbook.engine.job_state import JobState, evolve, touched
from trackbook.events.job import AnyJobEvent, JobCreated, TaskLaunchRequested, TaskShape

patient = settings(deadline=None, max_examples=150)
"""A slow machine is no defect of the core."""
DECIDER = REAL.decider
NAMES = "abcdef"
OUTCOMES = ("succeeded", "failed", "cancelled", "lost")
times = st.integers(0, 9).map(at)
tasks = st.sampled_from(NAMES)
attempts = st.sampled_from((0, 1, 1, 1, 2))
reports: st.SearchStrategy[Report] = st.one_of(
    st.builds(ReportTaskStarted, tasks, attempts, times),
    st.builds(ReportTaskStatus, tasks, attempts, st.sampled_from(("PULLING", "RUNNING"))),
    st.builds(ReportTaskEnded, tasks, attempts, st.sampled_from(OUTCOMES), times, st.none() | times),
)
Instructions = AnyJobCommand | None
"""None where nobody says anything, and the owner takes what is due."""
commands: st.SearchStrategy[Instructions] = reports | st.none() | st.builds(CancelJob)
rooms = st.integers(1, 4)


@st.composite
def starts(draw: st.DrawFn) -> StartJob:
    """Draw the start of a job of up to six tasks, each depending on some before it."""
    names = NAMES[: draw(st.integers(0, len(NAMES)))]
    shapes = [
        TaskShape(name, draw(st.lists(st.sampled_from(names[:n]), max_size=3)) if n else [], draw(st.booleans()))
        for n, name in enumerate(names)
    ]
    return StartJob("p", "training", 1, "f00d", shapes)


def step(
    state: JobState, command: Instructions, room: int = 256, decider: Decider[Any, Any, Any] = DECIDER
) -> tuple[JobState, list[AnyJobEvent]]:
    """Return the state after a commit that answers the command and takes what is due, and its events."""
    decision = Decision[JobState, AnyJobEvent](state)
    if command is not None:
        answer(decider, decision, command, 0)
    take_due(decider, decision, 1, room)
    return decision.state, decision.events


def tell(*reported: Instructions, room: int = 256) -> tuple[JobState, list[AnyJobEvent]]:
    """Return the state and the events of a job that received all this; what is refused changes nothing."""
    state, events = JobState(JOB), list[AnyJobEvent]()
    for command in reported:
        if isinstance(command, CancelJob) and state.ended:
            continue
        state, new = step(state, command, room)
        events += new
    return state, events


@patient
@given(starts(), st.lists(commands, max_size=30), st.lists(reports, max_size=10))
def test_a_terminal_state_absorbs_everything(start: StartJob, reported: list[Any], late: list[Report]) -> None:
    """Whatever is reported after a job's end, nothing happens and nothing changes."""
    state, _ = tell(start, *reported, CancelJob())
    ends = [ReportTaskEnded(task.shape.name, task.attempt, "lost", at(9)) for task in state.live()]
    state, events = tell(start, *reported, CancelJob(), *ends)
    assert state.ended
    assert tell(start, *reported, CancelJob(), *ends, *late, None) == (state, events)


@patient
@given(starts(), st.lists(commands, max_size=40), rooms)
def test_the_fold_is_what_the_steps_led_to(start: StartJob, reported: list[Any], room: int) -> None:
    """Folding the stored events, from their bytes and from any middle on, leads to the state that decided."""
    state, events = tell(start, *reported, room=room)
    stored = msgspec.json.decode(msgspec.json.encode(events), type=list[AnyJobEvent])
    half = fold(DECIDER, JobState(JOB), stored[: len(stored) // 2])
    assert fold(DECIDER, JobState(JOB), stored) == state
    assert fold(DECIDER, half, stored[len(stored) // 2 :]) == state


@patient
@given(starts(), st.lists(commands, max_size=40))
def test_an_event_changes_the_tasks_that_it_touches(start: StartJob, reported: list[Any]) -> None:
    """Before an event is folded it is known which tasks it can change: no other one is changed by it."""
    _, events = tell(start, *reported)
    state = JobState(JOB)
    for event in events:
        before = {name: msgspec.json.encode(task) for name, task in state.tasks.items()}
        names = touched(state, event)
        state = evolve(state, event)
        changed = {name for name, task in state.tasks.items() if before.get(name) != msgspec.json.encode(task)}
        assert changed <= set(names) <= state.tasks.keys()
        assert len(names) == len(set(names))


@patient
@given(starts(), st.lists(commands, max_size=40))
def test_every_prefix_of_a_history_folds(start: StartJob, reported: list[Any]) -> None:
    """Folding is total: a history may stop after any event, and never raises."""
    _, events = tell(start, *reported)
    for length in range(len(events) + 1):
        state = fold(DECIDER, JobState(JOB), events[:length])
        assert state.undone == sum(
            task.status in ("pending", "ready", "launching", "running") for task in state.tasks.values()
        )


@patient
@given(st.data(), st.sampled_from(OUTCOMES), st.booleans())
def test_the_order_of_an_attempts_reports_does_not_matter(data: st.DataObject, outcome: Any, asked: bool) -> None:
    """However often and in whatever order an attempt's reports come, it and its job end the same way."""
    sent: list[AnyJobCommand] = [
        ReportTaskStarted("a", 1, at(1)),
        ReportTaskStatus("a", 1, "RUNNING"),
        ReportTaskEnded("a", 1, outcome, at(5), at(1), message="so it was"),
    ]
    start = StartJob("p", "training", 1, "f00d", [TaskShape("a"), TaskShape("b", ["a"])])
    before: list[AnyJobCommand] = [start, CancelJob()] if asked else [start]
    shuffled = data.draw(st.permutations(sent * 2))
    first, _ = tell(*before, *sent)
    second, _ = tell(*before, *shuffled)
    for state in (first, second):
        state.tasks["a"].executor_status = ""
    assert second == first


@patient
@given(starts(), st.randoms(use_true_random=False))
def test_without_faults_every_order_succeeds(start: StartJob, random: Any) -> None:
    """Whichever live task ends first, every task runs once and the job succeeds."""
    state, events = tell(start)
    while live := [task.shape.name for task in state.live()]:
        state, new = step(state, ReportTaskEnded(random.choice(live), 1, "succeeded", at(2), at(1)))
        events += new
    launched = [event.task for event in events if isinstance(event, TaskLaunchRequested)]
    assert state.status == "succeeded"
    assert sorted(launched) == sorted(shape.name for shape in start.tasks if not shape.skip)


# Costs, counted rather than timed ----------------------------------------------------------------------------


class Watched(dict[str, None]):
    """What is ready, counting how much of it is looked at."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.looked += 1
            yield name


def _fan(width: int) -> StartJob:
    middle = [TaskShape(f"m{n}", ["first"]) for n in range(width)]
    last = TaskShape("last", [shape.name for shape in middle])
    return StartJob("p", "training", 1, "f00d", [TaskShape("first"), *middle, last])


def _events_and_calls(start: StartJob) -> tuple[int, int, int]:
    """Run a job to its end, and return its events and how often the core evolved, reacted and was asked."""
    calls = {"evolve": 0, "react": 0}

    def evolve(state: JobState, event: AnyJobEvent) -> JobState:
        calls["evolve"] += 1
        return REAL.names["evolve"](state, event)  # type: ignore[no-any-return]

    def react(state: JobState, event: AnyJobEvent) -> list[AnyJobEvent]:
        calls["react"] += 1
        return REAL.names["react"](state, event)  # type: ignore[no-any-return]

    counting = msgspec.structs.replace(DECIDER, evolve=evolve, react=react)
    state, events = step(JobState(JOB), start, decider=counting)
    total = len(events)
    for command in _running(state):
        state, events = step(state, command, decider=counting)
        total += len(events)
    assert state.status == "succeeded"
    return total, calls["evolve"], calls["react"]


def _running(state: JobState) -> Iterator[Instructions]:
    while not state.ended:
        if state.ready:
            yield None
        for task in list(state.live()):
            yield ReportTaskEnded(task.shape.name, 1, "succeeded", at(2), at(1))


def test_each_event_is_evolved_and_reacted_to_once() -> None:
    """A job of a thousand tasks costs one call of the fold and one of the saga for each of its events."""
    events, evolved, reacted = _events_and_calls(_fan(1000))
    assert events == evolved == reacted == 4 * 1002 + 3


def test_the_end_of_a_task_costs_its_out_degree() -> None:
    """A task's end looks at its successors alone, and what is due at the first of what is ready."""
    state, _ = step(JobState(JOB), _fan(1000))
    state, _ = step(state, ReportTaskEnded("first", 1, "succeeded", at(2), at(1)))
    ready = state.ready = Watched(state.ready)
    live = [task.shape.name for task in state.live()]
    for name in live[:100]:
        state, events = step(state, ReportTaskEnded(name, 1, "succeeded", at(2), at(1)), room=2)
        assert len(events) == 3 + 2
    assert ready.looked == 200


def test_the_first_that_is_ready_is_found_at_once() -> None:
    """However many were launched before it: taking from the front of a plain dict costs what was taken before."""

    def prepare(size: int) -> Callable[[], Any]:
        state = evolve(JobState(JOB), JobCreated("p", "p", 1, "f00d", [TaskShape(f"t{n}") for n in range(size)]))

        def launch_all() -> None:
            while (event := next_due(DECIDER, state)) is not None:
                evolve(state, event)

        return launch_all

    assert growth(prepare, 64_000) < 1.4
