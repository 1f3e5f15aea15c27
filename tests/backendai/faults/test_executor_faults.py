"""Sessions on a real manager when things go wrong: the end is right, nothing ran twice, and nothing is left."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld, Made, settings, spec
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.session import plan
from trackbook.engine.job import ReportTaskEnded

COUNT = "echo x >>/pipeline/vfroot/count-$TRACKBOOK_TASK"


@pytest.fixture
async def make(stack: Cluster, tmp_path: Path) -> AsyncIterator[Made]:
    """Give what makes worlds; each is looked at for what it leaves."""
    worlds: list[ClusterWorld] = []

    def new(folder: str = "", **settings: Any) -> ClusterWorld:
        worlds.append(ClusterWorld(stack, tmp_path / (folder or f"data{len(worlds)}"), **settings))
        worlds[-1].installation = worlds[0].installation
        return worlds[-1]

    yield new
    for world in worlds:
        await world.close()
    if worlds:
        await worlds[0].nothing_left()


async def test_waits_for_resources_in_words(make: Made) -> None:
    """A session that fits nowhere is PENDING, says why where that is known, and fails at its deadline."""
    world = make(pending_timeout=6.0)
    executor = await world.open()
    await executor.launch(spec("a", "true", resources={"cpu": 5000, "mem": 2**30}))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault, end.started_at) == ("failed", "infrastructure", None)
    assert "did not start in" in end.message
    assert world.statuses("a")[0] == "PENDING"


async def test_stop_while_pending(make: Made) -> None:
    """What waits for resources is cancelled, and never ran."""
    world = make()
    executor = await world.open()
    asked = spec("a", COUNT, resources={"cpu": 5000, "mem": 2**30})
    await executor.launch(asked)
    await world.status("a", "PENDING")
    await executor.stop(asked)
    end = await world.reports.ended("a")
    assert (end.outcome, end.started_at) == ("cancelled", None)


async def test_stop_while_it_starts(make: Made) -> None:
    """What is being prepared can't be ended by the manager; its command never begins, and it is cancelled."""
    world = make()
    executor = await world.open()
    asked = spec("a", COUNT, SIM_START_DELAY="6")
    await executor.launch(asked)
    await world.status("a", "PREPARING", "CREATING")
    await executor.stop(asked)
    end = await world.reports.ended("a")
    assert (end.outcome, end.started_at) == ("cancelled", None)
    assert await world.runs("a") == 0


async def test_failed_start(make: Made) -> None:
    """A session that can't start fails, in the manager's words."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "true", SIM_START_FAIL="1"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault, end.started_at) == ("failed", "infrastructure", None)


async def test_refused_for_good(make: Made) -> None:
    """What the manager will never take fails at once, in its words."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "true", resources={"cpu": 1, "mem": 2**30, "nonsense.device": 1}))
    await executor.launch(replace(spec("b", "true"), image="sim-registry/stable/nothing:1.0"))
    await executor.launch(replace(spec("c", "true"), mounts=["no-such-folder:data"]))
    for task, words in (("a", "slot"), ("b", "image"), ("c", "folder")):
        end = await world.reports.ended(task)
        assert (end.outcome, end.fault) == ("failed", "permanent")
        assert words in end.message


async def test_a_wrong_key(make: Made) -> None:
    """A key that is refused is reported while it is tried, and fails the task when nobody mends it."""
    world = make(secret_key="wrong", unreachable_timeout=3.0, stop_timeout=1.0)
    executor = await world.open()
    await executor.launch(spec("a", "true"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault) == ("failed", "operator")
    assert "mismatch" in end.message
    assert "wrong" not in end.message
    assert any("mismatch" in why for why in world.whys("a"))


async def test_ended_by_somebody_else(make: Made, stack: Cluster) -> None:
    """A session that somebody else ends has failed, and says so."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    (session,) = await world.sessions()
    stack.client().call("DELETE", f"/session/{session.id}")
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault) == ("failed", "infrastructure")
    assert "not by this job" in end.message


async def test_manager_away_while_a_task_ends(make: Made, stack: Cluster) -> None:
    """The exit code is the record's, even where the manager has missed the end for good."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "sleep 4; exit 4"))
    await world.reports.started("a")
    with stack.without("manager"):
        await world.record("a")
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code) == ("failed", 4)


