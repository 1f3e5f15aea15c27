"""The script that runs a command in a container, in process namespaces of its own and in the shells of images."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conditions import wait_until
from trainings import COUNT, DIES, WAITS

from trackbook.adapters.container.plan import RUN

SHELLS = {"bash": ["bash", "-p"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


class Container:
    """A run of the script as the first process of a namespace, or as the child of an init process in one."""

    def __init__(self, shell: list[str], folder: Path, command: str, *, init: bool = False) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir(exist_ok=True)
        self._log = folder / "log"
        inside = [
            *shell,
            "-c",
            RUN,
            "/bin/sh" if shell[0] == "busybox" else shell[0],
            "-c",
            command,
        ]
        outside = (
            [
                "bash",
                "-c",
                'trap "kill -TERM \\$!" TERM; "$@" & while kill -0 $!; do wait $!; done 2>/dev/null',
                "init",
            ]
            if init
            else []
        )
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*NAMESPACE, *outside, *inside],
                cwd=folder,
                env={
                    "PATH": os.environ["PATH"],
                    "PIPELINE_OUTPUTS": str(self.shared),
                    "PIPELINE_VFROOT": str(self.shared),
                },
                stdout=log,
                stderr=log,
            )

    @property
    def said(self) -> list[str]:
        """The lines of its output."""
        return self._log.read_text().splitlines()

    def terminate(self) -> None:
        """Send SIGTERM to the first process, as engines do."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGTERM)

    def ended(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(60)


Run = Callable[..., Container]


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run the script in a shell that images have as sh, or in bash."""
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param} here")
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("process namespaces can't be made here")

    def begin(command: str, *, init: bool = False) -> Container:
        return Container(SHELLS[request.param], tmp_path, command, init=init)

    return begin


@pytest.mark.parametrize("init", [False, True], ids=["first", "below init"])
@pytest.mark.parametrize("command", [WAITS, DIES], ids=["waits", "dies"])
def test_what_a_handler_starts_is_left_alone(run: Run, command: str, init: bool) -> None:
    """All that runs gets SIGTERM once, what handlers start gets none, and the end comes when all are done."""
    session = run(command, init=init)
    wait_until(lambda: session.said.count("ready") == COUNT)
    session.terminate()
    wait_until(lambda: session.said.count("saving") == COUNT)
    session.terminate()
    (session.shared / "save").touch()
    session.ended()
    checkpoints = session.shared.glob("checkpoint-*")
    assert [path.read_text() for path in checkpoints] == ["saved\n"] * COUNT
    assert session.said.count("saving") == COUNT


def test_the_end_of_a_command_is_its_own(run: Run) -> None:
    """The exit code is that of the command, or stands for its signal; nothing is added to its output."""
    for command, code in {
        "exit 3": 3,
        "kill -9 $$": 137,
        "kill -TERM $$": 143,
        "true": 0,
        "nowhere-at-all": 127,
    }.items():
        session = run(command)
        assert session.ended() == code
        assert command == "nowhere-at-all" or session.said == []


def test_a_command_sees_nothing_of_the_script(run: Run) -> None:
    """Neither variables nor descriptors of the script reach the command; its input is empty."""
    session = run("env; cat; ls /proc/self/fd | tail -n 1")
    assert session.ended() == 0
    assert "_tb_" not in "".join(session.said)
    assert session.said[-1] == "3"  # the folder that is listed


def test_a_command_can_be_interrupted(run: Run, request: pytest.FixtureRequest) -> None:
    """SIGINT is not ignored in bash, as it is in a shell's background."""
    session = run("trap 'echo interrupted; exit 4' INT; kill -INT $$; exit 5")
    assert session.ended() == (4 if "[bash]" in request.node.name else 5)
