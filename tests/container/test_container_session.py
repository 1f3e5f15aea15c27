"""What a task finds in its container, and what is reported at its end; on a real engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from container.engine import BASH_IMAGE, ContainerEngine, booted
from container.world import World, holds, opened, spec
from trackbook.adapters.execution import folders
from trackbook.engine.job import ReportTaskStatus
from trackbook.engine.ports import SessionInput

LIMIT = 64 * 2**20


async def run(world: World, command: str, **more: object) -> str:
    """Run a command to its success and return its output."""
    executor = await world.open()
    session = spec("a", command, **more)
    await executor.launch(session)
    end = await world.reports.ended("a")
    assert (end.outcome, end.message) == ("succeeded", ""), (end, world.log(session))
    return world.log(session)


async def test_a_task_finds_its_folders(world: World) -> None:
    """Outputs and vfroot are writable, inputs can be read only, a skipped dependency's is empty."""
    made = spec("made", "", index=1)
    source = folders.outputs(world.data, made)
    source.mkdir(parents=True)
    (source / "model").write_text("weights")
    command = """
        cat /pipeline/input1/model; ls -A /pipeline/input2 | wc -l
        (: > /pipeline/input1/x) 2>/dev/null || echo refused
        (: > /pipeline/input2/x) 2>/dev/null || echo refused
        echo out > $PIPELINE_OUTPUTS/out; echo shared > $PIPELINE_VFROOT/shared
        pwd; echo $HOME $PIPELINE_INPUT1 $PIPELINE_INPUT2
    """
    inputs = [SessionInput("j1", "made", 1, 1), SessionInput("j1", "left", 2, 1, skipped=True)]

    said = await run(world, command, inputs=inputs)

    assert said.split() == [
        *("weights0", "refused", "refused"),
        *("/home/work", "/home/work", "/pipeline/input1", "/pipeline/input2"),
    ]
    assert (folders.outputs(world.data, spec("a", "")) / "out").read_text() == "out\n"
    assert (world.vfroot / "shared").read_text() == "shared\n"
    assert (world.vfroot / "shared").stat().st_uid == os.geteuid()


async def test_a_task_finds_its_mounts(world: World) -> None:
    """Each is at /home/work/ALIAS, a folder below one by its path, and the container works beside them."""
    (world.data / "vfolders" / "data" / "sub").mkdir(parents=True)
    (world.data / "vfolders" / "data" / "sub" / "x").write_text("found\n")

    said = await run(world, "cat part/x; ls data; touch data/new here; ls", mounts=["data", "data/sub:part"])

    assert said.split() == ["found", "sub", "data", "here", "part"]
    assert (world.data / "vfolders" / "data" / "new").exists()


async def test_a_mount_that_leads_out_of_its_folder_is_refused(world: World) -> None:
    """A link in a folder that others write to opens nothing else of the machine."""
    folder = world.data / "vfolders" / "data"
    folder.mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    executor = await world.open()
    await executor.launch(spec("a", "cat hosts", mounts=["data/out:."]))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault) == ("failed", "permanent")
    assert "can't be the name of a folder" in end.message or "leads out" in end.message


async def test_a_task_finds_its_variables(world: World) -> None:
    """Its own, who it is, and what the image sets; what it must not override, it doesn't."""
    variables = {"GREETING": "hello 'you'\nthere", "TRACKBOOK_TASK": "forged"}

    said = await run(
        world,
        'echo "$GREETING"; echo $TRACKBOOK_TASK $BACKENDAI_PIPELINE_TASK_ID; echo $PATH',
        variables=variables,
    )

    assert said == "hello 'you'\nthere\na j1-0\n/bin\n"


@pytest.mark.parametrize(("image", "shell"), [("", "sh"), (BASH_IMAGE, "bash")])
async def test_the_shell_is_bash_where_the_image_has_it(world: World, image: str, shell: str) -> None:
    """Else it is sh; either runs commands that are longer than an argument may be."""
    padding = "# " + "x" * 200_000
    command = 'echo ${BASH_VERSION:+bash}\nreadlink /proc/$$/exe | grep -o "bash\\|busybox"\n'

    said = await run(world, command + padding, image=image)

    assert said.split() == (["bash", "bash"] if shell == "bash" else ["busybox"])


