"""The command line. Its modules import what a command needs only when it runs: starting must stay quick."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from trackbook import __version__
from trackbook.cli.command_table import RootGroup
from trackbook.cli.terminal.error_messages import describe
from trackbook.cli.terminal.error_report import report
from trackbook.cli.terminal.escapes import escaping_output
from trackbook.cli.terminal.streams import OutputLost, output_lost, say

app = typer.Typer(
    cls=RootGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run pipelines of tasks. Every edit and every transition is an event on a log.",
    epilog="Examples:\n\n  trackbook init\n\n  trackbook run train.yaml\n\n  trackbook up\n\n"
    "  trackbook job list\n\nIf something is wrong: trackbook doctor",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"trackbook {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version
    context.with_resource(escaping_output())


def _fill_standard_streams() -> None:
    """Open /dev/null for standard streams that are closed.

    Else a file that is opened later gets the descriptor, and what is printed, also by children, ends up in it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(descriptor)  # it is ours if it was free, or a library's
        except OSError:
            nowhere = os.dup2(nowhere, descriptor)
        os.set_inheritable(nowhere, nowhere == descriptor)
        setattr(sys, name, os.fdopen(nowhere, "w" if descriptor else "r", encoding="utf-8", closefd=False))


def _escape_what_cannot_be_encoded() -> None:
    """Show what the encoding of the terminal lacks as an escape, such as `\\xe9`, and not an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def main() -> None:
    """Run the command line; errors go to stderr with exit code 1, bad usage with 2, Ctrl-C is 130."""
    _fill_standard_streams()
    _escape_what_cannot_be_encoded()
    with escaping_output():
        code = _run()
        lost = output_lost()
        if lost is not None:
            code = code or 1
            if not lost.reader_gone:
                say("\n".join(lost.lines()))
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code; an error is printed."""
    try:
        code = app(prog_name="trackbook", standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except typer.Abort:
        report(["trackbook: aborted"], "aborted")
        return 1
    except _BadCall as bad:
        if lines := _usage_lines(bad):
            report(lines, "bad_usage")
        return int(getattr(bad, "exit_code", 1))
    except OutputLost:
        return 0  # said once, by main
    except Exception as problem:
        report(describe(problem), problem=problem)
        return 1
    return code if isinstance(code, int) else 0


_BadCall: type[Exception] = typer.BadParameter.__mro__[2]
"""The base of all errors in how a command is called, which typer does not export."""


def _usage_lines(bad: Any) -> list[str]:
    """Return what is wrong with a call, how it is meant, and where to read more."""
    context = getattr(bad, "ctx", None)
    message = bad.format_message()
    if not message or context is None:
        return [f"trackbook: {message}"] if message else []
    return [
        f"trackbook: {message}",
        f"  {' '.join(context.get_usage().split())}",
        f"  `{context.command_path} --help` shows more.",
    ]
