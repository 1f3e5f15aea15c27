"""What is to be done outside follows from each event, and again from the state that the events led to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulation.story import JOB
from test_job_properties import commands, patient, rooms, starts, tell

from trackbook.engine import intents
from trackbook.engine.intents import Intent, Launch, Stop
from trackbook.engine.job import StartJob
from trackbook.engine.job_state import JobState, evolve
from trackbook.events import job as facts


@patient
@given(starts(), st.lists(commands, max_size=40), rooms)
def test_what_the_events_asked_for_is_outstanding_until_it_ends(
    start: StartJob, reported: list[Any], room: int
) -> None:
    """After every event the state asks for what the events asked for, less the attempts that have ended."""
    _, events = tell(start, *reported, room=room)
    state, asked = JobState(JOB), list[Intent]()
    for event in events:
        state = evolve(state, event)
        asked += intents.of(event)
        if isinstance(event, facts.AttemptSucceeded | facts.AttemptFailed | facts.AttemptCancelled):
            asked = [intent for intent in asked if (intent.task, intent.attempt) != (event.task, event.attempt)]
        wanted = list(intents.outstanding(state))
        assert set(wanted) == set(asked)
        assert len(wanted) == len(asked)


@patient
@given(starts(), st.lists(commands, max_size=40), rooms)
def test_a_launch_comes_before_its_stop(start: StartJob, reported: list[Any], room: int) -> None:
    """A session that is to end was asked for before: by the events, and by the state."""
    state, events = tell(start, *reported, room=room)
    for wanted in ([intent for event in events for intent in intents.of(event)], [*intents.outstanding(state)]):
        for index, intent in enumerate(wanted):
            if isinstance(intent, Stop):
                assert Launch(intent.task, intent.attempt) in wanted[:index]