async def test_limits_are_the_containers(world: World) -> None:
    """Cores, memory and shared memory; without swap, which would go over the limit."""
    from aiodocker import Docker

    executor = await world.open()
    resources = {"cpu": 0.5, "mem": LIMIT}
    session = spec("a", "df /dev/shm; sleep 1000", resources=resources, shmem=32 * 2**20)
    await executor.launch(session)
    await world.reports.started("a")
    async with Docker(world.real.address) as docker:
        shown = await docker.containers.container(world.name(session)).show()
    host, config = shown["HostConfig"], shown["Config"]
    await executor.stop(session)
    end = await world.reports.ended("a")

    assert (host["NanoCpus"], host["Memory"], host["ShmSize"]) == (500_000_000, LIMIT, 32 * 2**20)
    assert host["MemorySwap"] in (LIMIT, 0)  # 0 where the kernel does not count swap
    assert not host["Privileged"]
    assert config["Labels"]["trackbook.installation"] == world.installation
    assert config["Labels"]["trackbook.session"] == session.session
    assert end.outcome == "cancelled"
    assert "32768" in world.log(session)


async def test_running_out_of_memory_is_reported(world: World) -> None:
    """The end says so, with the limit, and how the command ended."""
    executor = await world.open()
    command = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); echo survived"
    await executor.launch(spec("a", command, resources={"mem": LIMIT}))
    end = await world.reports.ended("a")
    assert end.outcome == "failed", world.log(spec("a", ""))
    assert end.exit_code == 137
    assert "out of memory: its limit is 64 MiB" in end.message or "out of memory; its limit is" in end.message


async def test_an_end_by_a_signal_is_reported(world: World) -> None:
    """A shell tells of it by 128 and the signal's number."""
    executor = await world.open()
    await executor.launch(spec("a", "sh -c 'kill -SEGV $$'"))
    end = await world.reports.ended("a")
    assert (end.exit_code, end.message) == (139, "the command ended with exit code 139, which stands for SIGSEGV")


async def test_output_is_bounded(world: World) -> None:
    """Of more than the bound the beginning and the end are kept, and a line says how much is missing."""
    executor = await world.open(log_limit=64 * 1024)
    command = "echo first; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; echo oops; exit 1"
    session = spec("a", command)
    await executor.launch(session)
    end = await world.reports.ended("a")
    log = world.log(session)
    assert len(log) <= 64 * 1024
    assert log.startswith("first\nline 1\nline 2\n")
    assert "bytes of output are left out here]" in log
    assert log.endswith("line 20000\noops\n")
    assert end.tail.endswith("line 20000\noops\n")


async def test_the_last_line_needs_no_end(world: World) -> None:
    """All that was written is in the log when the end is reported, whatever comes last, on whichever stream."""
    executor = await world.open()
    sessions = [
        spec(f"a{number}", "printf one; sleep 0.05; echo; echo two >&2; printf three") for number in range(5)
    ]
    for session in sessions:
        await executor.launch(session)
    for session in sessions:
        await world.reports.ended(session.task)
        assert all(word in world.log(session) for word in ("one\n", "two\n", "three"))  # the streams race


async def test_output_is_followed(world: World) -> None:
    """It can be read while the session runs."""
    executor = await world.open()
    session = spec("a", "echo early; until [ -e /pipeline/vfroot/go ]; do sleep 0.05; done; echo late")
    await executor.launch(session)
    await world.reports.started("a")
    path = folders.log_file(world.data, session.session)

    async def early() -> bool:
        return path.exists() and path.read_text() == "early\n"

    assert await holds(early)
    (world.vfroot / "go").touch()
    await world.reports.ended("a")
    assert path.read_text() == "early\nlate\n"


async def test_a_command_that_ignores_term_is_killed(world: World) -> None:
    """After the grace, and everything that it started with it; then its container is removed."""
    executor = await world.open()
    loop = "while :; do date >> /pipeline/vfroot/alive; echo alive; sleep 0.05; done"
    session = spec("a", f"trap '' TERM; (trap '' TERM; {loop}) & wait; wait")
    await executor.launch(session)
    await world.said(session, "alive")
    await executor.stop(session)
    end = await world.reports.ended("a")
    assert end.outcome == "cancelled"
    assert await world.is_gone()
    size = (world.vfroot / "alive").stat().st_size
    assert (world.vfroot / "alive").stat().st_size == size