async def test_manager_away_while_a_task_is_launched(make: Made, stack: Cluster) -> None:
    """A launch waits for the manager, says so, and runs once."""
    world = make()
    executor = await world.open()
    with stack.without("manager"):
        await executor.launch(spec("a", COUNT))
        await world.said("a", "can't be reached")
    assert (await world.reports.ended("a")).outcome == "succeeded"
    assert await world.runs("a") == 1


async def test_stop_while_the_manager_is_away(make: Made, stack: Cluster) -> None:
    """A stop is kept until the manager is back."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    with stack.without("manager", kill=True):
        await executor.stop(spec("a", "sleep 1000"))
    assert (await world.reports.ended("a")).outcome == "cancelled"


async def test_storage_away_while_a_task_ends(make: Made, stack: Cluster) -> None:
    """The record is waited for as long as it can't be read."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "sleep 3; echo done; exit 5"))
    await world.reports.started("a")
    with stack.without("storage"):
        await world.record("a")
        await world.ended_there("a")
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code, end.tail) == ("failed", 5, "done\n")


async def test_agent_killed_while_a_task_ends(make: Made, stack: Cluster) -> None:
    """The exit code is the record's where no agent tells the manager of the end."""
    world = make(unreachable_timeout=60.0)
    executor = await world.open()
    await executor.launch(spec("a", "sleep 4; exit 6"))
    await world.reports.started("a")
    for agent in stack.agents:
        stack.kill(agent)
    try:
        end = await world.reports.ended("a")
        assert (end.outcome, end.exit_code) == ("failed", 6)
    finally:
        for agent in stack.agents:
            stack.start(agent)


async def test_stop_of_a_session_whose_agent_is_dead(make: Made, stack: Cluster) -> None:
    """A manager that can't end a session is not waited for for ever, and is asked on in the background."""
    world = make(stop_timeout=2.0)
    executor = await world.open()
    await executor.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    for agent in stack.agents:
        stack.kill(agent)
    try:
        await executor.stop(spec("a", "sleep 1000"))
        end = await world.reports.ended("a")
        assert end.outcome == "cancelled"
    finally:
        for agent in stack.agents:
            stack.start(agent)


async def test_a_cancelled_command_saves_its_work(make: Made) -> None:
    """Agents kill without a warning: what the command's shell runs is sent SIGTERM before, and has its time."""
    world = make(stop_timeout=60.0)
    executor = await world.open()
    save = "trap 'sh -c \"sleep 3; echo saved >/pipeline/outputs/checkpoint\"; exit 0' TERM; echo begun"
    await executor.launch(spec("a", f"sh -c {shlex.quote(f'{save}; while :; do sleep 0.2; done')}; :"))
    await world.logged("a", lambda log: "begun" in log)
    await executor.stop(spec("a", ""))
    end = await world.reports.ended("a")

    assert end.outcome == "cancelled", end.message
    client = Client(settings(world.cluster))
    try:
        files = ClusterFolders(Storage(client), world.folder, world.installation)
        path = f"{plan.outputs(spec('a', ''))}/checkpoint"
        assert b"".join([chunk async for chunk in files.read("p1", path)]) == b"saved\n"
    finally:
        await client.close()


async def test_vanished_container(make: Made) -> None:
    """A session that gives no sign of life is lost after a while, and ended."""
    world = make(unreachable_timeout=20.0)
    executor = await world.open()
    await executor.launch(spec("a", "sleep 1000", SIM_VANISH_AFTER="8"))  # once 26.8 says that it runs
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault) == ("lost", "infrastructure"), end.message


