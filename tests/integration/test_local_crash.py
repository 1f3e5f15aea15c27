"""What happens to sessions when a process that has to do with them is killed, at each step."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
from local_process import ExecutorProcess

from trackbook.adapters.execution import folders
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.box import tree
from trackbook.adapters.local.cleanup import find
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.job import ReportTaskEnded, ReportTaskStarted
from trackbook.engine.ports import SessionInput, SessionSpec
from trackbook.testing.reports import Reports


def spec(name: str, command: str) -> SessionSpec:
    """Return a session whose command writes a line to a ledger beside what it does."""
    return SessionSpec(
        f"tb-{name}-{os.getpid()}", "j1", "p1", "pipe", name, 0, 1, f"echo {name} >> $LEDGER; {command}"
    )


def with_ledger(session: SessionSpec, ledger: Path) -> SessionSpec:
    """Return the session with its ledger named to the command."""
    return msgspec.structs.replace(session, variables={"LEDGER": str(ledger)})


def runs(ledger: Path) -> list[str]:
    """Return the runs in the ledger, by session."""
    return ledger.read_text().split() if ledger.exists() else []


def launcher_of(data: Path, session: SessionSpec) -> int:
    """Return the process id of the session's living launcher."""
    state = attempt_state.examine(folders.session_folder(data, session.session))
    assert state.name == "alive"
    return state.pid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data directory."""
    return tmp_path / "data"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return the file to which each run of a command appends a line."""
    return tmp_path / "ledger"


async def test_a_session_outlives_a_killed_executor(data: Path, ledger: Path) -> None:
    """Sessions go on when the executor is killed; the next one adopts them and reports the result of each."""
    gate = data / "gate"
    slow = with_ledger(spec("slow", f"while ! [ -e {gate} ]; do read -t 0.02 <> <(:); done; exit 5"), ledger)
    quick = with_ledger(spec("quick", "exit 4"), ledger)
    executor = ExecutorProcess(data)
    await executor.start()
    executor.ask("launch", slow)
    assert isinstance(await executor.report(), ReportTaskStarted)
    executor.ask("launch", quick)
    assert (await executor.ended("quick")).exit_code == 4
    await executor.kill()
    async with executor:
        executor.ask("launch", slow)
        executor.ask("launch", quick)
        assert {(await executor.report()).task for _ in range(2)} == {"slow", "quick"}
        gate.touch()
        assert (await executor.ended("slow")).exit_code == 5
    assert sorted(runs(ledger)) == ["quick", "slow"]


async def test_a_session_that_ends_while_nobody_watches(data: Path, ledger: Path) -> None:
    """A result that comes while no executor lives is reported by the next one."""
    session = with_ledger(spec("a", "read line < $PIPELINE_OUTPUTS/go; exit 6"), ledger)
    fifo = folders.outputs(data, session) / "go"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    executor = ExecutorProcess(data)
    await executor.start()
    executor.ask("launch", session)
    await executor.report()
    launcher = os.pidfd_open(launcher_of(data, session))
    await executor.kill()
    fifo.write_text("go\n")
    await readable(launcher)
    async with executor:
        executor.ask("launch", session)
        assert (await executor.ended("a")).exit_code == 6
    assert runs(ledger) == ["a"]