async def test_a_command_gets_term(world: World) -> None:
    """One that doesn't trap it ends at once, one that does may tidy up."""
    executor = await world.open()
    session = spec("a", "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    await executor.launch(session)
    await world.said(session, "ready")
    await executor.stop(session)
    end = await world.reports.ended("a")
    assert (end.outcome, end.message) == ("cancelled", "the session was stopped on request")
    assert "tidy" in world.log(session)


async def test_a_missing_image_is_reported(world: World) -> None:
    """It is no failure of the command's, and would fail again."""
    executor = await world.open()
    await executor.launch(spec("a", "true", image="localhost/nothing:1"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault, end.started_at) == ("failed", "permanent", None)
    assert "localhost/nothing:1" in end.message
    assert await world.is_gone()


async def test_an_image_from_afar_is_fetched_and_its_absence_reported(world: World) -> None:
    """The status says that it is being fetched; a registry that can't be reached may work another time."""
    executor = await world.open()
    image = "127.0.0.1:9/nothing/here:1"
    await executor.launch(spec("a", "true", image=image))
    end = await world.reports.ended("a")
    reported = [
        report.status
        for report in world.reports.of("a", ReportTaskStatus)
        if isinstance(report, ReportTaskStatus)
    ]
    assert reported == ["PULLING"]
    assert (end.outcome, end.fault) == ("failed", "infrastructure")
    assert image in end.message


async def test_a_missing_network_is_reported(container_engine: ContainerEngine, tmp_path: Path) -> None:
    """It isn't taken for a missing image, though engines answer both alike."""
    async with opened(tmp_path, container_engine, network="nowhere") as world:
        executor = await world.open()
        await executor.launch(spec("a", "true"))
        end = await world.reports.ended("a")
        assert (end.outcome, end.started_at) == ("failed", None)
        assert end.fault == "permanent"
        assert "nowhere" in end.message


async def test_gpus_are_refused_where_there_are_none(world: World) -> None:
    """The command does not run without what it asked for."""
    executor = await world.open()
    await executor.launch(spec("a", "true", resources={"cuda.device": 1}))
    end = await world.reports.ended("a")
    assert (end.outcome, end.fault, end.started_at) == ("failed", "permanent", None)
    assert "gpu" in end.message.lower()


async def test_no_engine_is_waited_for_and_reported(world: World, tmp_path: Path) -> None:
    """The status says what is missing; after a while the session has failed, and never runs."""
    socket = f"unix://{tmp_path}/nobody.sock"
    async with opened(tmp_path / "else", world.real, socket=socket, unreachable_timeout=0.3) as nobody:
        executor = await nobody.open()
        await executor.launch(spec("a", "true"))
        end = await nobody.reports.ended("a")
        first = nobody.reports.all[0][1]
        assert isinstance(first, ReportTaskStatus)
        assert first.status == "WAITING"
        assert "nobody.sock can't be reached" in first.message
        assert (end.outcome, end.fault, end.started_at) == ("failed", "infrastructure", None)
        nobody.engine = world.engine
        again = await nobody.open()
        await again.launch(spec("a", "true"))
        assert (await nobody.reports.ended("a", 2)).fault == "infrastructure"
        nobody.client = world.client


async def test_an_engine_without_an_init_program(container_engine: ContainerEngine, tmp_path: Path) -> None:
    """Podman's is a package of its own: without it commands run, and get SIGTERM, all the same."""
    if container_engine.kind != "podman":
        pytest.skip("Docker brings its own")
    with booted("podman", 'init_path = "/nowhere/init"\n') as bare:
        async with opened(tmp_path, bare) as world:
            executor = await world.open()
            session = spec(
                "a", "readlink /proc/1/exe; trap 'echo tidy; exit 0' TERM; echo ready; sleep 1000 & wait"
            )
            await executor.launch(session)
            await world.said(session, "ready")
            await executor.stop(session)
            end = await world.reports.ended("a")
            assert (end.outcome, end.exit_code) == ("cancelled", 0)
            assert world.log(session) == "/bin/busybox\nready\ntidy\n"
