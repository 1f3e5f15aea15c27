"""`pipeline edit`: options become changes in the order in which they were typed, or bad usage is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from cli_server import Answer, serving
from typer.testing import CliRunner

from trackbook.cli.errors import Rejected
from trackbook.cli.main import app
from trackbook.cli.quoting import spell_name, take_name
from trackbook.engine.edits import Change

EDIT = "POST /api/commands/pipeline/edit"
ACCEPTED = {"command_id": "c", "status": "accepted", "seq": 3, "name": "train", "version": 2, "changes": ["x"]}


def edited(*arguments: str) -> list[dict[str, Any]]:
    """Return the changes that `pipeline edit train …` asks for."""
    with serving({EDIT: ACCEPTED}) as fake:
        result = CliRunner().invoke(app, ["pipeline", "edit", "train", *arguments, "--url", fake.url, "--json"])
    assert result.exit_code == 0, result.output
    body = fake.asked[0].body
    msgspec.convert(body["changes"], list[Change])
    return list(body["changes"])


def test_changes_keep_the_order_of_the_options() -> None:
    """Different options may be mixed: a task is added before something depends on it."""
    changes = edited(
        "--add-task", "report:python report.py", "--set-var", "EPOCHS=5", "--add-dep", "report:train",
        "--add-task", "tidy: rm -r /tmp/x", "--remove-dep", "evaluate:train", "--set-var", "LR=0.1",
        "--remove-task", "old", "--unset-var", "SEED", "--rename-task", "evaluate:judge", "--description", "new",
    )  # fmt: skip

    assert changes == [
        {"op": "add_task", "task": {"name": "report", "command": "python report.py"}},
        {"op": "set_variable", "variable": "EPOCHS", "value": "5"},
        {"op": "add_dependency", "task": "report", "dependency": "train"},
        {"op": "add_task", "task": {"name": "tidy", "command": "rm -r /tmp/x"}},
        {"op": "remove_dependency", "task": "evaluate", "dependency": "train"},
        {"op": "set_variable", "variable": "LR", "value": "0.1"},
        {"op": "remove_task", "task": "old"},
        {"op": "unset_variable", "variable": "SEED"},
        {"op": "rename_task", "task": "evaluate", "name": "judge"},
        {"op": "set_setting", "path": "description", "value": "new"},
    ]


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("train.resources.cpu=4", {"task": "train", "set": {"resources.cpu": 4}}),
        ("train.skip=true", {"task": "train", "set": {"skip": True}}),
        ("train.command=echo a=b", {"task": "train", "set": {"command": "echo a=b"}}),
        ('"ALIGN.SORT_7".mounts=["data"]', {"task": "ALIGN.SORT_7", "set": {"mounts": ["data"]}}),
        (
            'train.resources["cuda.shares"]=1.5',
            {"task": "train", "set": {'resources["cuda.shares"]': 1.5}},
        ),
    ],
)
def test_settings_are_set_by_task_and_path(text: str, change: dict[str, Any]) -> None:
    """Values are JSON where they are JSON; a task's name that has dots stands in quotes."""
    assert edited("--set", text) == [{"op": "change_task", **change}]


def test_settings_are_unset_by_task_and_path() -> None:
    """What was set can be taken away again."""
    changes = edited("--unset", "train.resources.cpu")

    assert changes == [{"op": "change_task", "task": "train", "unset": ["resources.cpu"]}]


def test_a_whole_task_is_read_from_a_file(tmp_path: Path) -> None:
    """A task with more than a command comes from a file."""
    task = {"name": "report", "command": "x", "resources": {"cpu": 2}}
    file = tmp_path / "task.json"
    file.write_text(json.dumps(task))

    assert edited("--add-task", f"@{file}") == [{"op": "add_task", "task": task}]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--set-var", "EPOCHS"),
        ("--set", "train=4"),
        ("--set", "train.cpu"),
        ("--add-dep", "report"),
        ("--rename-task", "old:"),
        ("--add-task", "report"),
        ("--no-such-option",),
    ],
)
def test_bad_usage_is_exit_code_2_and_asks_the_server_nothing(arguments: tuple[str, ...]) -> None:
    """A typing error changes nothing, and is distinguished from a refusal."""
    with serving({}) as fake:
        result = CliRunner().invoke(app, ["pipeline", "edit", "train", *arguments, "--url", fake.url])

    assert result.exit_code == 2
    assert fake.asked == []