async def test_launched_twice_at_once(make: Made) -> None:
    """Two executors that know nothing of one another launch an attempt: it runs once, and both tell its end."""
    worlds = [make(folder=f"data{number}") for number in range(3)]
    executors = [await world.open() for world in worlds]
    await executors[0].launch(spec("first", "true"))
    await worlds[0].reports.ended("first")
    await asyncio.gather(*(executor.launch(spec("a", f"{COUNT}; exit 7")) for executor in executors))
    ends = [await world.reports.ended("a") for world in worlds]
    assert {(end.outcome, end.exit_code) for end in ends} == {("failed", 7)}
    assert await worlds[0].runs("a") == 1


async def test_launched_again_after_its_end_by_one_that_knows_nothing(make: Made) -> None:
    """A name is free again once its session has ended; what is made then runs nothing."""
    first = make(folder="first")
    await (await first.open()).launch(spec("a", f"{COUNT}; exit 7"))
    before = await first.reports.ended("a")
    second = make(folder="second")
    await (await second.open()).launch(spec("a", f"{COUNT}; exit 7"))
    after = await second.reports.ended("a")
    assert (after.outcome, after.exit_code, after.ended_at) == ("failed", 7, before.ended_at)
    assert await first.runs("a") == 1


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.3, 1.0, 2.5])
async def test_executors_that_break_off(make: Made, seconds: float) -> None:
    """Whenever an executor breaks off, the next one takes its sessions over; each runs once."""
    world = make()
    specs = [spec(task, f"{COUNT}; sleep 1; exit {code}") for code, task in enumerate("abcd")]
    first = await world.open()
    for each in specs:
        await first.launch(each)
    await asyncio.sleep(seconds)
    await world.break_off()
    second = await world.open()
    for each in specs:
        await second.launch(each)
    for code, each in enumerate(specs):
        end: ReportTaskEnded = await world.reports.ended(each.task)
        assert end.exit_code == code
        assert await world.runs(each.task) == 1


async def test_stop_of_what_an_executor_broke_off_with(make: Made) -> None:
    """A stop that comes to the next executor, without a launch, ends the session or keeps it from running."""
    world = make()
    specs = [spec(task, f"{COUNT}; sleep 1000") for task in "abcd"]
    first = await world.open()
    for each in specs:
        await first.launch(each)
    await asyncio.sleep(0.05)
    await world.break_off()
    second = await world.open()
    for each in specs:
        await second.stop(each)
    for each in specs:
        assert (await world.reports.ended(each.task)).outcome == "cancelled"


async def test_a_folder_that_somebody_removed(make: Made) -> None:
    """A pipeline's folder that is gone is not made again unseen: nothing runs until somebody asks for that."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "true"))
    await world.reports.ended("a")
    await world.nothing_left()
    await world.remove_folder()
    for each, task in ((executor, "b"), (await world.open(), "c")):  # who has used the folder, and who has not
        await each.launch(spec(task, "true"))
        end = await world.reports.ended(task)
        assert (end.outcome, end.fault) == ("failed", "permanent")
        assert "was deleted on the cluster by someone else; `trackbook files create" in end.message
    client = Client(settings(world.cluster))
    try:
        await ClusterFolders(Storage(client), world.folder, world.installation).create("p1")
    finally:
        await client.close()
    await executor.launch(spec("d", "echo new >/pipeline/outputs/x"))
    assert (await world.reports.ended("d")).outcome == "succeeded"


async def test_long_commands(make: Made) -> None:
    """A command of any length runs, and has its quotes."""
    world = make()
    executor = await world.open()
    await executor.launch(spec("a", "# '\"$(x)\n" * 20_000 + 'echo "it\'s $((1 + 1))"; exit 9'))
    end = await world.reports.ended("a")
    assert (end.exit_code, end.tail) == (9, "it's 2\n")


async def test_output_is_followed(make: Made) -> None:
    """While a command runs, and somebody reads it, its output comes to our copy; it is whole at the end."""
    world = make(poll_interval=60.0)
    executor = await world.open()
    await executor.launch(spec("a", "echo first; sleep 8; seq 100000; exit 1"))
    await world.logged("a", lambda text: text == "first\n")
    end = await world.reports.ended("a")
    assert world.log("a") == "first\n" + "".join(f"{number}\n" for number in range(1, 100_001))
    assert end.tail.endswith("99999\n100000\n")
