"""The log's own aggregate: which losses an operator accepted, and which commits are left out."""

from __future__ import annotations

from msgspec import Struct, field

from trackbook.engine.decider import Decider
from trackbook.events.log import AnyLogEvent, CommitsDismissed, Dismissed, Evidence, LossAccepted

LOG = ("log", "log")
"""Kind and id of the one aggregate."""


class LogCommand(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what an operator decides about the log."""


class AcceptLoss(LogCommand, frozen=True):
    """Continue without what this evidence says is lost."""

    evidence: list[Evidence]


class DismissCommits(LogCommand, frozen=True):
    """Leave these commits of an aggregate out of its history."""

    kind: str
    id: str
    commits: list[Dismissed]
    reason: str = ""


AnyLogCommand = AcceptLoss | DismissCommits


class LogState(Struct):
    """Accepted evidence by its id, and the SHA-256 of each dismissed commit by its sequence."""

    id: str
    accepted: dict[str, Evidence] = field(default_factory=dict)
    dismissed: dict[int, str] = field(default_factory=dict)


def evolve(state: LogState, event: AnyLogEvent) -> LogState:
    """Remember the event; changes and returns `state`, which the caller owns alone."""
    if isinstance(event, LossAccepted):
        state.accepted |= {each.id: each for each in event.evidence}
    else:
        state.dismissed |= {each.seq: each.sha256 for each in event.commits}
    return state


def decide(state: LogState, command: AnyLogCommand) -> list[AnyLogEvent]:
    """Return what happens, in facts; none where the command changes nothing."""
    if isinstance(command, AcceptLoss):
        new = [each for each in command.evidence if each.id not in state.accepted]
        return [LossAccepted(new)] if new else []
    left = [each for each in command.commits if state.dismissed.get(each.seq) != each.sha256]
    return [CommitsDismissed(command.kind, command.id, left, command.reason)] if left else []


LOG_DECIDER: Decider[LogState, AnyLogCommand, AnyLogEvent] = Decider(LogState, decide, evolve)
