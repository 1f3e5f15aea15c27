"""The independent checker and the simulation agree: what a hostile world leads to is sound by either."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from checker.check import Message, check

from simulation.coverage import Reached
from simulation.world import World
from trackbook.events.commit import SCHEMA, Commit, Input, digest
from trackbook.events.job import AnyJobEvent

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9


def stream(world: World) -> list[Message]:
    """Return the world's commits as they would be stored, each after what commands had done by then."""
    messages: list[Message] = []
    heads: dict[str, str] = {}
    for desk, index, done in world.stream:
        inputs, causes = desk.answered[index]
        events = msgspec.json.decode(desk.log[index], type=list[AnyJobEvent])
        at = NOON + timedelta(seconds=2 * done + 1)
        given = [Input("simulated", command) for command in inputs]
        commit = Commit[Any, Any](
            SCHEMA, "job", desk.id, index + 1, at, heads.get(desk.id, ""), given, events, causes
        )
        data = msgspec.json.encode(commit)
        heads[desk.id] = digest(data)
        messages.append((len(messages) + 1, f"trackbook.evt.job.{desk.id}", data))
    return messages


def ledger(world: World) -> list[str]:
    """Return what the commands of the world would have written."""
    return [
        f"{session.job} {session.task} {session.attempt} {what} {NOON_NS + 2 * place * 10**9}"
        for place, (session, what) in enumerate(world.cluster.ledger, 1)
    ]


def test_the_checker_finds_nothing_in_simulated_runs() -> None:
    """Streams and ledgers of worlds full of crashes show the checker no violation."""
    commands = 0
    for seed in range(60):
        world = World(seed, Reached())
        world.run()
        assert check(stream(world), ledger(world)) == [], f"seed {seed}"
        commands += len(world.cluster.ledger)
    assert commands > 1000


def test_the_checker_misses_nothing_that_is_left_out() -> None:
    """Without any one of its commits, or any one line of its ledger that matters, a run is not sound."""
    world = World(3, Reached(), most_tasks=8)
    world.run()
    messages, lines = stream(world), ledger(world)
    for index in range(len(messages)):
        assert check([*messages[:index], *messages[index + 1 :]], lines), index
    succeeded = {session for session, _ in world.cluster.ledger if session.outcome == "succeeded"}
    assert succeeded
    for index, (session, _) in enumerate(world.cluster.ledger):
        if session in succeeded:
            assert check(messages, [*lines[:index], *lines[index + 1 :]]), lines[index]
