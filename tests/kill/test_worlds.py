"""What a crash test leaves behind, so that the next one is not disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kill.conftest import UNCLOSED, Worlds

pytestmark = [pytest.mark.kill, *UNCLOSED]


def alive(process: Path) -> bool:
    """Whether it is a process still, and not one that has only to be reaped."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_an_abandoned_world_leaves_no_command_behind(seed: int, worlds: Worlds) -> None:
    """A task's command that runs when its world is given up is gone before the folder is removed."""
    async with worlds("one", seed) as world:
        command = 'echo $$ >> "$LEDGER"; exec sleep 600'
        task = {"name": "long", "command": command, "environment": {"envs": {"LEDGER": str(world.ledger)}}}
        await world.client.give("pipeline", "apply", definition={"name": "p", "tasks": [task]})
        await world.client.give("job", "start", pipeline="p")

        async def runs() -> bool:
            return world.ledger.read_text().endswith("\n")

        await world.until(runs, "the command did not start")
        process = Path("/proc") / world.ledger.read_text().strip()
        assert "sleep" in (process / "comm").read_text()
        await world.abandon()
        assert not alive(process)
