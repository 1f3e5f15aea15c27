"""What goes wrong around containers, on a real engine: no command runs twice, and none is forgotten."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from aiodocker import Docker

from container.program import Orders, ends, start
from container.world import PATIENCE, World, holds, spec
from trackbook.adapters.container import attempt_state
from trackbook.adapters.execution import folders
from trackbook.engine.job import ReportTaskStatus
from trackbook.engine.ports import Owned

POINTS = ("noted", "created", "started", "ended", "recorded")
RECORD = 'echo "$TRACKBOOK_TASK" >> /pipeline/vfroot/ledger; '
WAIT = "until [ -e /pipeline/vfroot/go ]; do sleep 0.05; done; "


async def test_a_container_that_somebody_removed_is_lost(world: World) -> None:
    """While it runs, and while nobody looks; it is not run again."""
    executor = await world.open()
    for name in ("seen", "unseen"):
        await executor.launch(spec(name, RECORD + "sleep 1000"))
        await world.reports.started(name)
    await world.client.remove(world.name(spec("seen", "")))
    end = await world.reports.ended("seen")
    assert (end.outcome, end.exit_code) == ("lost", None)
    assert "removed" in end.message
    assert end.started_at

    await executor.close()
    await world.client.remove(world.name(spec("unseen", "")))
    again = await world.open()
    for name in ("seen", "unseen"):
        await again.launch(spec(name, RECORD + "sleep 1000"))
    assert (await world.reports.ended("unseen")).outcome == "lost"
    assert await world.reports.ended("seen", 2) == end
    assert sorted(world.ledger()) == ["seen", "unseen"]


async def test_an_end_that_nobody_saw_is_reported_later(world: World) -> None:
    """A container ends while no executor runs; the next one finds how, with all the output, and tidies up."""
    executor = await world.open()
    session = spec("a", WAIT + "echo late; exit 7")
    await executor.launch(session)
    await world.reports.started("a")
    await executor.close()
    (world.vfroot / "go").touch()

    async def over() -> bool:
        seen = await world.client.inspect(world.name(session))
        return seen is not None and seen.over

    assert await holds(over)
    again = await world.open()
    await again.launch(session)
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code, end.tail) == ("failed", 7, "late\n")
    assert await world.is_gone()


async def test_a_log_goes_on_where_it_stood(world: World) -> None:
    """An adopted session's output is neither written twice nor left out."""
    executor = await world.open()
    session = spec("a", "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; sleep 0.005; done")
    await executor.launch(session)
    await world.reports.started("a")
    await executor.close()
    again = await world.open()
    await again.launch(session)
    await world.reports.ended("a")
    assert world.log(session).split() == [str(number) for number in range(1, 501)]


async def test_a_container_that_was_created_goes_on(world: World) -> None:
    """One that a crash left before its start is started; the command runs once."""
    executor = await world.open()
    session = spec("a", RECORD)
    planner = executor._context.planner
    attempt_state.make_box(folders.session_folder(world.data, session.session))
    attempt_state.take_note(folders.session_folder(world.data, session.session), world.name(session))
    await world.client.create(world.name(session), planner.plan(session, await world.client.facts()))

    await executor.launch(session)

    assert (await world.reports.ended("a")).outcome == "succeeded"
    assert world.ledger() == ["a"]


async def test_a_container_that_is_started_again_runs_nothing(world: World) -> None:
    """Somebody starts the ended container: the attempt is taken, and its command's end is not known any more."""
    executor = await world.open()
    session = spec("a", RECORD + WAIT)
    await executor.launch(session)
    await world.reports.started("a")
    await executor.close()
    (world.vfroot / "go").touch()
    async with Docker(world.real.address) as docker:
        container = docker.containers.container(world.name(session))
        await container.wait()
        await container.start()
        await container.wait()

    again = await world.open()
    await again.launch(session)

    assert (await world.reports.ended("a")).outcome == "lost"
    assert world.ledger() == ["a"]


async def test_a_session_of_before_a_restart_of_the_machine_is_not_begun(world: World) -> None:
    """Podman forgets with a restart what has run, so what may have run is lost rather than run twice."""
    executor = await world.open()
    session = spec("a", RECORD)
    folder = folders.session_folder(world.data, session.session)
    folder.mkdir(parents=True)
    (folder / "container").write_text(f'{{"name": "{world.name(session)}", "boot": "another"}}')

    await executor.launch(session)

    assert (await world.reports.ended("a")).outcome == "lost"
    assert world.ledger() == []