async def readable(file: int) -> None:
    """Wait until a descriptor can be read, and close it."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(file, event.set)
    async with asyncio.timeout(60):
        await event.wait()
    loop.remove_reader(file)
    os.close(file)


@pytest.mark.parametrize(
    "point", ["executor.launch.before_spawn", "executor.launch.spawned", "executor.report.before"]
)
async def test_the_executor_is_killed_at_a_step(data: Path, ledger: Path, point: str) -> None:
    """Wherever the executor is killed, the session runs once and its end is reported by the next one."""
    session = with_ledger(spec("a", "exit 3"), ledger)
    first = ExecutorProcess(data, environment={"TRACKBOOK_FAILPOINTS": f"{point}=kill"})
    await first.start()
    first.ask("launch", session)
    assert await first.died() == -signal.SIGKILL
    async with ExecutorProcess(data) as second:
        second.ask("launch", session)
        assert (await second.ended("a")).exit_code == 3
    assert runs(ledger) == ["a"]


@pytest.mark.parametrize(
    ("point", "outcomes", "ran"),
    [
        ("before_claim", {"failed"}, 1),  # nothing happened yet: it is launched again
        ("claimed", {"lost"}, 0),  # from here on the command may have run, and must not run again
        ("started", {"lost"}, 1),
        ("ended", {"lost"}, 1),
        ("recorded", {"failed"}, 1),  # the result was there already
    ],
)
async def test_the_launcher_is_killed_at_a_step(
    data: Path, ledger: Path, point: str, outcomes: set[str], ran: int
) -> None:
    """Wherever its launcher is killed, a command runs at most once, and the end is reported without a restart."""
    session = with_ledger(spec("a", "exit 3"), ledger)
    environment = {"TRACKBOOK_FAILPOINTS": f"launcher.{point}=kill@1"}
    async with ExecutorProcess(data, environment=environment) as executor:
        executor.ask("launch", session)
        end = await executor.ended("a")
        executor.ask("launch", session)
        assert await executor.ended("a") == end
    assert end.outcome in outcomes
    assert len(runs(ledger)) <= ran
    if point != "started":  # the command and its own death race there
        assert len(runs(ledger)) == ran


async def test_a_launcher_that_always_dies(data: Path, ledger: Path) -> None:
    """A session whose launchers never reach their claim fails after some tries, in words, and is claimed then."""
    session = with_ledger(spec("a", "true"), ledger)
    environment = {"TRACKBOOK_FAILPOINTS": "launcher.before_claim=kill#tb-a-"}
    async with ExecutorProcess(data, environment=environment) as executor:
        executor.ask("launch", session)
        end = await executor.ended("a")
        executor.ask("launch", with_ledger(spec("b", "true"), ledger))
        assert (await executor.ended("b")).outcome == "succeeded"
    assert (end.outcome, end.message) == (
        "failed",
        "the session could not be launched in 4 tries: its launcher died",
    )
    assert attempt_state.examine(folders.session_folder(data, session.session)).name == "ended"


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_killed_launcher_loses_its_session(data: Path, ledger: Path, adopted: bool) -> None:
    """A session without its launcher is ended whole, reported as lost with the cause, and never run again."""
    deaf = "sh -c 'trap \"\" TERM HUP; while :; do sleep 1000; done'"
    session = with_ledger(spec("a", f"setsid -f {deaf}; env -i {deaf} & {deaf}"), ledger)
    executor = ExecutorProcess(data)
    await executor.start()
    executor.ask("launch", session)
    await executor.report()
    if adopted:
        await executor.kill()
        await executor.start()
        executor.ask("launch", session)
        await executor.report()
    assert len(find(session.session)) >= 4
    os.kill(launcher_of(data, session), signal.SIGKILL)
    end = await executor.ended("a")
    assert not find(session.session)
    executor.ask("launch", session)
    assert await executor.ended("a") == end
    await executor.kill()
    assert end.outcome == "lost"
    assert "launcher died" in end.message
    assert end.started_at
    assert runs(ledger) == ["a"]


async def test_executor_and_launcher_killed_together(data: Path, ledger: Path) -> None:
    """What a launcher leaves behind while no executor lives is ended by the next one."""
    session = with_ledger(spec("a", "sleep 1000"), ledger)
    executor = ExecutorProcess(data)
    await executor.start()
    executor.ask("launch", session)
    await executor.report()
    launcher = launcher_of(data, session)
    await executor.kill()
    os.kill(launcher, signal.SIGKILL)
    async with executor:
        executor.ask("stop", session)
        assert (await executor.ended("a")).outcome == "lost"
    assert not find(session.session)
    assert runs(ledger) == ["a"]


async def test_a_killed_spawner_is_started_again(data: Path) -> None:
    """When the spawner is killed its sessions go on, and new ones are launched by another spawner."""
    executor, reports = LocalExecutor(data, grace=0.2, limit=4), Reports()
    await executor.start(reports)
    running = spec("a", "sleep 1000")
    await executor.launch(running)
    await reports.started("a")
    old = executor.spawner_pid
    os.kill(old, signal.SIGKILL)
    for name in ("b", "c", "d", "e", "f"):
        await executor.launch(spec(name, "true"))
    for name in ("b", "c", "d", "e", "f"):
        assert (await reports.ended(name)).outcome == "succeeded"
    assert executor.spawner_pid != old
    await executor.stop(running)
    assert (await reports.ended("a")).outcome == "cancelled"
    await executor.close()


async def test_the_spawner_ends_with_the_executor(data: Path) -> None:
    """A killed executor leaves no spawner behind."""
    executor = ExecutorProcess(data)
    await executor.start()
    spawner = os.pidfd_open(executor.ready["spawner"])
    await executor.kill()
    await readable(spawner)


async def test_two_executors_launch_the_same_session(data: Path, ledger: Path) -> None:
    """If two executors launch one session at the same time, its command runs once, and both report its end."""
    session = with_ledger(spec("a", "exit 3"), ledger)
    async with ExecutorProcess(data) as one, ExecutorProcess(data) as two:
        one.ask("launch", session)
        two.ask("launch", session)
        assert await one.ended("a") == await two.ended("a")
    assert runs(ledger) == ["a"]


async def test_without_the_claim_a_command_can_run_twice(data: Path, ledger: Path) -> None:
    """The claim is what prevents a second run: switched off, a session launched again does run twice."""
    session = with_ledger(spec("a", "exit 3"), ledger)
    async with ExecutorProcess(data, environment={"TRACKBOOK_UNSAFE": "no-claim"}) as executor:
        for _ in range(2):
            executor.ask("launch", session)
            await executor.ended("a")
    assert runs(ledger) == ["a", "a"]


async def test_stop_races_a_launch(data: Path, ledger: Path) -> None:
    """However a stop falls upon a launch, the session ends as cancelled, and has run once at most."""
    executor, reports = LocalExecutor(data, grace=0.2), Reports()
    await executor.start(reports)
    for number in range(40):
        session = with_ledger(spec(f"s{number}", "sleep 1000"), ledger)
        await executor.launch(session)
        for _ in range(number * 5):
            await asyncio.sleep(0)
        await executor.stop(session)
    for number in range(40):
        assert (await reports.ended(f"s{number}")).outcome == "cancelled"
    await executor.close()
    assert len(runs(ledger)) == len(set(runs(ledger)))


@pytest.mark.skipif(os.geteuid() != 0, reason="these tests run as an ordinary user already")
async def test_as_an_ordinary_user() -> None:
    """An ordinary user gets the same private root, where the kernel allows user namespaces, and can stop, too."""
    nobody = pwd.getpwnam("nobody")
    data = Path("/tmp") / f"trackbook-test-{os.getpid()}"
    data.mkdir(mode=0o755)
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    try:
        async with ExecutorProcess(data, "--user", "nobody") as executor:
            assert executor.ready["private_root"] == await user_namespaces_work()
            executor.ask("launch", spec("a", "id -un > $PIPELINE_OUTPUTS/user; sleep 1000"))
            await executor.report()
            executor.ask("stop", spec("a", ""))
            assert (await executor.ended("a")).outcome == "cancelled"
            command = "cat $PIPELINE_INPUT1/user; touch $PIPELINE_INPUT1/x; exit 3"
            reader = msgspec.structs.replace(spec("b", command), index=1, inputs=[SessionInput("j1", "a", 0, 1)])
            executor.ask("launch", reader)
            end = await executor.ended("b")
            assert "nobody\n" in end.tail
            if executor.ready["private_root"]:
                assert "Read-only file system" in end.tail
    finally:
        shutil.rmtree(data)


async def user_namespaces_work() -> bool:
    """Ask the system's own tools, apart from our code."""
    command = ["setpriv", "--reuid=nobody", "--clear-groups", "unshare", "--map-root-user", "--mount", "true"]
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait() == 0


