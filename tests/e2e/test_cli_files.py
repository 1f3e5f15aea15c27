"""`trackbook files` against a running server, and what it does where something goes wrong in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, finish, folder_of_letters, run_letters

LARGE = 48 * 1024 * 1024
PATIENCE = 60.0


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """One server for all that don't stop it, with a pipeline `letters` that has run."""
    command_line = CommandLine(tmp_path_factory.mktemp("home"))
    with command_line.up():
        run_letters(command_line)
        yield command_line


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so on disk, which tells nobody."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def parts(place: Path) -> list[Path]:
    """Return what is written there and not whole yet, which may be renamed while we look."""
    return list(place.glob(".*.part"))


def test_what_tasks_wrote_is_listed_printed_and_fetched(cli: CommandLine) -> None:
    """By the pipeline's folder or by job and task; blanks and other scripts are names like others."""
    job = cli.json("job", "list")[0]["id"]
    task = ("--job", job[:6], "--task", "write")

    assert cli("files", "list", "letters").splitlines() == ["jobs/", "vfroot/"]
    assert cli("files", "list", "letters:/vfroot/").splitlines() == ["notes"]
    assert cli("files", "list", "letters:vfroot/notes").splitlines() == ["notes"]
    assert cli("files", "list", *task).splitlines() == ["sub/", "two words"]
    assert cli("files", "list", *task, "-r").splitlines() == ["sub/", "sub/한글", "two words"]
    long = cli("files", "list", *task, "sub", "--long").splitlines()
    assert long[0].split() == ["SIZE", "CHANGED", "NAME"]
    assert long[1].startswith("7 bytes")
    assert [entry["path"] for entry in cli.json("files", "list", *task, "-r")] == ["sub", "sub/한글", "two words"]
    assert cli("files", "cat", "letters:vfroot/notes") == "shared\n"
    assert cli("files", "cat", "two words", *task) == "dear\n"

    assert "two words → two words, 5 bytes" in cli("files", "get", "two words", *task)
    assert (cli.home / "two words").read_text() == "dear\n"
    assert "2 files got, 12 bytes: outputs" in cli("files", "get", ".", "outputs", *task)
    assert (cli.home / "outputs" / "sub" / "한글").read_text() == "한글\n"
    got = cli("files", "get", ".", "outputs", *task)
    assert "2 of them were there already" in got
    _, err = cli.both("files", "list", "--job", job, code=1)
    assert "--task TASK, one of: write, read" in err


def test_a_folder_is_fetched_however_its_accents_are_composed(cli: CommandLine) -> None:
    """A folder that a Mac named is listed and fetched with all below it, by the name that people type."""
    composed, decomposed = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    place = folder_of_letters(cli) / "vfroot" / decomposed / decomposed
    place.mkdir(parents=True)
    (place / "notes").write_text("sea\n")

    for typed in (composed, decomposed):
        spot = f"letters:vfroot/{typed}"
        assert cli("files", "list", spot, "-r").splitlines() == [f"{decomposed}/", f"{decomposed}/notes"]
        assert cli("files", "cat", f"{spot}/{typed}/notes") == "sea\n"
        cli("files", "get", spot, f"by-{len(typed)}")
        assert (cli.home / f"by-{len(typed)}" / decomposed / "notes").read_text() == "sea\n"
    (cli.home / "more").write_text("more\n")
    cli("files", "put", "more", f"letters:vfroot/{composed}")
    assert (place.parent / "more").read_text() == "more\n"
    cli("files", "remove", f"letters:vfroot/{composed}", "--recursive")
    assert not place.parent.exists()


def test_a_download_overwrites_only_when_reported(cli: CommandLine) -> None:
    """Before anything is fetched it says what is in the way."""
    target = cli.home / "kept"
    (target / "vfroot").mkdir(parents=True)
    (target / "vfroot" / "notes").write_text("mine")
    _, err = cli.both("files", "get", "letters:", "kept", code=1)

    assert "kept/vfroot/notes is there already" in err
    assert "--force" in err
    assert list(target.iterdir()) == [target / "vfroot"]
    assert "3 files got" in cli("files", "get", "letters:", "kept", "--force")
    assert (target / "vfroot" / "notes").read_text() == "shared\n"
    assert parts(target / "vfroot") == []
    (cli.home / "folder" / "notes").mkdir(parents=True)
    _, err = cli.both("files", "get", "letters:vfroot/notes", "folder", "--force", code=1)
    assert "folder/notes is a folder" in err