async def test_the_engine_is_stopped_and_started(world: World) -> None:
    """Containers run on meanwhile; what ends, what is launched and what is stopped is reported afterwards."""
    executor = await world.open()
    for name in ("ends", "stops"):
        await executor.launch(
            spec(name, RECORD + "echo said; " + WAIT + ("exit 3" if name == "ends" else "sleep 1000"))
        )
        await world.reports.started(name)
    world.real.stop()
    try:
        (world.vfroot / "go").touch()
        await executor.launch(spec("comes", RECORD))
        await executor.stop(spec("stops", ""))

        async def reported() -> bool:
            return bool(world.reports.of("comes", ReportTaskStatus))

        assert await holds(reported)
    finally:
        world.real.start()
    assert (await world.reports.ended("ends")).exit_code == 3
    assert (await world.reports.ended("comes")).outcome == "succeeded"
    assert (await world.reports.ended("stops")).outcome == "cancelled"
    assert sorted(world.ledger()) == ["comes", "ends", "stops"]
    assert world.log(spec("ends", "")) == "said\n"
    assert await world.is_gone()


async def test_the_sweep_takes_what_nobody_owns(world: World, tmp_path: Path) -> None:
    """Of this installation alone, and nothing that a live attempt owns."""
    executor = await world.open()
    other = World(tmp_path / "other", world.real)
    elsewhere = await other.open()
    for name in ("live", "orphan"):
        await executor.launch(spec(name, "sleep 1000"))
        await world.reports.started(name)
    await elsewhere.launch(spec("other", "sleep 1000"))
    await other.reports.started("other")
    await executor.close()

    async def live() -> Owned:
        return Owned({spec("live", "").session})

    backend = world.backend()
    found = await backend.sweep(live, end=False)
    assert [(each.what, each.verdict) for each in found] == [
        (f"container {world.name(spec('orphan', ''))}", "warn")
    ]
    assert len(await world.containers()) == 2
    await backend.sweep(live, end=True)
    assert [each.session for each in await world.containers()] == [spec("live", "").session]
    assert len(await other.containers()) == 1
    assert await backend.sweep(live, end=True) == []
    await backend.close()
    await other.close()


def orders(world: World, tasks: int, command: str) -> Orders:
    """Return what a process of its own launches."""
    specs = [spec(f"t{number}", RECORD + command, index=number) for number in range(tasks)]
    reports = str(world.data / "reports.jsonl")
    return Orders(str(world.data), world.installation, world.engine, specs, reports)


async def finish(world: World, given: Orders) -> None:
    """Run an executor's process to the end of all sessions, and look that each ran once and ended well."""
    process = await start(given, world.data / "orders.json")
    async with asyncio.timeout(PATIENCE * 2):
        assert await process.wait() == 0
    reported = ends(given)
    assert sorted(world.ledger()) == sorted(each.task for each in given.specs)
    assert {task: {end.outcome for end in reports} for task, reports in reported.items()} == {
        each.task: {"succeeded"} for each in given.specs
    }
    for each in given.specs:
        assert world.log(each) == "begun\nended\n"
    await swept(world)


async def swept(world: World) -> None:
    """Take away what a kill left of ended sessions; nothing of it may run any more."""
    assert {each.status for each in await world.containers()} <= {"exited", "created", "configured"}
    backend = world.backend()

    async def nobody() -> Owned:
        return Owned(set())

    await backend.sweep(nobody, end=True)
    await backend.close()
    assert await world.containers() == []


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_step(world: World, point: str) -> None:
    """The executor's process is killed at a step of its second session; the next one goes on from there."""
    given = orders(world, 3, "echo begun; sleep 0.2; echo ended")
    process = await start(given, world.data / "orders.json", TRACKBOOK_FAILPOINTS=f"container.{point}=kill@2")
    assert await process.wait() == -9
    await finish(world, given)


async def test_killed_at_random_moments(world: World) -> None:
    """Again and again, while eight sessions come and go: each command runs once, and each end is right."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    given = orders(world, 8, "echo begun; sleep 0.3; echo ended")
    for _ in range(6):
        process = await start(given, world.data / "orders.json")
        try:
            async with asyncio.timeout(dice.uniform(0.5, 2.5)):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    await finish(world, given)
