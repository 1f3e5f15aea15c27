"""The wrapper of commands on a cluster: a real script in real shells."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trackbook.adapters.backendai.session import exit_record, multiline_variables, wrapper

SHELLS = {"dash": "dash", "bash": "bash --posix", "busybox": "busybox sh"}
Run = Callable[..., "Session"]


class Session:
    """One run of the wrapper in a shell, as a session does it."""

    def __init__(self, shell: str, folder: Path, command: str, code: str = "", **environment: str) -> None:
        self.records = folder / "records"
        self.outputs = folder / "outputs"
        self.work = folder / "home"
        for made in (self.records, self.outputs, self.work):
            made.mkdir(parents=True, exist_ok=True)
        text = wrapper.startup(
            "3-1",
            1,
            command,
            records=str(self.records),
            outputs=str(self.outputs),
            code=code,
            archives=str(folder / "archives"),
            work=str(self.work),
        )
        assert text.startswith("exec sh -c ")
        self.process = subprocess.Popen(
            [*shell.split(), "-c", text.replace("exec sh -c", f"exec {shell} -c", 1)],
            env={"PATH": os.environ["PATH"], "BACKENDAI_SESSION_ID": "s1", "BACKENDAI_KERNEL_ID": "k1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to the session's own output."""
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output.decode()

    def has(self, name: str) -> Path:
        """Wait until there is a record, and return it."""
        path = self.records / name
        until = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < until, f"{name} did not come"
            time.sleep(0.01)
        return path

    def record(self) -> exit_record.SessionRecord:
        """Return the exit record."""
        return exit_record.read_record((self.records / "3-1.exit").read_bytes())


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run the wrapper in a shell that machines have as sh."""
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param} here")

    def begin(command: str, **environment: str) -> Session:
        return Session(SHELLS[request.param], tmp_path, command, **environment)

    return begin


def test_a_result_is_in_the_record_by_its_size(run: Run, tmp_path: Path) -> None:
    """So that the executor asks for the file where there is one, and for none that is too large."""
    session = run(f"printf '[1, 2]' >{tmp_path}/outputs/result.json")
    assert session.ended() == (0, "")
    assert session.record().result == 6


def test_end_of_a_command(run: Run) -> None:
    """The record has exit code, times, who ran it and output; the session ends as the command did."""
    session = run('echo "it\'s done"; echo aside >&2; exit 3')
    assert session.ended() == (3, "it's done\naside\n")
    found = session.record()
    assert (found.exit_code, found.signal, found.stopped, found.attempt) == (3, None, False, 1)
    assert (found.session, found.kernel) == ("s1", "k1")
    assert found.result is None
    assert (found.size, found.tail) == (16, b"it's done\naside\n")
    assert found.started_at
    assert found.started_at <= found.ended_at
    assert (session.records / "3-1.log").read_bytes() == found.tail
    claim = exit_record.read_claim((session.records / "3-1.claim/by").read_bytes())
    assert (claim.session, claim.kernel, claim.started_at) == ("s1", "k1", found.started_at)
    assert list(session.records.glob("*.new")) == []


def test_success(run: Run) -> None:
    """A command that does nothing succeeds, and says nothing."""
    session = run(":")
    assert session.ended() == (0, "")
    assert (session.record().exit_code, session.record().tail) == (0, b"")


def test_an_attempt_runs_once(run: Run) -> None:
    """A second session of the attempt runs nothing, says so by its exit code, and leaves all as it is."""
    first = run("echo once")
    first.ended()
    before = {path: path.read_bytes() for path in first.records.rglob("*") if path.is_file()}
    code, output = run("echo twice", BACKENDAI_SESSION_ID="s2").ended()
    assert (code, "not run again" in output) == (wrapper.TAKEN, True)
    assert {path: path.read_bytes() for path in first.records.rglob("*") if path.is_file()} == before


def test_sessions_race_for_an_attempt(run: Run, tmp_path: Path) -> None:
    """Of many sessions at once one alone runs the command."""
    count = tmp_path / "count"
    codes = [
        session.ended()[0]
        for session in [run(f"echo x >>{count}", BACKENDAI_SESSION_ID=f"s{number}") for number in range(8)]
    ]
    assert sorted(codes) == [0] + [wrapper.TAKEN] * 7
    assert count.read_text() == "x\n"


def test_withdrawn_attempt(run: Run, tmp_path: Path) -> None:
    """An attempt whose claim somebody else has made never runs."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records/3-1.claim").mkdir()
    session = run("echo no")
    assert session.ended()[0] == wrapper.TAKEN
    assert not (session.records / "3-1.exit").exists()


