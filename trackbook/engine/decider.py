"""How a command becomes events: decide, then react to a fixed point, evolving as facts arise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


class Decider(Struct, Generic[S, C, E], frozen=True):
    """An aggregate: its empty state for an id, and the pure functions over it.

    `react` receives how many events the commit has already.
    """

    initial: Callable[[str], S]
    decide: Callable[[S, C], list[E]]
    evolve: Callable[[S, E], S]
    react: Callable[[S, E, int], list[E]] = lambda state, event, standing: []  # noqa: ARG005


def step(
    decider: Decider[S, C, E], state: S, command: C, cause: int = 0, offset: int = 0
) -> tuple[S, list[E], list[int]]:
    """Return the state after the command, the events, and the cause of each.

    `cause` marks events that answer the command itself; a reaction to the event that stands at k in its commit
    is marked -(k + 1), `offset` events standing before these.
    """
    events = decider.decide(state, command)
    causes = [cause] * len(events)
    for event in events:
        state = decider.evolve(state, event)
    at = 0
    while at < len(events):
        for reaction in decider.react(state, events[at], offset + len(events)):
            state = decider.evolve(state, reaction)
            events.append(reaction)
            causes.append(-(offset + at + 1))
        at += 1
    return state, events, causes


def fold(decider: Decider[S, C, E], state: S, events: Sequence[E]) -> S:
    """Return the state after the events; nothing reacts."""
    for event in events:
        state = decider.evolve(state, event)
    return state