def test_names_with_colons_are_put_in_quotes() -> None:
    """Every option can name every task: what is in double quotes is the name, as in JSON."""
    changes = edited(
        "--add-task", '"x: y":cmd a:b', "--rename-task", '"x: y":z', "--rename-task", 'z:"x:z"',
        "--add-dep", '"x:z":"a:b"', "--remove-dep", 'a:"x:z"', "--set", '"a=b.c:d".skip=true',
        "--unset", '"say \\"hi\\"".mounts', "--remove-task", "x:z",
    )  # fmt: skip

    assert changes == [
        {"op": "add_task", "task": {"name": "x: y", "command": "cmd a:b"}},
        {"op": "rename_task", "task": "x: y", "name": "z"},
        {"op": "rename_task", "task": "z", "name": "x:z"},
        {"op": "add_dependency", "task": "x:z", "dependency": "a:b"},
        {"op": "remove_dependency", "task": "a", "dependency": "x:z"},
        {"op": "change_task", "task": "a=b.c:d", "set": {"skip": True}},
        {"op": "change_task", "task": 'say "hi"', "unset": ["mounts"]},
        {"op": "remove_task", "task": "x:z"},
    ]


@pytest.mark.parametrize("option", ["--rename-task", "--add-dep", "--remove-dep"])
def test_two_names_with_an_unquoted_colon_are_bad_usage(option: str) -> None:
    """Which of the colons separates them can't be known, so nothing is changed."""
    with serving({EDIT: ACCEPTED}) as fake:
        result = CliRunner().invoke(app, ["pipeline", "edit", "train", option, "x: y:z", "--url", fake.url])

    assert result.exit_code == 2
    assert "double quotes" in result.stderr
    assert fake.asked == []


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("x: y:cmd --now", ("'\"x\":y:cmd --now'", "'\"x: y\":cmd --now'")),
        ("a:b:c", ("'\"a\":b:c'", "'\"a:b\":c'")),
        ("x: y:", ("'\"x\":y:'",)),
    ],
)
def test_a_task_whose_name_may_have_a_colon_is_not_added(text: str, readings: tuple[str, ...]) -> None:
    """A name is never cut at a colon of its own; the refusal spells both readings, ready to be typed."""
    with serving({EDIT: ACCEPTED}) as fake:
        result = CliRunner().invoke(app, ["pipeline", "edit", "train", "--add-task", text, "--url", fake.url])

    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert all(reading in said for reading in readings), said
    assert fake.asked == []


@pytest.mark.parametrize(
    "command",
    [
        "curl http://host:80/x",
        "docker run -v a:b x",
        "PATH=/a:/b run",
        "${PY:-python} x",
        ": done",
        "/opt/a:b/run",
    ],
)
def test_colons_of_commands_need_no_quotes(command: str) -> None:
    """A command may have colons where no name could end."""
    assert edited("--add-task", f"fetch: {command}") == [
        {"op": "add_task", "task": {"name": "fetch", "command": command}}
    ]


def test_an_unknown_pipeline_whose_name_may_have_a_colon_is_explained() -> None:
    """`files list 'x: y'` asks for the pipeline `x`; the refusal says how to name `x: y`."""
    refusal = Answer({"error": {"code": "pipeline_not_found", "message": "there is no pipeline 'x'"}}, 404)
    with serving({"GET /api/pipelines/x/files": refusal}) as fake:
        result = CliRunner().invoke(app, ["files", "list", "x: y", "--url", fake.url])

    assert isinstance(result.exception, Rejected)
    assert "double quotes" in result.exception.lines()[-1]


@pytest.mark.parametrize("name", ["train", "a:b", "x: y", '"quoted"', 'say "hi": now', "back\\slash:x", "학습:1"])
def test_files_of_every_pipeline_can_be_named(name: str) -> None:
    """What `spell_name` prints is read as the same name, and paths may contain colons."""
    ref = f"{spell_name(name, ':')}:logs/a:b.txt"

    assert take_name(ref, ":") == (name, "logs/a:b.txt", True)
    with serving({f"GET /api/pipelines/{quote(name, safe='')}/files": {"items": [], "next": None}}) as fake:
        result = CliRunner().invoke(app, ["files", "list", ref, "--url", fake.url])
    assert result.exit_code == 0, result.output
    assert "path=logs%2Fa%3Ab.txt" in fake.asked[0].query
