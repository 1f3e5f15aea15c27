"""The variables of a run: their form is checked, and those that nothing uses are pointed out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from office import opened
from pipeline_stories import pipeline, task

from trackbook.cli import options
from trackbook.engine import definition
from trackbook.engine.errors import Refused
from trackbook.engine.fields import VALUE_LIMIT
from trackbook.engine.parameters import refuse_malformed, unused

CONTENT = pipeline(
    {**task("greet"), "command": 'echo "$GREETING" ${WHOM}', "environment": {"envs": {"LEVEL": "$DEPTH"}}},
    {**task("train"), "command": "python -c 'import os; print(os.environ[\"RATE\"])'"},
    {**task("later"), "command": 'echo "$NEVER"', "skip": True},
    environment={"envs": {"EPOCHS": 3}},
)
GREETER = """\
name: greeter
tasks:
- {name: greet, command: 'echo "$GREETING"'}
"""


@pytest.mark.parametrize("name", ["1X", "A B", "", "a-b", "A.B", "É"])
def test_a_name_that_no_shell_can_say_is_refused(name: str) -> None:
    """With the place of the parameter."""
    with pytest.raises(Refused) as caught:
        refuse_malformed({"FINE": "1", name: "3"})

    assert caught.value.code == "bad_parameter"
    assert caught.value.path == (f"parameters.{name}" if name == "a-b" else f'parameters["{name}"]')


@pytest.mark.parametrize("value", ["a\0b", "x" * VALUE_LIMIT])
def test_a_value_that_no_process_can_be_given_is_refused(value: str) -> None:
    """A NUL, or more than the kernel passes on."""
    with pytest.raises(Refused, match="NUL"):
        refuse_malformed({"A": value})


@pytest.mark.parametrize("name", ["EPOCHS", "GREETING", "WHOM", "LEVEL", "DEPTH", "RATE"])
def test_what_a_task_mentions_is_used(name: str) -> None:
    """As a variable, in a command however it is quoted, or in a variable's value."""
    assert unused({name: "1"}, list(definition.tasks(CONTENT).values())) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GREETNG", "did you mean 'GREETING'?"),
        ("EPOCH", "did you mean 'EPOCHS'?"),
        ("ZZZ", "is it spelled right?"),
        ("NEVER", "no task mentions"),
    ],
)
def test_what_nothing_uses_is_warned_about(name: str, says: str) -> None:
    """A slip is pointed out; what a skipped task alone mentions is not used either."""
    [warning] = unused({name: "1"}, list(definition.tasks(CONTENT).values()))

    assert (warning.code, repr(name) in warning.message) == ("unused_parameter", True)
    assert says in warning.message


def test_what_the_system_sets_itself_is_warned_about() -> None:
    """The parameter would have no effect."""
    [warning] = unused({"TRACKBOOK_TASK": "x"}, list(definition.tasks(CONTENT).values()))

    assert warning.code == "variable_overridden"


def test_hundreds_of_unused_parameters_are_counted() -> None:
    """The first ones are named."""
    warned = unused({f"A{n}": "" for n in range(300)}, list(definition.tasks(CONTENT).values()))

    assert len(warned) == 21
    assert warned[-1].message.startswith("280 more")


@pytest.mark.parametrize("given", ["1X=3", "A B=3", "=3", "A"])
def test_the_command_line_refuses_a_bad_form_as_bad_usage(given: str) -> None:
    """Before anything is sent anywhere."""
    with pytest.raises(typer.BadParameter):
        options.parameters([given])


async def test_a_start_and_a_check_say_the_same_of_parameters(tmp_path: Path) -> None:
    """Both refuse a bad name, and both warn about one that nothing uses; what is refused starts nothing."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=GREETER)
    bad: dict[str, Any] = {"pipeline": "greeter", "parameters": {"1X": "3"}}
    slip: dict[str, Any] = {"pipeline": "greeter", "parameters": {"GREETNG": "hi"}}

    refused = [await office.ask(command, **bad) for command in ("job.start", "job.check")]
    jobs = office.kinds().count("job")
    warned = [await office.must(command, **slip) for command in ("job.start", "job.check")]
    await office.close()

    assert [reply["error"]["code"] for reply in refused] == ["bad_parameter"] * 2
    assert jobs == 0
    assert [[w["code"] for w in reply["warnings"]] for reply in warned] == [["unused_parameter"]] * 2


async def test_a_check_can_ask_no_executor(tmp_path: Path) -> None:
    """`offline` looks at the definition alone, and still refuses what a start would refuse."""
    office = await opened(tmp_path)
    serving = "name: s\ntasks:\n- {name: a, type: serving}\n"

    fine = await office.must("job.check", yaml=GREETER, offline=True)
    refused = await office.ask("job.check", yaml=serving, offline=True)
    await office.close()

    assert (fine["ok"], fine["findings"]) == (True, [])
    assert refused["error"]["code"] == "serving_unsupported"