def test_what_is_put_is_there_and_can_be_removed(cli: CommandLine) -> None:
    """A file goes under the name it is given, or its own into a folder; a folder with all that is in it."""
    source = cli.home / "data set"
    (source / "deep").mkdir(parents=True)
    for name in ("a b", "deep/한글"):
        (source / name).write_text(name)
    (source / "link").symlink_to("deep")
    (source / "dead").symlink_to("nowhere")

    assert "a b → letters:vfroot/new name, 3 bytes" in cli(
        "files", "put", "data set/a b", "letters:vfroot/new name"
    )
    assert "→ letters:vfroot/a b, 3 bytes" in cli("files", "put", "data set/a b", "letters:vfroot")
    out, err = cli.both("files", "put", "data set", "letters:vfroot/")
    assert "2 files put, 14 bytes: letters:vfroot/data set" in out
    assert "link is left out" in err
    assert "dead is left out" in err
    assert cli.json("files", "put", "data set/a b", "letters:vfroot/x/y") == [
        {"from": "data set/a b", "to": "letters:vfroot/x/y", "size": 3}
    ]
    found = cli("files", "list", "letters:vfroot", "-r").splitlines()
    assert found == [
        "a b", "data set/", "data set/a b", "data set/deep/", "data set/deep/한글", "new name", "notes",
        "x/", "x/y",
    ]  # fmt: skip
    assert cli("files", "cat", "letters:vfroot/data set/deep/한글") == "deep/한글"
    _, err = cli.both("files", "remove", "letters:vfroot/data set", code=1)
    assert "--recursive" in err
    for name in ("data set", "x", "new name", "a b"):
        assert "is deleted" in cli("files", "remove", f"letters:vfroot/{name}", "-r")
    assert cli("files", "list", "letters:vfroot").splitlines() == ["notes"]


def test_programs_are_put_and_fetched_as_such(cli: CommandLine) -> None:
    """The executable bit is carried both ways, also to a file that an earlier download left without it."""
    source = cli.home / "tools"
    source.mkdir()
    for name, mode in (("program", 0o755), ("text", 0o644)):
        (source / name).write_text("#!/bin/sh\necho it runs\n")
        (source / name).chmod(mode)
    _, err = cli.both("files", "put", "tools", "letters:vfroot/")
    there = folder_of_letters(cli) / "vfroot" / "tools"

    assert "executable" not in err
    assert [os.access(there / name, os.X_OK) for name in ("program", "text")] == [True, False]
    listed = cli.json("files", "list", "letters:vfroot/tools")
    assert [entry["executable"] for entry in listed] == [True, False]
    back = cli.home / "back" / "tools"
    back.parent.mkdir()
    cli("files", "get", "letters:vfroot/tools", "back")
    assert subprocess.check_output([back / "program"]) == b"it runs\n"
    assert not os.access(back / "text", os.X_OK)
    (back / "program").chmod(0o644)
    cli("files", "get", "letters:vfroot/tools", "back")
    assert os.access(back / "program", os.X_OK)
    cli("files", "remove", "letters:vfroot/tools", "-r")


def test_stdin_becomes_a_file(cli: CommandLine) -> None:
    """Its name must be said."""
    command = [sys.executable, "-m", "trackbook", "files", "put", "-"]
    for place, code in (("letters:vfroot/from stdin", 0), ("letters:vfroot/", 2)):
        done = subprocess.run(
            [*command, place], input=b"piped", env=cli.environment, cwd=cli.home, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert cli("files", "cat", "letters:vfroot/from stdin") == "piped"
    cli("files", "remove", "letters:vfroot/from stdin")


REFUSED: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("list",), 2, "name the pipeline"),
    (("list", "letters@1"), 2, "leave out @1"),
    (("list", "letters", "--task", "a"), 2, "name the job"),
    (("list", "x", "--job", "y", "--executor", "local"), 2, "leave it out"),
    (("list", "nothing"), 1, "there is no pipeline 'nothing'"),
    (("list", "letters", "--executor", "nothing"), 1, "there is no executor 'nothing'"),
    (("list", "letters:nothing"), 1, "no_such_file"),
    (("cat", "letters:vfroot"), 1, "is a folder"),
    (("cat", "letters:../../engine.db"), 1, "unsafe_path"),
    (("get", "letters:vfroot/nothing"), 1, "no_such_file"),
    (("put", "nothing", "letters:vfroot/"), 1, "there is no file nothing"),
    (("put", "letters.yaml", "letters:../x"), 1, "unsafe_path"),
    (("remove", "letters:vfroot/nothing"), 1, "no_such_file"),
    (("remove", "letters:", "-r"), 1, "unsafe_path"),
)


@pytest.mark.parametrize(("words", "code", "reported"), REFUSED, ids=[" ".join(each[0]) for each in REFUSED])
def test_what_is_refused_is_reported(cli: CommandLine, words: tuple[str, ...], code: int, reported: str) -> None:
    """With the exit codes of all commands."""
    _, err = cli.both("files", *words, code=code)

    assert reported in " ".join(err.replace("│", " ").split())


def test_names_that_don_t_print_can_t_play_with_the_terminal(cli: CommandLine) -> None:
    """A task may call a file what it likes; a listing shows escapes as text, JSON has the name itself."""
    name = "red \x1b[31m\nnext"
    (folder_of_letters(cli) / "vfroot" / name).write_text("x")

    assert cli("files", "list", "letters:vfroot").splitlines() == ["notes", "red \\x1b[31m\\nnext"]
    assert [entry["name"] for entry in cli.json("files", "list", "letters:vfroot")] == ["notes", name]
    assert "\x1b" not in cli("files", "remove", f"letters:vfroot/{name}")


