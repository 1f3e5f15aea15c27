"""The kinds of aggregates: for each its decider, and how its commits are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Struct

from trackbook.engine import job, log, name, outcome, pipeline
from trackbook.engine.decider import Decider, fold
from trackbook.engine.job_state import JobState, evolve
from trackbook.events import job as job_facts
from trackbook.events import log as log_facts
from trackbook.events import pipeline as pipeline_facts
from trackbook.events.commit import Body, Commit
from trackbook.events.outcome import CommandAnswered

Companion = tuple[str, str, Any]
"""A command to another aggregate, of this kind and id, that is decided in the same batch or not at all."""


class Kind(Struct, frozen=True):
    """One kind of aggregate.

    `event` is the type of its events. `commits` and `bodies` read them with their commands; `facts` and
    `fact_bodies` leave the commands as they are, for those who only want what happened. `ended` tells from a
    state, `terminal` from an event, that nothing follows; `mark` tells a state after a commit which version that
    was.

    `versioned` says that each commit answers one input, and that a decision may take long. A decision spans other
    aggregates where `companions` returns commands to them, given what `claims` made of the state before it, and
    the state after it; their kinds have none themselves. `kept` idle aggregates may stay in memory.
    """

    decider: Decider[Any, Any, Any]
    event: Any
    commits: msgspec.json.Decoder[Any]
    bodies: msgspec.json.Decoder[Any]
    facts: msgspec.json.Decoder[Any]
    fact_bodies: msgspec.json.Decoder[Any]
    terminal: tuple[type, ...]
    ended: Callable[[Any], bool]
    mark: Callable[[Any, int], None]
    claims: Callable[[Any], Any]
    companions: Callable[[Any, Any], list[Companion]]
    versioned: bool
    kept: int

    def take(self, state: Any, commit: Commit[Any, Any]) -> Any:
        """Return the state after a whole commit."""
        state = fold(self.decider, state, commit.events)
        self.mark(state, commit.version)
        return state

    def ends(self, events: Sequence[Any]) -> bool:
        """Whether one of the events is the aggregate's last."""
        return any(isinstance(event, self.terminal) for event in events)


def _kind(
    decider: Decider[Any, Any, Any],
    command: Any,
    event: Any,
    terminal: tuple[type, ...] = (),
    ended: Callable[[Any], bool] = lambda state: False,  # noqa: ARG005
    mark: Callable[[Any, int], None] = lambda state, version: None,  # noqa: ARG005
    claims: Callable[[Any], Any] = lambda state: None,  # noqa: ARG005
    companions: Callable[[Any, Any], list[Companion]] = lambda before, state: [],  # noqa: ARG005
    *,
    versioned: bool = False,
    kept: int = 256,
) -> Kind:
    return Kind(
        decider,
        event,
        msgspec.json.Decoder(Commit[command, event]),
        msgspec.json.Decoder(Body[command, event]),
        msgspec.json.Decoder(Commit[msgspec.Raw, event]),
        msgspec.json.Decoder(Body[msgspec.Raw, event]),
        terminal,
        ended,
        mark,
        claims,
        companions,
        versioned,
        kept,
    )


KINDS: dict[str, Kind] = {
    "job": _kind(
        Decider(JobState, job.decide, evolve, job.react, job.due),
        job.AnyJobCommand | None,
        job_facts.AnyJobEvent,
        (job_facts.JobSucceeded, job_facts.JobFailed, job_facts.JobCancelled),
        lambda state: state.ended,
        kept=4096,
    ),
    "pipeline": _kind(
        pipeline.PIPELINE,
        pipeline.AnyPipelineCommand,
        pipeline_facts.AnyPipelineEvent,
        (pipeline_facts.PipelineDeleted,),
        lambda state: state.deleted,
        pipeline.mark,
        pipeline.claims,
        pipeline.companions,
        versioned=True,
    ),
    "name": _kind(name.NAME, name.AnyNameCommand, pipeline_facts.AnyNameEvent),
    "outcome": _kind(
        Decider(lambda id: None, outcome.decide, outcome.evolve),  # noqa: A006, ARG005
        outcome.AnswerCommand,
        CommandAnswered,
        (CommandAnswered,),
        lambda state: True,  # noqa: ARG005
    ),
    "log": _kind(log.LOG_DECIDER, log.AnyLogCommand, log_facts.AnyLogEvent),
}

EVENT_TYPES: dict[str, tuple[str, ...]] = {
    name: tuple(event.__name__ for event in get_args(kind.event) or (kind.event,)) for name, kind in KINDS.items()
}
"""The types of events of each kind of aggregate, as they are stored."""