async def test_a_result_that_cannot_be_reported_waits(data: Path) -> None:
    """While the engine takes no report, it is repeated, and other sessions are not held up."""
    executor, reports = LocalExecutor(data), Reports()
    reports.refusals = 5
    await executor.start(reports)
    await executor.launch(spec("a", "exit 3"))
    await executor.launch(spec("b", "exit 4"))
    assert (await reports.ended("a")).exit_code == 3
    assert (await reports.ended("b")).exit_code == 4
    assert len([1 for _, report in reports.all if isinstance(report, ReportTaskEnded)]) == 2
    await executor.close()


async def test_killed_spares_are_replaced(data: Path) -> None:
    """Launchers killed while they wait for a session are replaced, and no launch is held up."""
    executor, reports = LocalExecutor(data, limit=2), Reports()
    await executor.start(reports)
    for number in range(5):
        tree.signal_all(tree.below(executor.spawner_pid, tree.processes()), signal.SIGKILL)
        await executor.launch(spec(f"s{number}", "true"))
        assert (await reports.ended(f"s{number}")).outcome == "succeeded"
    await executor.close()


async def test_a_spawner_killed_with_requests_unread(data: Path, ledger: Path) -> None:
    """Requests that a killed spawner's launchers have not read are sent to the next one, and each runs once."""
    executor, reports = LocalExecutor(data, limit=30), Reports()
    await executor.start(reports)
    sessions = [with_ledger(spec(f"s{number}", "true"), ledger) for number in range(30)]
    for session in sessions:
        await executor.launch(session)
    os.kill(executor.spawner_pid, signal.SIGKILL)
    for session in sessions:
        assert (await reports.ended(session.task)).outcome == "succeeded"
    await executor.close()
    assert sorted(runs(ledger)) == sorted(session.task for session in sessions)


