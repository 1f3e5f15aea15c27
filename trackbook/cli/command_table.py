"""The commands of `trackbook`. The module of each is imported when it is called or explained, not before.

Importing all of them takes several times as long as most of them run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Entry(NamedTuple):
    """A command in the list of `trackbook --help`: its module, and the first paragraph of its own help."""

    module: str
    summary: str


ENTRIES = {
    "run": Entry("run", "Apply a pipeline, run it, and watch it to its end."),
    "up": Entry(
        "up",
        "Run the whole system: broker, engine, executor and HTTP.",
    ),
    "serve": Entry(
        "up", "Run only some roles of the system in this process (TRACKBOOK_NATS_URL names the broker)."
    ),
    "down": Entry("down", "Stop the server of a data directory, and wait until it has exited."),
    "init": Entry(
        "pipeline_file",
        "Write an example pipeline, pipeline.yaml. An existing file is never overwritten.",
    ),
    "validate": Entry(
        "pipeline_file", "Check a pipeline's file without a server: YAML, keys, values, names and dependencies."
    ),
    "pipeline": Entry("pipeline", "Pipelines and their versions."),
    "job": Entry("job_events", "Jobs: runs of pipelines."),
    "files": Entry("files", "Files of pipelines: their shared folders and the outputs of tasks."),
    "audit": Entry("audit", "Who did what, and whether the log is intact."),
    "replay": Entry("audit", "Replay a stored history with the current code, and compare the decisions."),
    "projection": Entry("audit", "Read models, which are built from the log."),
    "log": Entry("log", "The log itself: its state, evidence of loss, and how to continue after a loss."),
    "quarantine": Entry("quarantine", "Damaged histories: neither shown nor changed; everything else continues."),
    "backup": Entry(
        "backup",
        "Write a backup of all pipelines, jobs and their histories into one file, while the system runs.",
    ),
    "restore": Entry(
        "backup",
        "Create a data directory from a backup, or check the backup. A damaged backup is refused.",
    ),
    "doctor": Entry(
        "doctor", "Check everything that Trackbook needs; exit code 1 if something would keep it from working."
    ),
    "asyncapi": Entry(
        "audit", "Print the AsyncAPI document of the NATS interface: commands, replies, live commits."
    ),
}


def summary_of(command: Any) -> str:
    """Return the first paragraph of a command's help, on one line."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


class CommandGroup(TyperGroup):
    """A group that lists its commands with the whole first paragraph of their help, wrapped and not cut off."""

    def summaries(self) -> list[tuple[str, str]]:
        """Return the name and the summary of each command."""
        return [(name, summary_of(command)) for name, command in self.commands.items()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the help where no command is given: bad usage, exit code 2."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries())


class RootGroup(CommandGroup):
    """The group of all commands, which imports only those that are asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": _LazyCommands()})

    def summaries(self) -> list[tuple[str, str]]:
        """Return the name and the summary of each command, none of which is imported."""
        return [(name, entry.summary) for name, entry in ENTRIES.items()]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, none of which is imported."""
        del ctx
        return list(self.commands)


class _LazyCommands(MutableMapping[str, Any]):
    """Commands by name. One is imported and made when it is read."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _load(name, ENTRIES[name].module)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


def _load(name: str, module: str) -> Any:
    """Return the command of this name that the `app` of a module is or holds."""
    group = get_group(import_module(f"trackbook.cli.commands.{module}").app)
    gc.enable()  # entry.py switched it off for the imports
    return group if group.name == name else group.commands[name]


def command_group(name: str, summary: str) -> typer.Typer:
    """Return a group to which a module adds its commands; without a command it prints its help."""
    return typer.Typer(name=name, cls=CommandGroup, rich_markup_mode=None, help=summary)


def commands() -> typer.Typer:
    """Return what a module adds top-level commands to."""
    return typer.Typer(rich_markup_mode=None)