def large(cli: CommandLine) -> Path:
    """Make a large file in the pipeline's vfroot."""
    place = folder_of_letters(cli) / "vfroot" / "large"
    place.write_bytes(os.urandom(1024 * 1024) * (LARGE // (1024 * 1024)))
    return place


def test_a_download_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    """kill -9 in the middle, and a server that comes back: the file is whole, and only then there."""
    cli = CommandLine(tmp_path)
    with cli.up() as server:
        run_letters(cli)
        source = large(cli)
        # The reader of a pipe that is not emptied stands still in the middle.
        with cli.begin("files", "cat", "letters:vfroot/large") as reading:
            assert reading.stdout is not None
            stream = reading.stdout.buffer  # type: ignore[attr-defined]
            first = stream.read(1024 * 1024)
            server.kill()
            server.wait()
            rest: list[bytes] = []
            reader = threading.Thread(target=lambda: rest.append(stream.read()))
            reader.start()
            with cli.up():
                reader.join(PATIENCE)
                assert not reader.is_alive()
                assert reading.wait(PATIENCE) == 0
        assert first + rest[0] == source.read_bytes()


def test_a_download_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit code 130, no file and no part of one."""
    cli = CommandLine(tmp_path)
    with cli.up():
        run_letters(cli)
        large(cli)
        target = tmp_path / "target"
        target.mkdir()
        for _ in range(20):
            with cli.begin("files", "get", "letters:vfroot/large", "target") as getting:
                until(lambda: parts(target) or getting.poll() is not None)
                getting.send_signal(signal.SIGINT)
                finish(getting)
            assert parts(target) == []
            if getting.returncode == 130:
                break
            (target / "large").unlink()  # it was quicker
        else:
            pytest.fail("it was always quicker")

        assert list(target.iterdir()) == []


def test_an_upload_in_the_middle_of_which_the_server_is_killed_is_whole_in_the_end(tmp_path: Path) -> None:
    """Nothing of the half is ever seen, and the next server takes the whole."""
    cli = CommandLine(tmp_path)
    file = tmp_path / "large"
    file.write_bytes(os.urandom(1024 * 1024) * (LARGE // (1024 * 1024)))
    with cli.up() as server:
        run_letters(cli)
        place = folder_of_letters(cli)
        with cli.begin("files", "put", "large", "letters:vfroot/large") as putting:
            until(lambda: any((place / ".trackbook" / "uploads").glob("*")))
            server.kill()
            server.wait()
            assert [path.name for path in (place / "vfroot").iterdir()] == ["notes"]
            with cli.up():
                out, err = finish(putting)
                assert putting.returncode == 0, err
                assert "letters:vfroot/large, 48 MiB" in out
    assert (place / "vfroot" / "large").read_bytes() == file.read_bytes()
    assert list((place / ".trackbook" / "uploads").iterdir()) == []


def test_a_large_upload_that_is_refused_says_why(cli: CommandLine) -> None:
    """The bytes need not be sent to hear it, and it is not tried again."""
    file = cli.home / "large"
    file.write_bytes(bytes(LARGE))
    (folder_of_letters(cli) / "vfroot" / "taken" / "large").mkdir(parents=True)
    for place, reported in (("letters:../large", "unsafe_path"), ("letters:vfroot/taken/", "is a folder")):
        began = time.monotonic()
        _, err = cli.both("files", "put", "large", place, code=1)
        assert reported in err
        assert time.monotonic() - began < PATIENCE / 3
    shutil.rmtree(folder_of_letters(cli) / "vfroot" / "taken")


def test_completion_knows_paths_and_executors(cli: CommandLine) -> None:
    """After PIPELINE: come what is in the folder, folders with a '/'."""
    offered = complete(cli, "files", "list", "let")
    assert "letters:" in offered
    assert complete(cli, "files", "cat", "letters:v") == ["letters:vfroot/"]
    assert complete(cli, "files", "cat", "letters:vfroot/n") == ["letters:vfroot/notes"]
    assert complete(cli, "files", "list", "--executor", "lo") == ["local"]
    assert complete(cli, "files", "list", "nothing:x") == []


def complete(cli: CommandLine, *words: str) -> list[str]:
    """Return what fish would be offered."""
    line = " ".join(("trackbook", *words))
    return cli(
        _TRACKBOOK_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args", _TYPER_COMPLETE_ARGS=line
    ).split()


def test_executors_and_folders_are_listed_over_http(cli: CommandLine) -> None:
    """The real server knows the executors that are configured."""
    import urllib.request

    request = urllib.request.Request(f"{cli.server_url()}/api/executors", headers=cli.server_headers())
    with urllib.request.urlopen(request) as answer:
        items = json.load(answer)["items"]

    assert {"name": "local", "kind": "local", "default": True} in items