async def test_a_late_signal_hits_no_other_session(data: Path) -> None:
    """A stop signal without the mark of the session, meant for one before it, does not stop it."""
    executor, reports = LocalExecutor(data, limit=1), Reports()
    await executor.start(reports)
    gate = data / "gate"
    session = spec("a", f"while ! [ -e {gate} ]; do read -t 0.02 <> <(:); done; true")
    await executor.launch(session)
    await reports.started("a")
    os.kill(launcher_of(data, session), signal.SIGTERM)  # with no mark that this session is to be stopped
    gate.touch()
    assert (await reports.ended("a")).outcome == "succeeded"
    await executor.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a full file system, which needs root")
async def test_a_full_disk_loses_no_result(data: Path) -> None:
    """When there is no room for the exit record, the launcher keeps it until there is."""
    waiting = spec("a", "")
    record = folders.session_folder(data, waiting.session) / "exit.new"
    free = "rm $PIPELINE_VFROOT/big"
    helper = spec("b", f"echo ready; until [ -e {record} ]; do read -t 0.02 <> <(:); done; {free}")
    filler = msgspec.structs.replace(waiting, command="cat /dev/zero > $PIPELINE_VFROOT/big; exit 3", index=1)
    async with ExecutorProcess(data, "--small") as executor:
        executor.ask("launch", msgspec.structs.replace(helper, variables={"LEDGER": "/dev/null"}))
        assert (await executor.report()).task == "b"
        executor.ask("launch", filler)
        assert (await executor.ended("a")).exit_code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a /home of its own, which needs root")
async def test_a_machine_with_a_home_of_that_name(data: Path) -> None:
    """A /home/work that the machine has stays visible, with a task's mounts beside what is in it."""
    async with ExecutorProcess(data, "--home") as executor:
        if not executor.ready["private_root"]:
            pytest.skip("no private root here")
        command = "cat /home/work/mine/file; echo 1 > /home/work/code/f; ls /home/work; pwd; exit 3"
        session = with_ledger(spec("a", command), Path("/dev/null"))
        session = msgspec.structs.replace(session, mounts=["x:code"])
        executor.ask("launch", session)
        tail = (await executor.ended("a")).tail
    work = folders.session_folder(data, session.session) / "work"
    assert tail.split("\n") == ["of the machine", "code", "mine", str(work), ""]
    assert (data / "vfolders/x/f").read_text() == "1\n"
