"""What a task sees and leaves behind when it runs as a local process."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conditions import holds

from trackbook.adapters.execution import folders
from trackbook.adapters.local import attempt_state, floor
from trackbook.adapters.local.cleanup import find
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.job import ReportTaskEnded
from trackbook.engine.ports import SessionInput, SessionSpec
from trackbook.testing.reports import Reports


def spec(task: str, command: str, **more: Any) -> SessionSpec:
    """Return a session of the test's job."""
    more = {"index": 0, **more}
    return SessionSpec(
        f"tb-j1-{task}-{os.getpid()}", "j1", "p1", "pipe", task, attempt=1, command=command, **more
    )


class Bench:
    """An executor and what it reported."""

    def __init__(self, executor: LocalExecutor, reports: Reports) -> None:
        self.executor = executor
        self.reports = reports

    async def run(self, session: SessionSpec) -> tuple[ReportTaskEnded, str]:
        """Run a session to its end and return its end and its output."""
        await self.executor.launch(session)
        return await self.reports.ended(session.task), self.executor.log_path(session.session).read_text()


@pytest.fixture(params=["private root", "variables only"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Give an executor, once with the private root and once without."""
    executor = LocalExecutor(tmp_path, grace=0.3, durable=False, log_limit=8192, pass_environment=["HANDED_ON"])
    executor.use_private_root = request.param == "private root"
    reports = Reports()
    await executor.start(reports)
    yield Bench(executor, reports)
    await executor.close(cancel=True)


def kernel_gives_namespaces() -> bool:
    """Ask the system's own tool, apart from our code."""
    tool = shutil.which("unshare")
    if tool is None:
        pytest.skip("no unshare(1) to ask whether this kernel gives mount namespaces")
    options = ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]
    return subprocess.run([tool, *options, "mount", "-t", "tmpfs", "x", "/tmp"], check=False).returncode == 0


async def test_the_private_root_is_used_where_it_can_be(tmp_path: Path) -> None:
    """The fallback to variables is taken only where the kernel gives no mount namespace, and it is reported."""
    executor = LocalExecutor(tmp_path)
    await executor.start(Reports())
    await executor.close()
    assert executor.private_root == kernel_gives_namespaces()
    assert executor.private_root == (not any("/pipeline" in warning for warning in executor.warnings))


async def test_a_file_is_handed_on(bench: Bench) -> None:
    """What a task writes to its outputs, its successor reads as input 1, at the place that the variable names."""
    first, _ = await bench.run(spec("a", "echo 97.5 > $PIPELINE_OUTPUTS/accuracy"))
    inputs = [SessionInput("j1", "a", 0, 1)]
    second, output = await bench.run(spec("b", "cat $PIPELINE_INPUT1/accuracy", index=1, inputs=inputs))
    assert (first.outcome, second.outcome, output) == ("succeeded", "succeeded", "97.5\n")


async def test_the_paths_of_the_contract(bench: Bench) -> None:
    """In a private root, outputs, inputs and vfroot are at their very paths, and nothing else is beside them."""
    if not bench.executor.private_root:
        pytest.skip("variables only")
    await bench.run(spec("a", "echo 1 > /pipeline/outputs/f; echo 2 > /pipeline/vfroot/g"))
    inputs = [SessionInput("j1", "a", 0, 1), SessionInput("j1", "s", 7, 1, skipped=True)]
    command = "ls /pipeline; cat /pipeline/input1/f /pipeline/vfroot/g; ls -A /pipeline/input2; pwd; echo $HOME"
    _, output = await bench.run(spec("b", command, index=1, inputs=inputs))
    assert output.split() == ["input1", "input2", "outputs", "vfroot", "1", "2", "/home/work", "/home/work"]


async def test_inputs_are_read_only(bench: Bench) -> None:
    """A task can change neither the outputs of its dependency nor the place of a skipped one."""
    if not bench.executor.private_root:
        pytest.skip("variables only")
    await bench.run(spec("a", "echo 1 > $PIPELINE_OUTPUTS/f"))
    inputs = [SessionInput("j1", "a", 0, 1), SessionInput("j1", "s", 7, 1, skipped=True)]
    command = "echo 2 > /pipeline/input1/f; rm /pipeline/input1/f; touch /pipeline/input2/x; ls /pipeline/input2"
    end, output = await bench.run(spec("b", command, index=1, inputs=inputs))
    assert output.count("Read-only file system") == 3
    assert bench.executor.outputs_dir(spec("a", "")).joinpath("f").read_text() == "1\n"
    assert end.exit_code == 0


async def test_a_skipped_input_is_an_empty_folder(bench: Bench) -> None:
    """The variable of a skipped dependency names a folder that is there and empty."""
    inputs = [SessionInput("j1", "s", 7, 1, skipped=True)]
    end, output = await bench.run(spec("b", "cd $PIPELINE_INPUT1 && ls -A", inputs=inputs))
    assert (end.outcome, output) == ("succeeded", "")


async def test_the_environment_is_clean(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task sees its variables, ours and those handed on, and nothing else of the server's environment."""
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    _, output = await bench.run(spec("a", "env", variables={"MINE": "ü=1", "HOME": "/elsewhere"}))
    seen = dict(line.split("=", 1) for line in output.splitlines())
    assert seen["MINE"] == "ü=1"
    assert seen["HOME"] == "/elsewhere"
    assert seen["BACKENDAI_PIPELINE_JOB_ID"] == seen["TRACKBOOK_JOB_ID"] == "j1"
    assert seen["BACKENDAI_PIPELINE_TASK_ID"] == seen["TRACKBOOK_TASK_ID"] == "j1-0"
    known = {"PATH", "HOME", "LANG", "SHELL", "USER", "LOGNAME", "TMPDIR", "MINE", "PWD", "SHLVL", "_", "OLDPWD"}
    assert {name for name in seen if not name.startswith(("TRACKBOOK_", "PIPELINE_", "BACKENDAI_"))} <= known


async def test_named_variables_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the server that the operator names reaches the tasks."""
    monkeypatch.setenv("HANDED_ON", "http://127.0.0.1/hook")
    executor, reports = LocalExecutor(tmp_path, pass_environment=["HANDED_ON", "NOT_SET"]), Reports()
    await executor.start(reports)
    _, output = await Bench(executor, reports).run(spec("a", "echo $HANDED_ON ${NOT_SET-unset}"))
    await executor.close()
    assert output == "http://127.0.0.1/hook unset\n"


async def test_mounts(bench: Bench) -> None:
    """A mounted folder is at its alias in the working directory, at /home/work where there is a private root."""
    place = "/home/work/code" if bench.executor.private_root else "code"
    await bench.run(spec("a", f"echo 1 > {place}/f; echo 2 > data/g", mounts=["examples:code", "data"]))
    _, output = await bench.run(spec("b", "cat ~/own/f ~/data/g", mounts=["examples:own", "data"]))
    assert output == "1\n2\n"


async def test_a_mount_may_have_folders_above_it(bench: Bench) -> None:
    """An alias such as sets/big is found below the working directory, several of them side by side."""
    place = "/home/work/sets" if bench.executor.private_root else "sets"
    command = f"echo 1 > {place}/big/f; echo 2 > {place}/small/f; cat ~/sets/*/f"
    _, output = await bench.run(spec("a", command, mounts=["big:sets/big", "little:sets/small"]))
    assert output == "1\n2\n"


async def test_an_impossible_mount_fails_the_task(bench: Bench) -> None:
    """A mount whose name leads out of the data directory fails its task, in words, and the command never runs."""
    end, _ = await failed(bench, spec("a", "echo run", mounts=["../../etc"]))
    assert "'../../etc' is not 'folder'" in end.message


async def failed(bench: Bench, session: SessionSpec) -> tuple[ReportTaskEnded, bool]:
    """Run a session whose command can't be started; return its end and whether it has a log."""
    await bench.executor.launch(session)
    end = await bench.reports.ended(session.task)
    assert (end.outcome, end.started_at, end.exit_code) == ("failed", None, None)
    return end, bench.executor.log_path(session.session).exists()


@pytest.mark.parametrize("variables", [{"A": "x\0y"}, {"A=B": "x"}, {"": "x"}, {"A": "\ud800"}])
async def test_variables_that_no_process_can_have(bench: Bench, variables: dict[str, str]) -> None:
    """Such a variable fails its task, in words, instead of the executor."""
    end, _ = await failed(bench, spec("a", "echo run", variables=variables))
    assert end.message.startswith("the session could not be set up")
    assert (await bench.run(spec("b", "true")))[0].outcome == "succeeded"


async def test_a_very_long_command(bench: Bench) -> None:
    """A command longer than the kernel takes as an argument runs all the same."""
    end, output = await bench.run(spec("a", "#" + "x" * 200_000 + "\necho done"))
    assert (end.outcome, output) == ("succeeded", "done\n")


async def test_too_large_an_environment(bench: Bench) -> None:
    """An environment that the kernel refuses fails the task with the kernel's reason."""
    end, _ = await failed(bench, spec("a", "true", variables={"A": "x" * 300_000}))
    assert "Argument list too long" in end.message


@pytest.mark.parametrize("name", ["../../x", "Überlauf ✓", "a/b", "日本語", "." * 300, "-", "a\nb"])
async def test_any_name_of_a_task(bench: Bench, name: str) -> None:
    """Whatever a task is called, its outputs are in a folder of its own below the job's."""
    session = spec("a", "pwd > $PIPELINE_OUTPUTS/f", index=4)
    jobs, job, folder, attempt, outputs = folders.outputs_path("j1", 4, name, 1).split("/")
    assert (jobs, job, attempt, outputs) == ("jobs", "j1", "1", "outputs")
    assert folder.startswith("4-")
    assert len(folder) < 60
    assert (await bench.run(session))[0].outcome == "succeeded"


async def test_signals_and_descriptors_are_as_at_a_login(bench: Bench) -> None:
    """A command begins with no signal blocked or ignored, the standard descriptors alone, nothing on stdin."""
    command = "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; cat; echo /proc/self/fd/*; umask"
    _, output = await bench.run(spec("a", command))
    blocked, ignored, *rest = output.split()
    of_the_c_library = 0b11 << 31  # posix_spawn of glibc leaves its own two signals ignored
    assert (int(blocked, 16), int(ignored, 16) & ~of_the_c_library) == (0, 0)
    assert [name.rpartition("/")[2] for name in rest] == ["0", "1", "2", "3", "0022"]  # 3 reads the folder


async def test_the_log_is_bounded(bench: Bench) -> None:
    """Of too much output the beginning and the end are kept, with a line between that counts what is left out."""
    session = spec("a", "for i in {1..20000}; do echo line $i; done; exit 7")
    end, output = await bench.run(session)
    assert len(output) <= 8192 + 100
    assert output.startswith("line 1\nline 2\n")
    assert output.endswith("line 19999\nline 20000\n")
    notes = [line for line in output.splitlines() if line.startswith("[trackbook: ")]
    assert len(notes) == 1
    everything = sum(len(f"line {i}\n") for i in range(1, 20001))
    assert int(notes[0].split()[1]) == everything - (len(output) - len(notes[0]) - 2)
    assert end.tail.endswith("line 20000\n")
    assert len(end.tail) <= 4096


async def test_a_tail_of_anything(bench: Bench) -> None:
    """Output that is no text still gives a report whose tail fits."""
    end, _ = await bench_bytes(bench, spec("a", "head -c 20000 /dev/urandom; exit 1"))
    assert 0 < len(end.tail.encode()) <= 4096


async def bench_bytes(bench: Bench, session: SessionSpec) -> tuple[ReportTaskEnded, bytes]:
    """Run a session to its end and return its end and its output as it is."""
    await bench.executor.launch(session)
    return await bench.reports.ended(session.task), bench.executor.log_path(session.session).read_bytes()


async def said(bench: Bench, session: SessionSpec, word: str, times: int = 1) -> None:
    """Wait until the command has written a line so often: a stop before it is ready ends it at once."""
    await bench.reports.started(session.task)
    log = bench.executor.log_path(session.session)
    await holds(lambda: log.read_text().split("\n").count(word) >= times)


async def test_what_is_left_behind_ends(bench: Bench) -> None:
    """A daemon that a command leaves behind, in a session of its own, ends before the task's end is reported."""
    session = spec("a", "setsid -f sh -c 'trap \"\" TERM; while :; do sleep 1000; done'; echo done")
    end, output = await bench.run(session)
    assert (end.outcome, output) == ("succeeded", "done\n")
    assert not find(session.session)


async def test_the_last_words_of_a_background_process_are_kept(bench: Bench) -> None:
    """A process substitution that the shell does not wait for still gets its output into the log."""
    _, output = await bench.run(spec("a", "exec > >(tr a-z A-Z); echo hello"))
    assert output == "HELLO\n"


async def test_stop_ends_the_whole_tree(bench: Bench) -> None:
    """Stop ends a tree that ignores TERM, a daemonised grandchild without our variables included."""
    deaf = "sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 1000; done'"
    session = spec(
        "a", f"trap '' TERM; setsid -f env -i {deaf}; {deaf} & echo $! > $PIPELINE_OUTPUTS/pid; {deaf}"
    )
    await bench.executor.launch(session)
    await said(bench, session, "deaf", 3)
    await bench.executor.stop(session)
    end = await bench.reports.ended("a")
    assert (end.outcome, end.signal) == ("cancelled", 9)
    assert not find(session.session)
    pid = int(bench.executor.outputs_dir(session).joinpath("pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_stop_lets_a_command_clean_up(bench: Bench) -> None:
    """A command that handles TERM can finish what it does, and counts as cancelled even if it exits with 0."""
    session = spec("a", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 1000; done")
    await bench.executor.launch(session)
    await said(bench, session, "ready")
    await bench.executor.stop(session)
    end = await bench.reports.ended("a")
    assert (end.outcome, end.exit_code) == ("cancelled", 0)
    assert end.tail.endswith("bye\n")


async def test_a_short_session_reports_once(bench: Bench) -> None:
    """A short session's start is reported with its end, in one report."""
    await bench.run(spec("a", "true"))
    assert len(bench.reports.all) == 1


async def test_files_are_private(bench: Bench) -> None:
    """What may hold a task's variables can be read by its owner alone."""
    session = spec("a", "true", variables={"TOKEN": "x"})
    await bench.run(session)
    folder = bench.executor.log_path(session.session).parent
    for name in ("spec.json", "claim", "exit", "log"):
        assert folder.joinpath(name).stat().st_mode & 0o077 == 0


async def test_many_at_once(bench: Bench) -> None:
    """A hundred sessions launched at once all end, each once."""
    sessions = [spec(f"t{number}", f"exit {number % 2}", index=number) for number in range(100)]
    await asyncio.gather(*(bench.executor.launch(session) for session in sessions))
    ends = [await bench.reports.ended(session.task) for session in sessions]
    assert [end.exit_code for end in ends] == [number % 2 for number in range(100)]
    assert len([1 for _, report in bench.reports.all if isinstance(report, ReportTaskEnded)]) == 100


async def test_a_session_starts_afresh(bench: Bench) -> None:
    """Nothing of a session reaches the next one in the same launcher: no directory, mask, mount or descriptor."""
    if not bench.executor.private_root:
        pytest.skip("a mount would be one of the machine's")
    look = "pwd -P; umask; echo /proc/self/fd/*; ls $PIPELINE_OUTPUTS /mnt"
    spoil = "umask 077; cd /; mount -t tmpfs x /mnt 2>/dev/null && touch /mnt/left; touch $PIPELINE_OUTPUTS/x"
    outputs = []
    for number in range(12):
        _, output = await bench.run(spec(f"t{number}", f"{look}; {spoil}", index=number))
        outputs.append(output)
    assert len(set(outputs)) == 1


def test_the_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor for benchmarks launches as many sessions as asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["floor", "5", "-P", "2"])
    floor.main()
    assert "ms each" in capsys.readouterr().out


async def test_a_launcher_ends_where_its_data_directory_was_deleted(bench: Bench, tmp_path: Path) -> None:
    """A result that nobody will ever ask for is not kept waiting for a place to be written to."""
    gate = tmp_path / "gate"
    session = spec("orphan", f"while [ ! -e {gate} ] && [ -e {tmp_path}/sessions ]; do sleep 0.05; done")
    await bench.executor.launch(session)
    await bench.reports.started("orphan")
    launcher = attempt_state.read_claim(tmp_path / "sessions" / session.session).pid
    await bench.executor.close()

    shutil.rmtree(tmp_path / "sessions")

    async with asyncio.timeout(60):
        while Path(f"/proc/{launcher}").exists():  # noqa: ASYNC110 - a process that isn't ours tells nobody
            await asyncio.sleep(0.05)
