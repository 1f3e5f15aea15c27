"""The wrapper of commands on a cluster unpacks the pipeline's code: a real script in real shells."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_backendai_wrapper import SHELLS, Session

from trackbook.adapters.backendai.session import observation, unpacking, wrapper
from trackbook.adapters.backendai.session.observation import Observation

FILES = {
    "main.py": "print('main')\n",
    "src/part": "one\n",
    "run.sh": "#!/bin/sh\necho ran\n",
    "x" * 120: "long\n",
}
Run = Callable[..., Session]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Give a shell that machines have as sh."""
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param} here")
    return SHELLS[request.param]


@pytest.fixture
def run(shell: str, tmp_path: Path) -> Run:
    """Run the wrapper with code, each attempt in a folder of its own."""

    def begin(command: str, code: str, attempt: str = "a", **environment: str) -> Session:
        folder = tmp_path / attempt
        folder.mkdir(exist_ok=True)
        (folder / "archives").symlink_to(tmp_path / "archives")
        return Session(shell, folder, command, code, **environment)

    return begin


@pytest.fixture
def code(tmp_path: Path) -> str:
    """Give the hash of an archive that is there."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("src")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, text in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755 if text.startswith("#!") else 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "src/part"
        archive.addfile(link)
    sha256 = hashlib.sha256(made.getvalue()).hexdigest()
    (tmp_path / "archives").mkdir()
    (tmp_path / f"archives/{sha256}.tar").write_bytes(made.getvalue())
    return sha256


def refusal(session: Session) -> tuple[int, str, str]:
    """Return exit code, error and fault of a session whose command must not run."""
    exit_code, output = session.ended()
    found = session.record()
    assert "the command is not run" in output
    assert found.tail.decode() == output
    verdict = observation.verdict(Observation(record=found))
    assert verdict
    assert (verdict.outcome, verdict.exit_code, verdict.started_at) == ("failed", None, None)
    assert found.exit_code == exit_code
    return exit_code, verdict.message, verdict.fault


def test_the_command_starts_in_the_code(run: Run, code: str) -> None:
    """Files, programs and links are in the working directory, which can be written; no other word is said."""
    command = f"pwd; cat link {'x' * 120}; ./run.sh; echo more >>src/part; rm main.py; mkdir new; cat src/part"
    session = run(command, code)

    assert session.ended() == (0, f"{session.work}\none\nlong\nran\none\nmore\n")
    assert sorted(path.name for path in session.work.iterdir()) == ["link", "new", "run.sh", "src", "x" * 120]
    assert session.record().problem == ""


def test_modes_are_kept(run: Run, code: str) -> None:
    """What could be run can be run, and nothing else."""
    session = run("for each in main.py run.sh src; do [ -x $each ] && [ -w $each ] && echo $each; done; :", code)

    assert session.ended() == (0, "run.sh\nsrc\n")
    assert not os.access(session.work / "main.py", os.X_OK)


def test_attempts_share_nothing(run: Run, code: str) -> None:
    """What one attempt writes to its copy is seen by no other one."""
    command = "ls src; touch src/mine; echo changed >src/part; cat src/part"

    assert [run(command, code, attempt).ended() for attempt in ("a", "b")] == [(0, "part\nchanged\n")] * 2


def test_files_and_mounts_beside_the_code_stay(run: Run, code: str, tmp_path: Path) -> None:
    """The code is unpacked among what the session has there already."""
    (tmp_path / "a/home/mount").mkdir(parents=True)
    (tmp_path / "a/home/mount/data").write_text("mine\n")

    assert run("cat mount/data main.py", code).ended() == (0, "mine\nprint('main')\n")


def test_a_long_command_starts_in_the_code(run: Run, code: str, tmp_path: Path) -> None:
    """One that is run from a file finds the code as well."""
    (tmp_path / "a/records").mkdir(parents=True)
    (tmp_path / "a/records/3-1.command").write_text("cat main.py\n")

    assert run("", code).ended() == (0, "print('main')\n")


def test_without_code_the_session_stays_where_it_is(run: Run) -> None:
    """Given no code; then the working directory is that in which the session begins."""
    assert run("pwd", "").ended() == (0, f"{Path.cwd()}\n")


def test_a_damaged_archive_is_refused(run: Run, code: str, tmp_path: Path) -> None:
    """Half of an archive, say: nothing of it is unpacked, and the command isn't run."""
    path = tmp_path / f"archives/{code}.tar"
    path.write_bytes(path.read_bytes()[:1024])
    session = run("echo no", code)

    exit_code, message, fault = refusal(session)

    assert (exit_code, fault) == (unpacking.BAD_ARCHIVE, "infrastructure")
    assert "is damaged: its SHA-256 is " in message
    assert session.record().lacks_code
    assert list(session.work.iterdir()) == []


