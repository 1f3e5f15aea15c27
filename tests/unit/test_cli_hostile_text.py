"""Text of others never reaches the terminal as anything but text."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from cli_server import CONTROL, Answer, Asked, FakeServer, end_rows, event_row, frame, job_row, serving, task_row
from rich.console import Console

from trackbook.cli import main
from trackbook.cli.commands import doctor
from trackbook.cli.commands.doctor_check import Check
from trackbook.cli.terminal.escapes import escape, escaping_output
from trackbook.cli.terminal.formatting import style_text
from trackbook.cli.watch.live_view import LiveView
from trackbook.cli.watch.progress import progress_of
from trackbook.runtime.process import log_output

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31mred\u202etxt.exe\u2066\rfake\x08\x7f\u2028end"
JOB = "1f2e3d4c5b6a7988"
NOON = "2026-01-31T12:00:00.000000Z"

PIPELINE = {
    "id": "aaaabbbbccccdddd", "name": EVIL, "description": EVIL, "version": 3, "versions": 3, "state": "active",
    "created_at": NOON, "updated_at": NOON, "actor": EVIL, "seq": 3, "problem": EVIL,
    "tasks": 1, "executor": EVIL,
}  # fmt: skip
VERSION = {
    "version": 3, "created_at": NOON, "at": NOON, "actor": EVIL, "changes": [EVIL],
    "summary": [EVIL], "content": {"name": EVIL, "description": EVIL, "tasks": [{"name": EVIL, "command": EVIL}]},
    "definition": EVIL, "seq": 3, "types": [EVIL], "pipeline": "aaaabbbbccccdddd", "tasks": 1, "text": [EVIL],
}  # fmt: skip
REPLY = {
    "command_id": "c", "status": "accepted", "seq": 9, "pipeline": "aaaabbbbccccdddd", "name": EVIL, "version": 2,
    "changes": [EVIL], "job": JOB, "ok": True, "removed": [],
    "warnings": [{"code": "c", "message": EVIL, "path": EVIL}], "summary": {"tasks": 2, "images": [EVIL]},
    "findings": [
        {"what": EVIL, "found": EVIL, "verdict": "warn", "hint": EVIL, "task": EVIL, "executor": EVIL},
    ],
}  # fmt: skip
REFUSAL = {
    "command_id": "c", "status": "rejected",
    "error": {
        "code": EVIL, "message": EVIL, "path": EVIL, "hint": EVIL, "others": [{"code": EVIL, "message": EVIL}],
    },
}  # fmt: skip
EVENTS = [
    event_row("TaskStarted", 8, 0, 1, task=EVIL, attempt=1),
    event_row("TaskStatusReported", 8, 1, 1, task=EVIL, attempt=1, status=EVIL, message=EVIL),
    *end_rows("Failed", 9, 0, 2, task=EVIL, error={"message": EVIL, "tail": EVIL, "fault": EVIL}),
    event_row("JobFailed", 9, 2, 2, task=EVIL, error={"message": EVIL}) | {"actor": EVIL},
]
FOLDER = {"executor": EVIL, "name": EVIL, "state": "unavailable", "message": EVIL, "path": EVIL, "host": EVIL}
ENTRY = {"name": EVIL, "path": EVIL, "type": "file", "size": 3, "modified_at": NOON}


def task() -> dict[str, Any]:
    """Return a task of which everything is hostile."""
    return task_row(EVIL, state="failed", error=EVIL, executor_status=EVIL, executor_message=EVIL, tail=EVIL,
                    link=EVIL, finished_at=NOON, started_at=NOON, executor=EVIL)  # fmt: skip


def job() -> dict[str, Any]:
    """Return a job that failed, with such a task."""
    return job_row(
        pipeline_name=EVIL, state="failed", error=EVIL, failed_task=EVIL, tail=EVIL * 3, reason=EVIL, actor=EVIL,
        executor=EVIL, parameters={EVIL: EVIL}, finished_at=NOON, problem=EVIL,
    )  # fmt: skip


DIVERGENCE = {
    "seq": 4, "version": 2, "index": 0, "problem": EVIL, "expected": {EVIL: EVIL}, "actual": EVIL,
}  # fmt: skip
AUDIT = {
    "seq": 3, "at": NOON, "actors": [EVIL], "kind": EVIL, "aggregate_id": EVIL, "version": 1, "types": [EVIL],
}  # fmt: skip
VERIFIED = {
    "ok": False, "commits": 1, "aggregates": 1, "events": 1, "witnessed": 1,
    "defects": [{"seq": 1, "aggregate": EVIL, "version": 1, "problem": EVIL}],
}  # fmt: skip
FAULT = {
    "kind": "job", "id": EVIL, "aggregate_id": EVIL, "seq": 3, "through": 3, "version": 2, "sha256": EVIL,
    "reason": EVIL, "data": EVIL,
}  # fmt: skip
LOG = {
    "head": 3, "witness": {"seq": 4, "sha256": EVIL}, "dismissed": 1, "faults": [FAULT],
    "evidence": [{"id": EVIL, "message": EVIL}], "accepted": [{"id": EVIL, "message": EVIL}],
}  # fmt: skip
STREAM = "".join(frame(f"{event['seq']}.{event['index']}", event["type"], event) for event in EVENTS)
LISTS = {
    "pipelines": PIPELINE, "versions": VERSION, "files": ENTRY, "folders": FOLDER, "executors": {"name": EVIL},
    "audit": AUDIT, "events": EVENTS[0], "quarantine": FAULT,
}  # fmt: skip
ANSWERS: tuple[tuple[str, Callable[[], Any]], ...] = (
    (r"/api/events", lambda: Answer(text=STREAM)),
    (r".*/(yaml|logs|content)", lambda: Answer(text=EVIL + "\n")),
    (r"/api/audit/verify", lambda: VERIFIED),
    (r"/api/log", lambda: LOG),
    (r"/api/quarantine/.*", lambda: {"kind": "job", "id": EVIL, "version": 1, "faults": [FAULT]}),
    (r".*/replay", lambda: {"job": JOB, "commits": 3, "events": 5, "divergence": DIVERGENCE}),
    (
        r"/api/projection/rebuild",
        lambda: {"checkpoint": 3, "head": 3},
    ),
    (r".*/at/.*", lambda: {"version": 7, "index": 0, "at": NOON, "job": job(), "tasks": [task()]}),
    (r".*/diff", lambda: {"changes": [{"type": "TaskChanged", "text": EVIL}]}),
    (r".*/versions/\d+", lambda: VERSION),
    (r".*/tasks", lambda: {"items": [task()], "next": None}),
    (r".*/jobs", lambda: {"items": [job()], "next": None}),
    (r".*/tasks/.*", task),
    (r".*/folder", lambda: FOLDER),
    (r".*/jobs/.*", job),
)


def answer(asked: Asked) -> Any:
    """Answer whatever is asked with hostile text."""
    if asked.method == "POST" and "/api/commands/" in asked.path:
        return REPLY
    last = asked.path.rpartition("/")[2]
    if last in LISTS and asked.path != "/api/events":
        return {"items": [LISTS[last]], "next": None}
    return next((made() for pattern, made in ANSWERS if re.fullmatch(pattern, asked.path)), PIPELINE)


class Anything(FakeServer):
    """Answers everything; every command is refused with `refuses`."""

    refuses = False

    def answer(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        if self.refuses:
            return Answer(REFUSAL if "/api/commands/" in asked.path else {"error": REFUSAL["error"]}, 409)
        found = answer(asked)
        return found if isinstance(found, Answer) else Answer(found)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that says nothing but hostile things."""
    monkeypatch.setattr("cli_server.FakeServer", Anything)
    with serving({}) as server:
        yield server


COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("{file}", "--unchecked"),
    "doctor": (),
    "pipeline apply": ("{file}",),
    "pipeline create": (EVIL,),
    "pipeline edit": ("p", "--description", EVIL),
    "pipeline list": (),
    "pipeline show": ("p",),
    "pipeline yaml": ("p",),
    "pipeline versions": ("p",),
    "pipeline diff": ("p@1", "p@2"),
    "pipeline restore": ("p@1",),
    "pipeline rename": ("p", EVIL),
    "pipeline delete": (EVIL, "--yes"),
    "job start": ("p", "--watch"),
    "job list": (),
    "job show": (JOB,),
    "job watch": (JOB,),
    "job cancel": (JOB,),
    "job pause": (JOB,),
    "job resume": (JOB,),
    "job logs": (JOB, EVIL),
    "job events": (JOB,),
    "files list": ("p:", "--long", "--recursive"),
    "files get": (f"p:{EVIL}", "{folder}/got"),
    "files put": ("{file}", f"p:{EVIL}/"),
    "files remove": (f"p:{EVIL}",),
    "files create": (EVIL,),
    "audit log": (),
    "audit verify": (),
    "replay job": (JOB,),
    "projection rebuild": (),
    "log status": (),
    "log accept-loss": ("--yes",),
    "quarantine list": (),
    "quarantine show": (f"job/{EVIL}",),
    "quarantine release": (f"job/{EVIL}", "--yes"),
}
"""How each command is called."""
EXCEPTIONS = {
    "up": "runs until it is stopped; what it logs is tried below",
    "serve": "as `up`",
    "down": "prints a path and a number of this machine",
    "asyncapi": "prints a document of ours",
    "init": "writes a file of ours where the caller says",
    "validate": "asks no server; tried below",
    "backup": "copies a server's bytes into a file; it prints numbers of the manifest, which has types",
    "restore": "asks no server; hostile files are tried in test_backup_file.py",
    "files cat": "copies a file's bytes as they are",
}


