"""How a session in a container ends: one SIGTERM to all that runs in it then, SIGKILL after the grace."""

from __future__ import annotations

from pathlib import Path

from trainings import COUNT, DIES, WAITS

from container.engine import BASH_IMAGE, SH_IMAGE, ContainerEngine
from container.world import opened, spec
from trackbook.adapters.execution import folders


async def test_what_a_handler_starts_is_left_alone(container_engine: ContainerEngine, tmp_path: Path) -> None:
    """The trainings of a session get SIGTERM though the engine sends it to the first process, and can save."""
    sessions = [spec("a", WAITS, image=SH_IMAGE), spec("b", DIES, image=BASH_IMAGE, index=1)]
    async with opened(tmp_path, container_engine, grace=120.0) as world:
        executor = await world.open(limit=len(sessions))
        for session in sessions:
            await executor.launch(session)
        for session in sessions:
            await world.said(session, "ready", COUNT)
            await executor.stop(session)
            await world.said(session, "saving", COUNT)
        (world.vfroot / "save").touch()
        for session in sessions:
            assert (await world.reports.ended(session.task)).outcome == "cancelled"
            checkpoints = folders.outputs(world.data, session).glob("checkpoint-*")
            assert [path.read_text() for path in checkpoints] == ["saved\n"] * COUNT