def test_an_archive_that_is_not_there(run: Run, code: str, tmp_path: Path) -> None:
    """It is named, and the command isn't run."""
    (tmp_path / f"archives/{code}.tar").unlink()
    session = run("echo no", code)

    exit_code, message, fault = refusal(session)

    assert (exit_code, fault) == (unpacking.BAD_ARCHIVE, "infrastructure")
    assert message.endswith(f"{code}.tar is not there")
    assert session.record().lacks_code


@pytest.mark.parametrize("missing", ["tar", "sha256sum"])
def test_an_image_without_a_program_for_it(shell: str, run: Run, code: str, tmp_path: Path, missing: str) -> None:
    """The error names the program; another attempt would not help."""
    needed = (
        "dash bash busybox sh mkdir mkfifo date sleep tail head cat sed tr wc mv rm tee find grep tar sha256sum"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in set(needed.split()) - {missing}:
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    skip_with(shell, missing)

    exit_code, message, fault = refusal(run("echo no", code, PATH=str(programs)))

    assert (exit_code, fault) == (unpacking.NO_TOOL, "permanent")
    assert message == f"the code can't be unpacked: the image has no {missing}"


def skip_with(shell: str, program: str) -> None:
    """Skip where the shell has the program in itself, whatever lies in PATH."""
    asked = subprocess.run([*shell.split(), "-c", f"PATH=/nowhere; command -v {program}"], check=False)
    if asked.returncode == 0:
        pytest.skip(f"{shell} has {program} in itself")


def test_what_tar_says_is_the_error(run: Run, code: str, tmp_path: Path) -> None:
    """Given a file where the code has a folder; when it can't be unpacked; then the error says why."""
    (tmp_path / "a/home/main.py/full").mkdir(parents=True)

    exit_code, message, fault = refusal(run("echo no", code))

    assert (exit_code, fault) == (unpacking.NOT_UNPACKED, "infrastructure")
    assert "tar failed in " in message
    assert "main.py" in message


def test_a_full_disk_is_reported(shell: str, run: Run, code: str, tmp_path: Path) -> None:
    """Given a tar that fails as on a full disk, with a line for each file; then the first lines are the error."""
    programs = tmp_path / "programs"
    programs.mkdir()
    said = "echo 'tar: ./a: No space left on device' >&2; echo >&2; " * 200
    (programs / "tar").write_text(f"#!/bin/sh\n{said}\nexit 2\n")
    (programs / "tar").chmod(0o755)
    skip_with(shell, "tar")

    exit_code, message, _ = refusal(run("echo no", code, PATH=f"{programs}:{os.environ['PATH']}"))

    assert exit_code == unpacking.NOT_UNPACKED
    assert "No space left on device" in message
    assert len(message) < 700


def test_the_wrapper_leaves_room_for_long_commands() -> None:
    """With code, too, a command of 50,000 bytes is no file of its own."""
    assert wrapper.fits(wrapper.startup("3-1", 1, "x" * 50_000, code="1" * 64))
