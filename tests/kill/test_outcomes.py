"""Every command has one outcome for ever, whatever was killed since and whatever was thrown away."""

from __future__ import annotations

from collections import Counter

import pytest

from kill.client import Client
from kill.conftest import UNCLOSED, Worlds
from kill.examine import all_is_well, nothing_is_left, outcomes_agree
from kill.killer import kill_at_random
from kill.workload import Workload
from kill.world import TOPOLOGIES, Topology

pytestmark = [pytest.mark.kill, *UNCLOSED]

KILLS = 8
DISPOSABLE = ("readmodel.db*", "engine.db*")


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_an_outcome_outlives_kills_a_restart_and_the_loss_of_all_that_is_disposable(
    topology: Topology, seed: int, worlds: Worlds, checks: Counter[str]
) -> None:
    """Sent again over HTTP and NATS when both databases are gone, each command has the outcome that it had."""
    async with worlds(topology, seed) as world:
        workload = Workload(world)
        try:
            await workload.start()
            await kill_at_random(world, workload, KILLS)
            await workload.finish()
        finally:
            await workload.abandon()
        await world.halt()
        gone = [path for pattern in DISPOSABLE for path in world.data.glob(pattern)]
        for path in gone:
            path.unlink()
        assert {path.name for path in gone} >= {"readmodel.db", "engine.db"}
        await world.start()
        for command in tuple(world.client.commands):
            for _ in range(2):
                await world.client.again(command)
        outcomes_agree(world)
        await _another_payload_is_refused(world.client)
        checks.update(await all_is_well(world, workload.jobs))
        await world.stop()
        await nothing_is_left(world)


async def _another_payload_is_refused(client: Client) -> None:
    """An id that was used stands for what it was used for."""
    for command, (_, verb, _fields) in tuple(client.commands.items()):
        if verb == "start":
            reply = await client.again(command, parameters={"OTHER": "1"})
            assert reply["error"]["code"] == "command_id_reused"
