"""The name of a pipeline: at most one pipeline bears it. Commands, state, fold and decisions, in that order."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from trackbook.engine.decider import Decider
from trackbook.engine.errors import Refused
from trackbook.events.pipeline import AnyNameEvent, PipelineNameReleased, PipelineNameTaken


def name_id(name: str) -> str:
    """Return the id of a name's aggregate: a name may hold what a subject can't."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


class NameCommand(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what a name is asked."""


class TakeName(NameCommand, frozen=True):
    """Let the pipeline (its id) bear the name."""

    name: str
    pipeline: str


class ReleaseName(NameCommand, frozen=True):
    """Let the pipeline no longer bear the name."""

    name: str
    pipeline: str


AnyNameCommand = TakeName | ReleaseName


class NameState(Struct):
    """A name as its events left it; `pipeline` is the id of its bearer, if it has one."""

    id: str
    pipeline: str | None = None


def evolve(state: NameState, event: AnyNameEvent) -> NameState:
    """Remember the event; changes and returns `state`, which the caller owns alone."""
    state.pipeline = event.pipeline if isinstance(event, PipelineNameTaken) else None
    return state


def decide(state: NameState, command: AnyNameCommand) -> list[AnyNameEvent]:
    """Return what happens, in facts; none where the command changes nothing. Raises Refused."""
    bears = state.pipeline == command.pipeline
    if isinstance(command, ReleaseName):
        return [PipelineNameReleased(command.name, command.pipeline)] if bears else []
    if state.pipeline is not None and not bears:
        message = f"the name {command.name!r} belongs to the pipeline {state.pipeline}"
        raise Refused("name_taken", message, "name", hint="Choose another name, or rename that pipeline first.")
    return [] if bears else [PipelineNameTaken(command.name, command.pipeline)]


NAME: Decider[NameState, AnyNameCommand, AnyNameEvent] = Decider(NameState, decide, evolve)
