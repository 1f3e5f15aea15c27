"""The options of `trackbook pipeline edit`, turned into changes in the order in which they were given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from trackbook.cli import options
from trackbook.cli.errors import CliError
from trackbook.cli.quoting import take_name, whole_name

EPILOG = """Examples:

  trackbook pipeline edit train --set-var EPOCHS=5 --set evaluate.resources.cpu=4

  trackbook pipeline edit train --add-task 'report: python report.py' --add-dep report:evaluate

All options of one call become one version, in their order. Values are read as JSON where they are JSON
(5, true, ["a"]), as text otherwise; variables are always text. A name that contains the mark behind it, a colon
or a dot, is put in double quotes: --add-task '"a: b":python b.py'."""

SetVar = Annotated[
    list[str] | None, typer.Option("--set-var", metavar="K=V", help="Set a variable of all tasks.")
]
UnsetVar = Annotated[list[str] | None, typer.Option("--unset-var", metavar="K", help="Remove a variable.")]
AddTask = Annotated[
    list[str] | None,
    typer.Option("--add-task", metavar="NAME:COMMAND", help="Add a task; @FILE.json reads its mapping."),
]
RemoveTask = Annotated[
    list[str] | None,
    typer.Option("--remove-task", metavar="TASK", help="Remove a task that no other depends on."),
]
RenameTask = Annotated[list[str] | None, typer.Option("--rename-task", metavar="OLD:NEW", help="Rename a task.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TASK.PATH=VALUE", help="Set a setting of a task: train.resources.cpu=4."),
]
Unset = Annotated[list[str] | None, typer.Option("--unset", metavar="TASK.PATH", help="Remove a setting.")]
AddDep = Annotated[
    list[str] | None, typer.Option("--add-dep", metavar="TASK:DEP", help="Make TASK depend on DEP.")
]
RemoveDep = Annotated[
    list[str] | None, typer.Option("--remove-dep", metavar="TASK:DEP", help="Remove a dependency.")
]
Description = Annotated[str | None, typer.Option("--description", help="Describe the pipeline.")]

Change = dict[str, Any]
_OF_THE_SHELL = frozenset("=$'\"`\\(){}[]<>|&;#!/")
"""Characters before a colon that show that it belongs to a command."""


class InOrder(TyperCommand):
    """A command that remembers in which order its options were given; the parser alone groups them by name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and keep the order of the options for `changes`."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[__name__] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


def changes(context: typer.Context, given: Mapping[str, list[str] | str | None]) -> list[Change]:
    """Return the changes that the options ask for, in the order of the command line; raises bad usage."""
    waiting = {
        name: iter([values] if isinstance(values, str) else values) for name, values in given.items() if values
    }
    return [_MAKERS[name](next(waiting[name])) for name in context.meta[__name__] if name in waiting]


def _value(text: str) -> Any:
    """Read a value as JSON where it is JSON, as text otherwise."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _split(text: str, mark: str, option: str, form: str) -> tuple[str, str]:
    first, second, found = take_name(text, mark)
    if not (first and found and second):
        raise typer.BadParameter(f"{text!r} is not of the form {form}", param_hint=option)
    return first, second


def _names(text: str, option: str, form: str) -> tuple[str, str]:
    """Split NAME:NAME; a name with a colon has to be in quotes, or it would not be clear which is meant."""
    first, second = _split(text, ":", option, form)
    if ":" in second and not second.startswith('"'):
        raise typer.BadParameter(
            f"{text!r} has several colons; put a name that contains one in double quotes: '\"a:b\":c'",
            param_hint=option,
        )
    return first, whole_name(second)


def _refuse_two_readings(text: str, name: str, command: str) -> None:
    """Refuse `x: y:cmd`: no program is called `y:cmd`, so that the task may be meant to be called `x: y`.

    Colons further on belong to commands (`curl http://…`), as do those of the shell (`A=b:c`, `${A:-b}`, `:`).
    """
    word = command.split(maxsplit=1)[0] if command.strip() else ""
    more, colon, _ = word.partition(":")
    if text.startswith('"') or not (more and colon) or set(more) & _OF_THE_SHELL:
        return
    place = text.index(":", text.index(word, len(name) + 1))
    readings = ((name, command), (text[:place], text[place + 1 :]))
    spelled = [
        shlex.quote(f"{json.dumps(each.strip(), ensure_ascii=False)}:{rest.strip()}")
        for each, rest in readings
        if rest.strip()
    ]
    raise typer.BadParameter(
        f"{text!r} has several colons; put the task's name in double quotes: {' or '.join(spelled)}",
        param_hint="--add-task",
    )


def _add_task(text: str) -> Change:
    if not text.startswith("@"):
        name, command = _split(text, ":", "--add-task", "NAME:COMMAND or @FILE.json")
        _refuse_two_readings(text, name, command)
        return {"op": "add_task", "task": {"name": name.strip(), "command": command.strip()}}
    source, file = options.read_source(text[1:])
    try:
        task = json.loads(source)
    except ValueError as error:
        raise CliError(f"{file} is not JSON: {error}") from None
    return {"op": "add_task", "task": task}


def _set_var(text: str) -> Change:
    variable, value = next(iter(options.pairs([text], "--set-var").items()))
    return {"op": "set_variable", "variable": variable, "value": value}


def _setting(text: str, option: str) -> tuple[str, str]:
    """Split TASK.PATH; a task whose name has dots is written in quotes: '"a.b".command'."""
    task, path, _ = take_name(text, ".")
    if not (task and path):
        raise typer.BadParameter(f"{text!r} is not of the form TASK.PATH", param_hint=option)
    return task, path


def _set(text: str) -> Change:
    task, rest, _ = take_name(text, ".")
    path, equals, value = rest.partition("=")
    if not (task and path and equals and value):
        raise typer.BadParameter(f"{text!r} is not of the form TASK.PATH=VALUE", param_hint="--set")
    return {"op": "change_task", "task": task, "set": {path: _value(value)}}


def _unset(text: str) -> Change:
    task, path = _setting(text, "--unset")
    return {"op": "change_task", "task": task, "unset": [path]}


def _dependency(op: str, option: str) -> Callable[[str], Change]:
    def change(text: str) -> Change:
        task, dependency = _names(text, option, "TASK:DEPENDENCY")
        return {"op": op, "task": task, "dependency": dependency}

    return change


def _rename_task(text: str) -> Change:
    old, new = _names(text, "--rename-task", "OLD:NEW")
    return {"op": "rename_task", "task": old, "name": new}


_MAKERS: dict[str, Callable[[str], Change]] = {
    "set_var": _set_var,
    "unset_var": lambda text: {"op": "unset_variable", "variable": text},
    "add_task": _add_task,
    "remove_task": lambda text: {"op": "remove_task", "task": text},
    "rename_task": _rename_task,
    "set_": _set,
    "unset": _unset,
    "add_dep": _dependency("add_dependency", "--add-dep"),
    "remove_dep": _dependency("remove_dependency", "--remove-dep"),
    "description": lambda text: {"op": "set_setting", "path": "description", "value": text},
}