def test_without_the_folder(run: Run, tmp_path: Path) -> None:
    """Where there is no folder of records the command is not run."""
    (tmp_path / "records").write_text("a file")
    with pytest.raises(FileExistsError):
        run("echo no")
    (tmp_path / "records").unlink()
    session = run("sleep 0")
    session.ended()
    shutil.rmtree(session.records)
    session.records.symlink_to("nowhere")
    text = wrapper.startup("3-1", 1, "echo no", records=str(session.records / "x"), outputs="/")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (wrapper.UNWRITABLE, "")


@pytest.mark.parametrize("whole", [False, True], ids=["the wrapper", "all"])
def test_terminated(run: Run, whole: bool) -> None:
    """A session that is terminated ends its command, and says so in the record."""
    session = run("echo begun; exec sleep 1000")
    log = session.has("3-1.log")
    until = time.monotonic() + 10
    while log.read_text() != "begun\n":
        assert time.monotonic() < until
        time.sleep(0.01)
    if whole:
        os.killpg(session.process.pid, signal.SIGTERM)
    else:
        session.process.terminate()
    assert session.ended() == (128 + signal.SIGTERM, "begun\n")
    assert (session.record().signal, session.record().exit_code, session.record().stopped) == (15, None, True)


def test_a_command_may_end_well_when_terminated(run: Run) -> None:
    """What a command makes of the signal is its own matter."""
    session = run("trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
    session.has("3-1.alive")
    until = time.monotonic() + 10
    while session.has("3-1.log").read_text() != "begun\n":
        assert time.monotonic() < until
        time.sleep(0.01)
    session.process.terminate()
    assert session.ended() == (0, "begun\nbye\n")
    assert session.record().exit_code == 0


def test_killed_command(run: Run) -> None:
    """A command that is killed is recorded with the signal, and nobody had it stopped."""
    session = run("kill -9 $$")
    assert session.ended()[0] == 137
    assert (session.record().signal, session.record().stopped) == (9, False)


def test_killed_wrapper(run: Run) -> None:
    """A wrapper that is killed leaves a claim and no record, and its sign of life stays as it is."""
    session = run("sleep 1000")
    session.has("3-1.claim/by")
    session.has("3-1.alive")
    os.killpg(session.process.pid, signal.SIGKILL)
    session.ended()
    assert not (session.records / "3-1.exit").exists()


def test_long_commands_stand_in_a_file(run: Run, tmp_path: Path) -> None:
    """An empty command means the file beside the records."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records/3-1.command").write_text("# long\n" * 40_000 + "echo from a file; exit 4\n")
    assert run("").ended() == (4, "from a file\n")


def test_the_command_sees_only_what_it_is_given(run: Run) -> None:
    """The wrapper's own variables and arguments are no part of the command's environment."""
    code, output = run('env; echo "args: $*"', MINE="1").ended()
    assert code == 0
    assert "MINE=1\n" in output
    assert "_tb_" not in output
    assert output.endswith("args: \n")


def test_the_record_has_the_end_of_long_output(run: Run) -> None:
    """Of long output the record has the end, and its whole size."""
    session = run(
        "i=0; while [ $i -lt 2000 ]; do echo 'a line of some fifty characters, as programs write them'; "
        "i=$((i + 1)); done; echo end"
    )
    assert session.ended()[0] == 0
    found = session.record()
    assert found.size == 2000 * 56 + 4
    assert len(found.tail) == wrapper.TAIL
    assert found.tail.endswith(b"\nend\n")


def test_what_the_command_leaves_running_does_not_hold_the_end_up(run: Run) -> None:
    """The end of the command is the end of the session, whoever else has its output open."""
    session = run("sleep 1000 & echo begun")
    began = time.monotonic()
    session.has("3-1.exit")
    assert time.monotonic() - began < 8
    os.killpg(session.process.pid, signal.SIGKILL)
    session.ended()
    assert session.record().exit_code == 0
    assert session.record().tail == b"begun\n"


def test_a_session_whose_command_is_started_twice_ends_as_the_first_start(run: Run, tmp_path: Path) -> None:
    """A manager may make one container twice: the second start waits for the first, and ends with its code."""
    go = tmp_path / "go"
    first = run(f"until [ -e {go} ]; do sleep 0.05; done; echo x >>{tmp_path}/count; exit 3")
    first.has("3-1.claim/by")
    second = run("echo never", BACKENDAI_SESSION_ID="s1")
    assert second.process.stdout
    assert b"waiting for its end" in second.process.stdout.readline()
    assert second.process.poll() is None
    go.touch()
    assert first.ended()[0] == 3
    assert second.ended() == (3, "")
    assert (tmp_path / "count").read_text() == "x\n"


def test_the_second_start_ends_by_the_signal_of_the_first(run: Run) -> None:
    """An end by a signal is an end as any other."""
    first = run("kill -9 $$")
    first.ended()
    assert run("echo never").ended()[0] == 137


def test_variables_with_line_breaks(run: Run) -> None:
    """What an agent would cut arrives whole: line breaks at any place, backslashes, and text beside them."""
    values = {
        "LINES": "one\ntwo=2\n\nfour\n\n",
        "SLASHES": "a\\nb\\\\c\\0101\nd",
        "OTHERS": "a\r\nb\vc\fd\x1ce\x85f\u2028g",
        "QUOTES": 'it\'s "$HOME" `x`\n%s%b',
        "PLAIN": "a\\nb%s",
    }
    sent = multiline_variables.escape(values)
    assert all(len(value.splitlines()) == 1 for value in sent.values())
    assert sent["PLAIN"] == values["PLAIN"]
    shown = "".join(f'printf "%s\\0" "${name}"; ' for name in values)
    code, output = run(f'{shown} echo "${{{multiline_variables.NAMES}-unset}}"', **sent).ended()
    assert code == 0
    assert output.split("\0") == [*values.values(), "unset\n"]


def test_commands_that_look_like_options(run: Run) -> None:
    """A command that begins with - or + is a command, which there is not."""
    assert run("--version").ended()[0] == 127


def test_a_stop_that_is_asked_for_lets_the_command_save_its_work(run: Run) -> None:
    """SIGTERM reaches what the command's shell runs, whose handlers have time; the shell's own end is no end."""
    child = "trap 'sleep 2; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    session = run(f"sh -c {shlex.quote(child)}\necho never")
    until_log(session, b"ready")
    ask_to_stop(session, 30)
    code, output = session.ended()
    found = session.record()
    assert found.stopped
    assert "saved" in output
    assert found.tail.endswith(b"saved\n")
    assert code in (0, 143)


def test_what_a_handler_starts_is_let_be(run: Run, tmp_path: Path) -> None:
    """SIGTERM is sent once, to what lived then: a child that a handler starts is not sent another."""
    made = tmp_path / "outputs/checkpoint"
    save = f"trap 'sh -c \"sleep 2; echo whole >{made}\"; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    session = run(save)
    until_log(session, b"ready")
    ask_to_stop(session, 30)
    assert session.ended()[0] == 5
    assert made.read_text() == "whole\n"
    assert (session.record().exit_code, session.record().stopped) == (5, True)


def test_what_ignores_the_stop_is_killed_after_the_grace(run: Run) -> None:
    """With all that it has started; the record says so."""
    session = run("trap '' TERM; sh -c \"echo ready; while :; do sleep 0.1; done\"; echo never")
    until_log(session, b"ready")
    ask_to_stop(session, 1)
    assert session.ended() == (137, "ready\n")
    assert (session.record().signal, session.record().stopped) == (signal.SIGKILL, True)


def ask_to_stop(session: Session, grace: int) -> None:
    """Leave the request as the storage proxy does, whole at once."""
    (session.records / "new").write_text(f"{grace}\n")
    (session.records / "new").rename(session.records / "3-1.stop")


def until_log(session: Session, words: bytes) -> None:
    """Wait until the command has written something."""
    log = session.has("3-1.log")
    until = time.monotonic() + 30
    while words not in log.read_bytes():
        assert time.monotonic() < until, f"{words!r} did not come"
        time.sleep(0.01)
