"""How a command becomes events: decide, then react to a fixed point; and what is due is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct, field

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


class Decider(Struct, Generic[S, C, E], frozen=True):
    """An aggregate: its empty state for an id, and the pure functions over it.

    `react` returns what follows at once from a new event; `due` yields lazily what the owner may add whenever it
    has room for it.
    """

    initial: Callable[[str], S]
    decide: Callable[[S, C], list[E]]
    evolve: Callable[[S, E], S]
    react: Callable[[S, E], list[E]] = lambda state, event: []  # noqa: ARG005
    due: Callable[[S], Iterable[E]] = lambda state: ()  # noqa: ARG005


class Decision(Struct, Generic[S, E]):
    """The events of a commit as they arise, the cause of each (see `Body`), and the state that they lead to."""

    state: S
    events: list[E] = field(default_factory=list)
    causes: list[int] = field(default_factory=list)


def answer(decider: Decider[S, C, E], decision: Decision[S, E], command: C, given: int) -> bool:
    """Add the events that the command leads to; returns whether there are any.

    `given` is the command's index among the inputs of the commit. Raises Refused; nothing is added then.
    """
    events = decider.decide(decision.state, command)
    _add(decider, decision, events, given)
    return bool(events)


def take_due(decider: Decider[S, C, E], decision: Decision[S, E], given: int, most: int) -> bool:
    """Add what is due, until there are `most` events more or nothing is due; returns whether there was any.

    `given` is the index of the input that says so.
    """
    before = len(decision.events)
    while len(decision.events) < before + most and (event := next_due(decider, decision.state)) is not None:
        _add(decider, decision, [event], given)
    return len(decision.events) > before


def next_due(decider: Decider[S, C, E], state: S) -> E | None:
    """Return the first event that is due, None if nothing is."""
    return next(iter(decider.due(state)), None)


def _add(decider: Decider[S, C, E], decision: Decision[S, E], events: list[E], given: int) -> None:
    at = len(decision.events)
    for event in events:
        _append(decider, decision, event, given)
    while at < len(decision.events):
        for reaction in decider.react(decision.state, decision.events[at]):
            _append(decider, decision, reaction, -(at + 1))
        at += 1


def _append(decider: Decider[S, C, E], decision: Decision[S, E], event: E, cause: int) -> None:
    decision.state = decider.evolve(decision.state, event)
    decision.events.append(event)
    decision.causes.append(cause)


def step(decider: Decider[S, C, E], state: S, command: C) -> tuple[S, list[E], list[int]]:
    """Return the state after a commit that answers one command, its events, and the cause of each."""
    decision = Decision[S, E](state)
    answer(decider, decision, command, 0)
    return decision.state, decision.events, decision.causes


def fold(decider: Decider[S, C, E], state: S, events: Sequence[E]) -> S:
    """Return the state after the events; nothing reacts."""
    for event in events:
        state = decider.evolve(state, event)
    return state
