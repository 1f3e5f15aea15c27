"""Whatever is typed, in whatever locale, is answered in words and with an exit code of the contract."""

# ruff: noqa: E501
from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import typer
from cli_server import Answer, Asked, FakeServer, job_row, serving, task_row
from seed import SEED

from trackbook.cli import main

CODES = {0, 1, 2, 130}
TEXTS = (
    "", "a", "1", "-1", "0", "9" * 30, "1e999", "nan", "--", "-", "---x", "=", "A=1", "=1", "A=", "é=漢", "pé@1", "p@", "@1",
    f"p@{'9' * 400}", "p:vfroot/x", ":", "p:", "../..", "/", "/dev/null/x", "/proc/self/mem", ".", "*", "\x1b[31m", "\u202e",
    "a\nb", "\t", "📦" * 50, "e\u0301", "x" * 5000, os.fsdecode(b"\xff\xfe"), os.fsdecode(b"A=\xff"), "2026-13-01", "1h", "-1h",
    "9999-12-31T23:59:59Z", "now", "[]", "{", "%s", "%00", "$(x)", "always", "http://[::1", "http://127.0.0.1:99999",
    "127.0.0.1:99999", "local", "succeeded", "JobFailed", "job", "cpu=1", "a: b", "a:b:c",
)  # fmt: skip
ENCODINGS = ("utf-8", "ascii", "latin-1")
STAYS = {"--follow", "--watch", "--wait", "--detach", "--install-completion", "--show-completion", "--url"}
"""Options with which a command waits for what never comes here, or leaves something behind."""
RUNS = {"up", "serve", "run"}
"""Commands that start a system where they find none; what they refuse is tried by the others too."""
_ROUNDS = 8


class Server(FakeServer):
    """Has one pipeline and one job, both with names in several scripts."""

    def answer(self, asked: Asked) -> Answer:
        """Answer what is asked."""
        if "/api/commands/" in asked.path:
            error = {"code": "refused", "message": "pé-漢 is refused", "path": "tâsk", "hint": "Try é."}
            return Answer({"command_id": "c", "status": "rejected", "error": error}, 422)
        if asked.path.endswith(("/logs", "/yaml", "/content")):
            return Answer(text="é漢\x1b[31m\n")
        if asked.path.endswith("/tasks"):
            return Answer({"items": [task_row("tâsk")], "next": None})
        if asked.path == "/api/jobs":
            return Answer({"items": [job_row(pipeline_name="pé-漢")], "next": None})
        if asked.path.startswith("/api/jobs/") and asked.path.count("/") == 3:
            return Answer(job_row(pipeline_name="pé-漢"))
        return Answer({"error": {"code": "not_found", "message": f"nothing at é {asked.path}"}}, 404)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that answers everything."""
    monkeypatch.setattr("cli_server.FakeServer", Server)
    with serving({}) as server:
        yield server


def commands(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command's name and its definition."""
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from commands(below, (*before, name))
        else:
            yield (*before, name), below


def arguments(draw: Random, command: Any) -> list[str]:
    """Return arguments for a command, many of them odd."""
    found: list[str] = []
    for parameter in command.params:
        options = [option for option in parameter.opts if option.startswith("-")]
        if not options:
            found += [draw.choice(TEXTS) for _ in range(draw.choice((0, 1, 1, 1, 2)))]
        elif not STAYS.intersection(options) and draw.random() < 0.3:
            found.append(draw.choice(options))
            if not getattr(parameter, "is_flag", False):
                found.append(draw.choice(TEXTS))
    return found


def run(argv: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run the real entry point with streams of an encoding; returns the exit code and what stderr got."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["trackbook", *argv])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding=encoding))
        with pytest.raises(SystemExit) as ended:
            main.main()
        err.flush()
    assert isinstance(ended.value.code, int)
    return ended.value.code, err.buffer.getvalue().decode(encoding)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the process would end here
def test_no_argument_ends_in_a_traceback(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each command refuses what it can't use, in ASCII, Latin-1 and UTF-8, with an exit code of the contract."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("trackbook.cli.client.http_client.PATIENCE", 0.0)
    draw = Random(SEED)
    whole = typer.main.get_command(main.app)
    monkeypatch.setattr(main, "app", whole)  # it would be made again for each call
    for path, command in commands(whole):
        for round_ in range(_ROUNDS):
            given = arguments(draw, command)
            if path[0] in RUNS:
                given = ["--nothing-of-the-kind", *given]
            elif any("--url" in parameter.opts for parameter in command.params):
                given = ["--url", fake.url, *given]
            elif any("--data" in parameter.opts for parameter in command.params):
                given = ["--data", str(tmp_path / "none"), *given]
            code, err = run([*path, *given], ENCODINGS[round_ % 3], monkeypatch)

            shown = (path, [each[:60] for each in given], code, err[-2000:])
            assert code in CODES, shown
            assert "Traceback" not in err, shown
            assert "unexpected error" not in err, shown
    gc.collect()  # here, where connections that a process would close by its end are forgiven