def test_every_command_is_tried() -> None:
    """A new command is walked here too."""

    def walk(command: Any, before: str = "") -> Iterator[str]:
        for name, below in command.commands.items():
            if hasattr(below, "commands"):
                yield from walk(below, f"{before}{name} ")
            else:
                yield before + name

    assert set(walk(typer.main.get_command(main.app))) == COMMANDS.keys() | EXCEPTIONS.keys()


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the real entry point."""
    monkeypatch.setattr("sys.argv", ["trackbook", *arguments])
    try:
        main.main()
    except SystemExit:
        return


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the process would end here
@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_control_characters(
    fake: Anything,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    as_json: bool,
    refuses: bool,
) -> None:
    """Names, descriptions, outputs and errors are shown with what a terminal would act on escaped."""
    if command == "doctor":
        monkeypatch.setattr(doctor, "_LOOKS", (lambda _: iter([Check(EVIL, EVIL, "fail", EVIL)]),))
        monkeypatch.setattr(
            "trackbook.cli.commands.doctor_executors.executors", lambda _: iter([Check(EVIL, EVIL)])
        )
    fake.refuses = refuses
    file = tmp_path / "p.yaml"
    file.write_text("name: p\ntasks:\n- {name: a, command: 'true'}\n")
    filled = {"{file}": str(file), "{folder}/got": str(tmp_path / "got")}
    arguments = [filled.get(part, part) for part in COMMANDS[command]]
    json_too = ["--json"] if as_json and command != "pipeline yaml" else []
    url = ["--url", fake.url]

    call([*command.split(), *arguments, *json_too, *url], monkeypatch)

    out, err = capsys.readouterr()
    assert out or err
    assert "end" in out + err or command in {"projection rebuild", "job cancel", "job pause", "job resume"}
    assert not CONTROL.search(out), out
    assert not CONTROL.search(err), err
    if json_too and out and command != "job watch":
        json.loads(out)


def test_validate_prints_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file from somewhere else is checked safely."""
    file = tmp_path / "p.yaml"
    file.write_text(json.dumps({"name": EVIL, EVIL: EVIL, "tasks": [{"name": EVIL, "command": EVIL, EVIL: 1}]}))

    call(["validate", str(file)], monkeypatch)

    printed = "".join(capsys.readouterr())
    assert printed
    assert not CONTROL.search(printed)


def test_our_own_colours_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, colours of ours arrive and those of others don't."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with escaping_output():
        print(style_text(f"good {EVIL}", "green"), "\x1b[31mred")

    assert terminal.getvalue() == f"\x1b[32mgood {escape(EVIL)}\x1b[0m \\x1b[31mred\n"


def test_the_live_table_is_safe() -> None:
    """What rich draws has the names and causes of others escaped."""
    console = Console(file=io.StringIO(), force_terminal=True, width=300, color_system=None)
    view = LiveView(progress_of(job() | {"state": "running"}, [task()]), console)
    view.note(EVIL)
    console.print(view.render())

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "owned" in drawn
    assert not CONTROL.search(re.sub(r"\x1b\[[0-9;]*m", "", drawn))


def test_the_log_of_a_server_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` and `serve` log the names and errors of others, by our logger and by that of libraries."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log_output.configure()
        structlog.get_logger("t").warning(f"odd {EVIL}", name=EVIL)
        logging.getLogger("library").warning("odd %s", EVIL)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()

    assert stream.getvalue().count("owned") == 3
    assert not CONTROL.search(stream.getvalue())
