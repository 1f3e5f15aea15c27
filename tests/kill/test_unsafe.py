"""Each protection is needed: with it switched off, the independent checker finds what goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from checker.check import check

from kill import stream
from kill.conftest import UNCLOSED, Worlds
from kill.workload import Workload
from kill.world import World
from kill.zombie import overtaken

pytestmark = [pytest.mark.kill, *UNCLOSED]

TRIES = 8


async def until_found(world: World, expected: str, attempt: Callable[[], Awaitable[object]]) -> None:
    """Repeat an attempt, which may fail in any way, until the checker finds what is expected."""
    wrong: list[str] = []
    for _ in range(TRIES):
        try:
            await attempt()
        except AssertionError as problem:  # what a broken system does to its clients is not the question here
            print(f"noticed by the client: {problem}")
        wrong = check(await stream.dump(world.data), world.ledger.read_text().splitlines(), running=True)
        if any(expected in each for each in wrong):
            return
    raise AssertionError(f"nobody noticed in {TRIES} tries ({world}): {wrong}")


async def test_without_the_sequence_check_histories_fork(seed: int, worlds: Worlds) -> None:
    """Without the fence a writer that was overtaken commits a version that is there already."""
    async with worlds("four", seed, unsafe="no-fence") as world:
        workload = Workload(world)
        try:
            await workload.start()
            await until_found(world, " has version ", lambda: overtaken(world, workload))
        finally:
            await workload.abandon()
            await world.abandon()


async def test_without_remembering_outcomes_a_command_has_two(seed: int, worlds: Worlds) -> None:
    """Without the index of outcomes a command that is sent again, to a restarted engine, is decided again."""
    async with worlds("one", seed, unsafe="no-dedup") as world:
        workload = Workload(world)

        async def sent_again() -> None:
            await workload.run_one("plain")
            await world.engine.again({})
            for command in tuple(world.client.commands):
                await world.client.again(command)

        try:
            await until_found(world, "had its outcome at", sent_again)
        finally:
            await workload.abandon()
            await world.abandon()


async def test_without_the_claim_a_command_runs_twice(seed: int, worlds: Worlds) -> None:
    """Without the claim a session that is launched again after a kill runs its command again."""
    async with worlds("one", seed, unsafe="no-claim") as world:
        workload = Workload(world)

        async def killed() -> None:
            workload.check()
            await workload.progress()
            await world.engine.again({})
            await workload.progress()

        try:
            await workload.start()
            await until_found(world, "the command ran 2 times", killed)
        finally:
            await workload.abandon()
            await world.abandon()
