"""The page of the command line, made from what `--help` says; tools/reference.py writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from trackbook.cli.main import app

HEAD = """\
# The command line

Made from the code by `tools/reference.py`; `trackbook COMMAND --help` says the same.

A pipeline is given by its name or its id, its version 3 by `NAME@3`. An id may be shortened to any unique
prefix. Output goes to stdout, everything else to stderr. Exit codes: 0 done; 1 refused, failed, or something
is wrong; 2 bad usage; 130 Ctrl-C. With `--json`, the last line of stderr is the error as JSON:
`{"error": {"code", "message", "hint"?, …}}`, with `path`, `line` and `column` if a file is refused.
Output that can't be written (a full disk) is an error, reported on stderr; `run` and `job watch` still follow
their job to its end. Characters that the encoding of stdout lacks are escaped (`\\xe9`). An unexpected error
names its place in the code; `TRACKBOOK_TRACEBACK=1` prints the traceback.

Commands find the server by `--url` or `--data`, else by `TRACKBOOK_URL`, else by the data directory
(`TRACKBOOK_DATA`, or the user's own). Without a running server, a command that reads or edits opens the data
directory itself; `run` runs the whole system until the job has ended; `job start` requires a server. If the
server becomes unreachable, a command retries for half a minute.

Control characters in names, descriptions, errors and outputs are escaped (`\\x1b`), and those that change the
direction of writing too; `job logs --raw` and `files cat` print bytes as they are.

`trackbook --install-completion` installs shell completion of commands and, while a server runs, of pipeline names
and job ids.

Options that many commands share, and that the tables leave out:

| option | |
|---|---|
"""
_SHARED = ("--url", "--token-file", "--data", "--json")


def cli() -> str:
    """Return the page."""
    commands = list(_walk(typer.main.get_command(app), ()))
    shared = {option: parameter for _, each in commands for parameter in each.params for option in parameter.opts}
    rows = [_option(shared[option]) for option in _SHARED]
    return "".join([HEAD, *rows, *(_section(path, command) for path, command in commands)])


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    else:
        for name, inner in below.items():
            yield from _walk(inner, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    own = [one for one in options if one.opts[0] not in _SHARED]
    words = " ".join(["trackbook", *path])
    usage = " ".join([words, *(_usage(one) for one in arguments)])
    shared = ", ".join(f"`{one.opts[0]}`" for one in options if one.opts[0] in _SHARED)
    parts = [f"\n## {words}\n\n", _prose(command.help), f"\n`{usage}`", f" — also {shared}\n" if shared else "\n"]
    rows = [*(_argument(one) for one in arguments if one.help), *(_option(one) for one in own)]
    parts += ["\n| | |\n|---|---|\n", *rows] if rows else []
    examples, notes = _epilog(command.epilog or "")
    parts += ["\n```text\n", *examples, "```\n"] if examples else []
    return "".join([*parts, *(f"\n{note}\n" for note in notes)])


def _prose(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").strip().splitlines()) + "\n"


def _usage(argument: Any) -> str:
    word = _metavar(argument)
    return word if argument.required else f"[{word.strip('[]')}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.rstrip("_").upper())


def _argument(argument: Any) -> str:
    return f"| `{_metavar(argument)}` | {_cell(argument.help)} |\n"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" `{_metavar(option)}`"
    default = option.default
    said = f" Default: `{default}`." if isinstance(default, str | int) and not option.is_flag else ""
    many = " May be repeated." if option.multiple and "repeated" not in option.help else ""
    many += " Required." if option.required else ""
    return f"| {names}{value.replace('|', chr(92) + '|')} | {_cell(option.help)}{many}{said} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _epilog(text: str) -> tuple[list[str], list[str]]:
    """Return the example lines, and what else the epilog says."""
    examples: list[str] = []
    notes: list[str] = []
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith("trackbook"):
            examples.append(paragraph.strip() + "\n")
        elif line.rstrip(":") not in ("", "Example", "Examples"):
            notes.append(line)
    return examples, notes
